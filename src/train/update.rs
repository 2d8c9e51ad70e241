//! What a training step does to the weights: all of them, or those a mask keeps.

use crate::device::Error;
use crate::graph::Network;
use crate::mask::Mask;
use crate::optim::{Moves, Sgd, SgdBuffers, TrainingBackend, UpdateRule};

/// The optimiser's velocity, and the mask that is in force.
pub(super) struct Update<B: TrainingBackend> {
    /// One a weight or, under the strict rule, one a kept weight, in memory order.
    velocity: B::Vector,
    /// What the mask in force keeps; none when every weight is trained.
    kept: Option<Kept<B>>,
}

enum Kept<B: TrainingBackend> {
    Strict {
        indices: B::Indices,
        /// (index in memory, place in the mask), ascending.
        order: Vec<(u32, u32)>,
    },
    Published {
        /// One a weight.
        flags: B::Bytes,
    },
}

impl<B: TrainingBackend> Update<B> {
    /// Every weight is trained, from a velocity in memory order.
    pub fn dense(network: &mut Network<B>, velocity: &[f32]) -> Result<Self, Error> {
        Ok(Update { velocity: network.backend().vector(velocity)?, kept: None })
    }

    /// Trains what a mask keeps from now on. Velocities of weights that were trained before stay; under the strict rule
    /// a newly kept weight starts at 0, and the others' are forgotten.
    pub fn restrict(&mut self, network: &mut Network<B>, mask: &Mask, rule: UpdateRule) -> Result<(), Error> {
        let order = network.graph().layout.memory_order(mask.indices());
        let kept = match rule {
            UpdateRule::Strict => {
                let velocity = self.velocity_at(network, &order)?;
                let indices: Vec<u32> = order.iter().map(|(index, _)| *index).collect();
                let backend = network.backend();
                self.velocity = backend.vector(&velocity)?;
                Kept::Strict { indices: backend.indices(&indices)?, order }
            }
            UpdateRule::Published => {
                let mut values = vec![0; mask.weight_count()];
                order.iter().for_each(|&(index, _)| values[index as usize] = 1);
                let mut flags = network.backend().bytes(values.len())?;
                network.backend().write_bytes(&values, &mut flags)?;
                Kept::Published { flags }
            }
        };
        network.train_only(|range| mask.kept(range) > 0);
        self.kept = Some(kept);
        Ok(())
    }

    /// The velocities of these weights, 0 where there is none.
    fn velocity_at(&self, network: &mut Network<B>, order: &[(u32, u32)]) -> Result<Vec<f32>, Error> {
        let velocity = network.backend().read(&self.velocity)?;
        let Some(Kept::Strict { order: old, .. }) = &self.kept else {
            return Ok(order.iter().map(|&(index, _)| velocity[index as usize]).collect());
        };
        let mut before = old.iter().zip(&velocity).peekable();
        let value = |&(index, _): &(u32, u32)| {
            while before.next_if(|((old, _), _)| *old < index).is_some() {}
            before.next_if(|((old, _), _)| *old == index).map_or(0.0, |(_, value)| *value)
        };
        Ok(order.iter().map(value).collect())
    }

    /// Takes up velocities that [`Update::velocity`] gave, for the mask in force.
    pub fn resume(&mut self, network: &mut Network<B>, velocity: &[f32]) -> Result<(), Error> {
        self.velocity = match &self.kept {
            Some(Kept::Strict { order, .. }) => {
                let memory: Vec<f32> = order.iter().map(|&(_, place)| velocity[place as usize]).collect();
                network.backend().vector(&memory)?
            }
            _ => network.backend().vector(velocity)?,
        };
        Ok(())
    }

    /// The weights that the strict rule trains, in memory order; none when any weight may move.
    pub fn indices(&self) -> Option<&B::Indices> {
        match &self.kept {
            Some(Kept::Strict { indices, .. }) => Some(indices),
            _ => None,
        }
    }

    /// One step with the network's gradients.
    pub fn step(&mut self, network: &mut Network<B>, sgd: &Sgd) -> Result<(), Error> {
        let (backend, gradients, weights) = network.parameters();
        let moves = match &self.kept {
            None => Moves::All,
            Some(Kept::Strict { indices, .. }) => Moves::At(indices),
            Some(Kept::Published { flags }) => Moves::GradientsWhere(flags),
        };
        backend.sgd(sgd, moves, SgdBuffers { gradients, velocity: &mut self.velocity, weights })
    }

    /// The velocity: in memory order, one a weight, or, under the strict rule, one a kept weight in the mask's order.
    pub fn velocity(&self, network: &mut Network<B>) -> Result<Vec<f32>, Error> {
        let memory = network.backend().read(&self.velocity)?;
        let Some(Kept::Strict { order, .. }) = &self.kept else { return Ok(memory) };
        let mut velocity = vec![0.0; memory.len()];
        order.iter().zip(memory).for_each(|(&(_, place), value)| velocity[place as usize] = value);
        Ok(velocity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;
    use crate::graph::Model;
    use crate::graph::network::{Batches, plans};

    /// In the order of its indices, which within a filter is not that of memory.
    #[test]
    fn weights_that_stay_keep_their_velocity_and_new_ones_begin_at_0() {
        let graph = Model::Resnet9.graph(2).unwrap();
        let layout = graph.layout.clone();
        let plans = plans(&graph, Batches { training: None, inference: 1 }).unwrap();
        let (weights, running) = (layout.initial_weights(1), layout.initial_statistics());
        let mut network = Network::new(graph, plans, Cpu::new(), &weights, &running).unwrap();
        let memory: Vec<f32> = (1..=layout.weight_count()).map(|i| i as f32).collect();
        let of = layout.to_canonical(&memory);
        let mut update = Update::dense(&mut network, &memory).unwrap();
        let mut restrict = |indices: &[u32]| {
            let mask = Mask::new(indices.to_vec(), layout.weight_count()).unwrap();
            update.restrict(&mut network, &mask, UpdateRule::Strict).unwrap();
            update.velocity(&mut network).unwrap()
        };
        assert_eq!(restrict(&[1, 5, 30, 31, 60, 300]), [1, 5, 30, 31, 60, 300].map(|i: usize| of[i]));
        assert_eq!(restrict(&[0, 5, 9, 31, 61, 300]), [0.0, of[5], 0.0, of[31], 0.0, of[300]]);
        // What was forgotten is not found again.
        assert_eq!(restrict(&[1, 5, 300]), [0.0, of[5], of[300]]);
    }
}
