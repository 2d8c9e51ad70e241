//! Batch norm with what follows it, on devices that run kernels.

mod backward;
mod forward;
mod shape;
mod statistics;

use std::ops::Range;

use super::{Groups, Norm, NormBackward, NormForward, NormOps, StatisticsOf};
use crate::device::driver::Driver;
use crate::device::{Cuda, Error, Scratch, Vector};
use crate::ops::flat::{Out, Work};

impl<D: Driver> NormOps for Cuda<D> {
    fn norm_scratch(norm: &Norm, work: Work) -> Scratch {
        let values = match work {
            Work::Train => backward::scratch(norm, Groups::Batch),
            Work::Score => backward::scratch(norm, Groups::EachImage),
        };
        Scratch { shared: values * size_of::<f32>(), ..Scratch::default() }
    }

    fn norm_statistics(
        &mut self,
        norm: &Norm,
        of: StatisticsOf<Self>,
        to: &mut Vector<D>,
        at: Range<usize>,
    ) -> Result<(), Error> {
        match of {
            StatisticsOf::Batch { sums, running } => statistics::of_sums(self, norm, (sums, running), to, at),
            StatisticsOf::Running { running, from, groups } => {
                assert!(from.len() == 2 * norm.c, "two running statistics a channel");
                assert!(at.len() == groups.statistics(norm), "two statistics a channel of each group");
                let (running, to) = (running.values.slice(&from), to.values.slice_mut(&at));
                statistics::of_running(self, norm, groups, running, to)
            }
            StatisticsOf::EachImage { x } => {
                assert!(at.len() == norm.n * 2 * norm.c, "two statistics a channel of each image");
                statistics::of_images(self, norm, x, to.values.slice_mut(&at))
            }
        }
    }

    fn norm_forward(&mut self, norm: &Norm, b: NormForward<Self>) -> Result<(), Error> {
        forward::norm_forward(self, norm, b)
    }

    fn norm_backward(&mut self, norm: &Norm, b: NormBackward<Self>) -> Result<(), Error> {
        match b.into {
            Out::Gradients(_) => backward::gradients(self, norm, b),
            Out::Scores(power, _) => backward::scores(self, norm, power, b),
        }
    }
}
