//! Batch norm fused with ReLU, residual add and max pooling, on the CPU.
//!
//! Work is split by image, whatever the number of threads, so that the bits do not depend on it.

mod backward;
mod finish;
mod forward;
mod period;
mod statistics;

use std::ops::Range;

use super::{Groups, Norm, NormBackward, NormForward, NormOps, ResidualGradient, StatisticsOf};
use crate::device::scratch::{bytes, take};
use crate::device::{Cpu, Error, Place, Scratch};
use crate::ops::flat::Work;

impl NormOps for Cpu {
    fn norm_scratch(norm: &Norm, work: Work) -> Scratch {
        let batch = forward::scratch(norm, Groups::Batch).max(finish::batch_scratch(norm));
        let images = forward::scratch(norm, Groups::EachImage).max(finish::images_scratch(norm));
        let elements = match work {
            Work::Train => batch,
            Work::Score => images,
        };
        Scratch { shared: bytes::<f32>(elements), ..Scratch::default() }
    }

    fn norm_statistics(
        &mut self,
        norm: &Norm,
        of: StatisticsOf<Self>,
        to: &mut Vec<f32>,
        at: Range<usize>,
    ) -> Result<(), Error> {
        match of {
            StatisticsOf::Batch { sums, running } => {
                let (sums, count) = (&sums[at.clone()], norm.n * norm.h * norm.w);
                self.watch(sums.iter().all(|v| v.is_finite()), Place::Forward(at.start));
                statistics::of_sums(count, sums, &mut to[at.clone()], &mut running[at]);
            }
            StatisticsOf::Running { running, from, groups } => {
                for to in to[at][..groups.statistics(norm)].chunks_exact_mut(2 * norm.c) {
                    statistics::of_running(&running[from.clone()], to);
                }
            }
            StatisticsOf::EachImage { x } => {
                statistics::of_images(norm, x, &mut to[at][..norm.n * 2 * norm.c]);
            }
        }
        Ok(())
    }

    fn norm_forward(&mut self, norm: &Norm, b: NormForward<Self>) -> Result<(), Error> {
        let (mut shared, _) = self.scratch.parts();
        let scratch = take(&mut shared, forward::scratch(norm, b.groups));
        forward::forward(norm, forward::Forward::of(b), scratch);
        Ok(())
    }

    fn norm_backward(&mut self, norm: &Norm, b: NormBackward<Self>) -> Result<(), Error> {
        let place = Place::Backward(b.at.start);
        let (mut slices, residual, power) = backward::split(b);
        backward::begin(norm, &mut slices);
        match residual {
            ResidualGradient::None | ResidualGradient::InPlace => {}
            ResidualGradient::Overwrite(to) => backward::residual(norm, &slices, to, false),
            ResidualGradient::Accumulate(to) => backward::residual(norm, &slices, to, true),
        }
        let (mut shared, _) = self.scratch.parts();
        match power {
            Some(power) => {
                let scratch = take(&mut shared, finish::images_scratch(norm));
                finish::images(norm, power, &mut slices, scratch);
            }
            None => {
                finish::batch(norm, &mut slices, take(&mut shared, finish::batch_scratch(norm)));
                let (weight, bias) = &slices.into;
                let finite = weight.iter().chain(bias.iter()).all(|v| v.is_finite());
                self.watch(finite, place);
            }
        }
        Ok(())
    }
}
