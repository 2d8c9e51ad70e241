//! Runs a plan's steps on a backend.

mod passes;

use std::cell::RefCell;

use super::layout::Parameter;
use super::plan::{Mode, Plan};
use super::{Error as GraphError, Graph};
use crate::device::{Error, Scratch};
use crate::ops::{Backend, Totals, Work};
pub(super) use passes::{Wanted, forward_step, residual_gradient};

/// Which moments batch norm normalises with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// Those of the batch; the running ones are updated.
    Batch,
    /// The running ones.
    Running,
}

/// A network with its weights, its plans and all buffers a step touches. Nothing is allocated after [`Network::new`].
pub struct Network<B: Backend> {
    graph: Graph,
    backend: B,
    training: Option<Plan>,
    inference: Plan,
    /// Of the training plan's backward steps, those that run.
    wanted: Vec<Wanted>,
    activations: Activations<B>,
    parameters: Parameters<B>,
    classes: usize,
}

/// What a plan's steps compute.
pub(super) struct Activations<B: Backend> {
    /// A step reads some slots and writes others; the cells check that they differ.
    pub tensors: Vec<RefCell<B::Tensor>>,
    pub winners: Vec<B::Bytes>,
    pub labels: B::Bytes,
}

/// The flat vectors.
pub(super) struct Parameters<B: Backend> {
    pub weights: B::Vector,
    gradients: B::Vector,
    pub running: B::Vector,
    /// Mean and 1/sqrt(var + eps) of each batch norm, where `running` has its mean and variance.
    moments: B::Vector,
    /// Sum and sum of squares, likewise.
    sums: B::Sums,
}

impl<B: Backend> Activations<B> {
    /// Room for slots of so many elements, winners of so many bytes and the labels of a batch.
    pub fn new(backend: &B, slots: &[usize], winners: &[usize], batch: usize) -> Result<Self, Error> {
        Ok(Activations {
            tensors: slots.iter().map(|&n| backend.tensor(n).map(RefCell::new)).collect::<Result<_, _>>()?,
            winners: winners.iter().map(|&bytes| backend.bytes(bytes)).collect::<Result<_, _>>()?,
            labels: backend.bytes(batch)?,
        })
    }
}

/// Sizes of a network's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// Images in a training step; none for a network that only infers.
    pub training: Option<usize>,
    /// Images in an evaluation step, at most.
    pub inference: usize,
}

/// The two plans of a network: (training, inference).
///
/// # Errors
/// As [`Plan::new`].
pub fn plans(graph: &Graph, batches: Batches) -> Result<(Option<Plan>, Plan), GraphError> {
    let training = batches.training.map(|batch| Plan::new(graph, batch, Mode::Training)).transpose()?;
    Ok((training, Plan::new(graph, batches.inference, Mode::Inference)?))
}

/// Elements of the activation buffers both plans share. Each plan's slots are sorted, largest first.
pub fn shared_slots(training: Option<&Plan>, inference: &Plan) -> Vec<usize> {
    let training = training.map_or(&[][..], |plan| &plan.slots);
    let size = |slots: &[usize], i: usize| slots.get(i).copied().unwrap_or(0);
    let count = training.len().max(inference.slots.len());
    (0..count).map(|i| size(training, i).max(size(&inference.slots, i))).collect()
}

/// Returns the scratch that a plan's operations need, run for this work.
pub fn scratch<B: Backend>(plan: &Plan, work: Work) -> Scratch {
    let convs = plan.convs().into_iter().map(|conv| B::conv_scratch(&conv, work));
    convs.chain(plan.norms().into_iter().map(|norm| B::norm_scratch(&norm, work))).collect()
}

impl<B: Backend> Network<B> {
    /// Allocates everything and takes the given weights (memory order) and running statistics.
    ///
    /// # Errors
    /// When the device has no room.
    ///
    /// # Panics
    /// If `weights` or `running` are not as long as the graph's layout says.
    pub fn new(
        graph: Graph,
        (training, inference): (Option<Plan>, Plan),
        mut backend: B,
        weights: &[f32],
        running: &[f32],
    ) -> Result<Self, Error> {
        assert_eq!(weights.len(), graph.layout.weight_count(), "one value a weight");
        assert_eq!(running.len(), graph.layout.statistic_count(), "one value a statistic");
        let slots = shared_slots(training.as_ref(), &inference);
        let winners = training.as_ref().map_or(&[][..], |plan| &plan.winners);
        let batch = training.as_ref().map_or(0, |plan| plan.batch).max(inference.batch);
        let gradients = if training.is_some() { weights.len() } else { 0 };
        let plans = [Some(&inference), training.as_ref()].into_iter().flatten();
        backend.reserve(plans.map(|plan| scratch::<B>(plan, Work::Train)).collect())?;
        backend.set_totals(Totals::default())?;
        let activations = Activations::new(&backend, &slots, winners, batch)?;
        let parameters = Parameters {
            weights: backend.upload_weights(weights)?,
            gradients: backend.vector(&vec![0.0; gradients])?,
            moments: backend.vector(&vec![0.0; running.len()])?,
            sums: backend.sums(running.len())?,
            running: backend.vector(running)?,
        };
        let classes = graph.nodes[graph.nodes.len() - 1].shape.c;
        let mut network =
            Network { graph, backend, training, inference, wanted: vec![], activations, parameters, classes };
        network.wanted = network.everything_wanted();
        Ok(network)
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The training plan, if there is one.
    pub fn training(&self) -> Option<&Plan> {
        self.training.as_ref()
    }

    /// The inference plan.
    pub fn inference(&self) -> &Plan {
        &self.inference
    }

    /// The device.
    pub fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Weights in memory order.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read_weights(&self) -> Result<Vec<f32>, Error> {
        self.backend.read(&self.parameters.weights)
    }

    /// Gradients of the last backward pass, in memory order.
    ///
    /// # Errors
    /// When the device fails.
    pub fn gradients(&self) -> Result<Vec<f32>, Error> {
        self.backend.read(&self.parameters.gradients)
    }

    /// Running statistics.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read_running(&self) -> Result<Vec<f32>, Error> {
        self.backend.read(&self.parameters.running)
    }

    /// One parameter's weights in memory order.
    ///
    /// # Errors
    /// When the device fails.
    pub fn parameter(&self, parameter: &Parameter) -> Result<Vec<f32>, Error> {
        self.backend.read_range(&self.parameters.weights, parameter.range())
    }

    /// Gives the optimiser the flat vectors: (backend, gradients, weights).
    pub fn parameters(&mut self) -> (&mut B, &B::Vector, &mut B::Vector) {
        (&mut self.backend, &self.parameters.gradients, &mut self.parameters.weights)
    }

    /// What scoring reads, and the device.
    pub(super) fn parts(&mut self) -> (&Graph, &mut B, &mut Parameters<B>) {
        (&self.graph, &mut self.backend, &mut self.parameters)
    }

    /// Puts normalised images \[N,32,32,3\] and labels in place for the next forward pass.
    ///
    /// # Errors
    /// When the device fails.
    pub fn set_batch(&mut self, training: bool, images: &[f32], labels: &[u8]) -> Result<(), Error> {
        let slot = self.plan(training).images;
        self.backend.write_tensor(images, self.activations.tensors[slot].get_mut())?;
        self.backend.write_bytes(labels, &mut self.activations.labels)
    }

    /// Draws the next `n` images of a split for the next forward pass.
    ///
    /// # Errors
    /// When the data cannot be read or the device fails.
    pub fn draw_batch(&mut self, training: bool, data: &mut B::Data, n: usize) -> Result<(), Error> {
        let slot = self.plan(training).images;
        let images = self.activations.tensors[slot].get_mut();
        self.backend.next_batch(data, n, images, &mut self.activations.labels)
    }

    /// Does `work` and, where the device can, only records it the first time, to replay the recording then and from
    /// then on. `work` must touch nothing but buffers on the device.
    ///
    /// # Errors
    /// Those of `work`; when the device fails.
    pub fn replay(
        &mut self,
        recording: &mut Option<B::Recording>,
        work: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if recording.is_none() {
            self.backend.record()?;
            let outcome = work(self);
            let recorded = self.backend.recorded();
            outcome?;
            *recording = recorded?;
        }
        recording.as_ref().map_or(Ok(()), |recording| self.backend.replay(recording))
    }

    /// The logits \[N,K\] of the last forward pass; a backward pass reuses their buffer.
    ///
    /// # Errors
    /// When the device fails.
    pub fn logits(&self, training: bool, n: usize) -> Result<Vec<f32>, Error> {
        let slot = self.plan(training).logits;
        self.backend.read_tensor(&self.activations.tensors[slot].borrow(), n * self.classes)
    }

    /// What a replica takes the place of.
    pub(super) fn replaceable(&mut self) -> (&mut Parameters<B>, &mut Vec<Wanted>) {
        (&mut self.parameters, &mut self.wanted)
    }

    fn plan(&self, training: bool) -> &Plan {
        match &self.training {
            Some(plan) if training => plan,
            _ => &self.inference,
        }
    }
}
