//! A network on a device: weights, the buffers its plans work in, and the passes that train it and infer.

use std::cell::RefCell;
use std::ops::Range;

use super::layout::Parameter;
use super::plan::{Mode, Plan};
use super::{Error as GraphError, Graph};
use crate::device::Error;
use crate::ops::step::{Pass, Run, Wanted};
use crate::ops::{Backend, Loss, Totals};

/// Which of a network's two plans is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The training plan: batch norm takes the statistics of the batch and updates the running ones. A
    /// network without this plan infers instead.
    Training,
    /// The inference plan, with running statistics.
    Inference,
}

/// A network with its weights, its plans and all buffers a step touches. Nothing is allocated after
/// [`Network::new`].
///
/// Methods that return a device's [`Error`] do so when the device fails.
pub struct Network<B: Backend> {
    graph: Graph,
    backend: B,
    training: Option<Plan<B>>,
    inference: Plan<B>,
    /// What each backward step is to compute, last step first; steps beyond the end are not run.
    wanted: Vec<Wanted>,
    activations: Activations<B>,
    vectors: Vectors<B>,
}

/// The buffers of a plan.
pub(super) struct Activations<B: Backend> {
    /// By slot. A step reads some slots and writes others; the cells check that they differ.
    pub tensors: Vec<RefCell<B::Tensor>>,
    pub saved: Vec<B::Bytes>,
    pub labels: B::Bytes,
}

/// The flat vectors. [`Run`] says what each holds.
pub(super) struct Vectors<B: Backend> {
    pub weights: B::Vector,
    pub running: B::Vector,
    pub sums: B::Sums,
    gradients: B::Vector,
    statistics: B::Vector,
}

impl<B: Backend> Activations<B> {
    /// Allocates slots of so many elements, saved buffers of so many bytes, and the labels of a batch.
    pub fn new(backend: &B, slots: &[usize], saved: &[usize], batch: usize) -> Result<Self, Error> {
        Ok(Activations {
            tensors: slots.iter().map(|&n| backend.tensor(n).map(RefCell::new)).collect::<Result<_, _>>()?,
            saved: saved.iter().map(|&bytes| backend.bytes(bytes)).collect::<Result<_, _>>()?,
            labels: backend.bytes(batch)?,
        })
    }
}

/// Numbers of images that a network's plans are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// Images in a training step, at most; none for a network that only infers.
    pub training: Option<usize>,
    /// Images in an evaluation step, at most.
    pub inference: usize,
}

/// The plans of a network for training, if it is to be trained, and for inference.
pub type Plans<B> = (Option<Plan<B>>, Plan<B>);

/// Returns the plans of a network.
///
/// # Errors
/// As [`Plan::new`].
pub fn plans<B: Backend>(graph: &Graph, batches: Batches) -> Result<Plans<B>, GraphError> {
    let training = batches.training.map(|batch| Plan::new(graph, batch, Mode::Training)).transpose()?;
    Ok((training, Plan::new(graph, batches.inference, Mode::Inference)?))
}

/// Returns the elements of the activation buffers that both plans share.
pub fn shared_slots<B: Backend>(training: Option<&Plan<B>>, inference: &Plan<B>) -> Vec<usize> {
    // Each plan's slots are sorted, largest first.
    let training = training.map_or(&[][..], |plan| &plan.slots);
    let size = |slots: &[usize], i: usize| slots.get(i).copied().unwrap_or(0);
    let count = training.len().max(inference.slots.len());
    (0..count).map(|i| size(training, i).max(size(&inference.slots, i))).collect()
}

impl<B: Backend> Network<B> {
    /// Allocates everything and takes the given weights (in memory order) and running statistics.
    ///
    /// # Errors
    /// When the device has no room.
    ///
    /// # Panics
    /// If `weights` or `running` are not as long as the graph's layout says.
    pub fn new(
        graph: Graph,
        (training, inference): Plans<B>,
        mut backend: B,
        weights: &[f32],
        running: &[f32],
    ) -> Result<Self, Error> {
        assert_eq!(weights.len(), graph.layout.weight_count(), "one value a weight");
        assert_eq!(running.len(), graph.layout.statistic_count(), "one value a statistic");
        let slots = shared_slots(training.as_ref(), &inference);
        let saved = training.as_ref().map_or(&[][..], |plan| &plan.saved);
        let batch = training.as_ref().map_or(0, |plan| plan.batch).max(inference.batch);
        let gradients = if training.is_some() { weights.len() } else { 0 };
        let plans = training.iter().chain([&inference]);
        backend.reserve(plans.map(Plan::scratch).collect())?;
        backend.set_totals(Totals::default())?;
        let activations = Activations::new(&backend, &slots, saved, batch)?;
        let vectors = Vectors {
            weights: backend.upload_weights(weights)?,
            gradients: backend.vector(&vec![0.0; gradients])?,
            statistics: backend.vector(&vec![0.0; running.len()])?,
            sums: backend.sums(running.len())?,
            running: backend.vector(running)?,
        };
        let wanted = vec![Wanted::ALL; training.as_ref().map_or(0, |plan| plan.steps.len())];
        Ok(Network { graph, backend, training, inference, wanted, activations, vectors })
    }

    /// Returns the graph that the network was made of.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the training plan, if there is one.
    pub fn training(&self) -> Option<&Plan<B>> {
        self.training.as_ref()
    }

    /// Returns the inference plan.
    pub fn inference(&self) -> &Plan<B> {
        &self.inference
    }

    /// Returns the device.
    pub fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Returns the weights in memory order.
    pub fn read_weights(&self) -> Result<Vec<f32>, Error> {
        self.backend.read(&self.vectors.weights)
    }

    /// Returns the gradients of the last backward pass, in memory order.
    pub fn read_gradients(&self) -> Result<Vec<f32>, Error> {
        self.backend.read(&self.vectors.gradients)
    }

    /// Returns the running statistics.
    pub fn read_running(&self) -> Result<Vec<f32>, Error> {
        self.backend.read(&self.vectors.running)
    }

    /// Returns one parameter's weights in memory order.
    pub fn parameter(&self, parameter: &Parameter) -> Result<Vec<f32>, Error> {
        self.backend.read_range(&self.vectors.weights, parameter.range())
    }

    /// Replaces all weights, in memory order.
    pub fn write_weights(&mut self, values: &[f32]) -> Result<(), Error> {
        self.backend.write(values, &mut self.vectors.weights)
    }

    /// Replaces all running statistics.
    pub fn write_running(&mut self, values: &[f32]) -> Result<(), Error> {
        self.backend.write(values, &mut self.vectors.running)
    }

    /// Returns the weights at these indices.
    pub fn gather(&self, indices: &B::Indices) -> Result<Vec<f32>, Error> {
        self.backend.gather(indices, &self.vectors.weights)
    }

    /// Replaces the weights at these indices.
    pub fn scatter(&mut self, indices: &B::Indices, values: &[f32]) -> Result<(), Error> {
        self.backend.scatter(indices, values, &mut self.vectors.weights)
    }

    /// Returns what the optimiser works on: the device, gradients, and weights.
    pub fn parameters(&mut self) -> (&mut B, &B::Vector, &mut B::Vector) {
        (&mut self.backend, &self.vectors.gradients, &mut self.vectors.weights)
    }

    /// Returns what scoring reads, and the device.
    pub(super) fn parts(&mut self) -> (&mut B, &mut Vectors<B>) {
        (&mut self.backend, &mut self.vectors)
    }

    /// Returns what a replica takes the place of.
    pub(super) fn replaceable(&mut self) -> (&mut Vectors<B>, &mut Vec<Wanted>) {
        (&mut self.vectors, &mut self.wanted)
    }

    /// Puts normalised images \[N,H,W,C\] and labels in place for the next forward pass.
    pub fn set_batch(&mut self, phase: Phase, images: &[f32], labels: &[u8]) -> Result<(), Error> {
        let slot = self.plan(phase).images;
        self.backend.write_tensor(images, self.activations.tensors[slot].get_mut())?;
        self.backend.write_bytes(labels, &mut self.activations.labels)
    }

    /// Draws the next `n` images of a split for the next forward pass.
    ///
    /// # Errors
    /// When the data cannot be read or the device fails.
    pub fn draw_batch(&mut self, phase: Phase, data: &mut B::Data, n: usize) -> Result<(), Error> {
        let slot = self.plan(phase).images;
        let images = self.activations.tensors[slot].get_mut();
        self.backend.next_batch(data, n, images, &mut self.activations.labels)
    }

    /// Returns the logits \[N,K\] of the last forward pass. A backward pass reuses their buffer.
    pub fn logits(&self, phase: Phase, n: usize) -> Result<Vec<f32>, Error> {
        let slot = self.plan(phase).logits;
        self.backend.read_tensor(&self.activations.tensors[slot].borrow(), n * self.classes())
    }

    fn plan(&self, phase: Phase) -> &Plan<B> {
        match (phase, &self.training) {
            (Phase::Training, Some(plan)) => plan,
            _ => &self.inference,
        }
    }

    fn classes(&self) -> usize {
        self.graph.nodes[self.graph.output()].shape.c
    }

    /// Skips, in backward passes from now on, gradients that no trained weight needs; `trained(range)` says
    /// whether any weight in this range of the flat vector is trained. A filter of which none is keeps the
    /// gradient it had, and nothing is computed below the lowest layer that is trained. Recordings made
    /// before go on as before.
    pub fn train_only(&mut self, trained: impl Fn(&Range<usize>) -> bool) {
        let steps = self.training.iter().flat_map(|plan| plan.steps.iter().rev());
        self.wanted = steps
            .map(|step| Wanted { gradients: step.operands.parameters.iter().any(&trained), inputs: true })
            .collect();
        let lowest = self.wanted.iter().rposition(|wanted| wanted.gradients);
        self.wanted.truncate(lowest.map_or(0, |lowest| lowest + 1));
        if let Some(lowest) = self.wanted.last_mut() {
            lowest.inputs = false;
        }
    }

    /// Runs the forward pass on the first `n` images and adds their loss, with labels smoothed by this share,
    /// to the device's totals.
    pub fn forward(&mut self, phase: Phase, n: usize, smoothing: f32) -> Result<(), Error> {
        let (plan, pass) = match (phase, &self.training) {
            (Phase::Training, Some(plan)) => (plan, Pass::Train),
            _ => (&self.inference, Pass::Infer),
        };
        let loss = Loss { n, classes: self.classes(), smoothing };
        plan.forward(&mut run(pass, n, &mut self.backend, &mut self.activations, &mut self.vectors))?;
        let Activations { tensors, labels, .. } = &self.activations;
        let mut dlogits = plan.dlogits.map(|slot| tensors[slot].borrow_mut());
        let logits = tensors[plan.logits].borrow();
        self.backend.softmax_cross_entropy(&loss, &logits, labels, dlogits.as_deref_mut())
    }

    /// Runs the backward pass after a training forward pass over `n` images: the flat gradient is
    /// overwritten. A network without a training plan has no gradient, and this does nothing.
    pub fn backward(&mut self, n: usize) -> Result<(), Error> {
        let Some(plan) = &self.training else { return Ok(()) };
        let mut run = run(Pass::Train, n, &mut self.backend, &mut self.activations, &mut self.vectors);
        plan.backward(self.wanted.iter().copied(), &mut run)
    }

    /// Does `work`, which must touch nothing but buffers on the device. Where the device can record, the
    /// first call only records it, and every call replays the recording.
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
}

fn run<'a, B: Backend>(
    pass: Pass,
    n: usize,
    backend: &'a mut B,
    activations: &'a mut Activations<B>,
    vectors: &'a mut Vectors<B>,
) -> Run<'a, B> {
    Run {
        backend,
        n,
        pass,
        wanted: Wanted::ALL,
        tensors: &activations.tensors,
        saved: &mut activations.saved,
        weights: &vectors.weights,
        running: &mut vectors.running,
        statistics: &mut vectors.statistics,
        sums: &mut vectors.sums,
        gradients: &mut vectors.gradients,
    }
}
