//! Makes a plan of fused groups: the values that steps read and write, how long each is needed, and its slot.

use super::fuse::{Group, fuse};
use super::slots::{Value, assign};
use super::{Destination, Gradients, Mode, Operands, Plan, Step};
use crate::graph::{Error, Graph, NodeId};
use crate::ops::Backend;

impl<B: Backend> Plan<B> {
    /// Returns the plan for batches of up to `batch` images.
    ///
    /// # Errors
    /// When the graph holds a layer where no step can compute it.
    pub fn new(graph: &Graph, batch: usize, mode: Mode) -> Result<Self, Error> {
        Builder::new(graph, batch, mode).build(fuse(graph, batch)?)
    }
}

/// A plan in the making. Slots are numbers of values until [`Builder::build`] assigns buffers.
struct Builder<'a, B: Backend> {
    graph: &'a Graph,
    plan: Plan<B>,
    /// The nodes that each step reads, in the order of its inputs.
    inputs: Vec<Vec<NodeId>>,
    values: Vec<Value>,
    /// The value that each node's output lives in.
    output: Vec<Option<usize>>,
    /// The value that each node's gradient lives in, once something wrote it.
    gradient: Vec<Option<usize>>,
    /// The step that is being made, counted over both passes.
    clock: usize,
}

impl<'a, B: Backend> Builder<'a, B> {
    fn new(graph: &'a Graph, batch: usize, mode: Mode) -> Self {
        let nodes = graph.nodes.len();
        let (steps, slots, saved) = (vec![], vec![], vec![]);
        Builder {
            graph,
            plan: Plan { mode, batch, steps, slots, saved, images: 0, logits: 0, dlogits: None },
            inputs: vec![],
            values: vec![],
            output: vec![None; nodes],
            gradient: vec![None; nodes],
            clock: 0,
        }
    }

    fn build(mut self, groups: Vec<Group<B>>) -> Result<Plan<B>, Error> {
        self.plan.images = self.value(0);
        self.output[0] = Some(self.plan.images);
        for group in groups {
            self.clock += 1;
            self.forward(group)?;
        }
        self.clock += 1;
        let last = self.graph.output();
        self.plan.logits = self.input(last)?;
        let (computed, done) = (self.values.len(), self.clock);
        if self.plan.mode != Mode::Inference {
            let gradient = self.value(last);
            self.gradient[last] = Some(gradient);
            self.plan.dlogits = Some(gradient);
            for step in (0..self.plan.steps.len()).rev() {
                self.clock += 1;
                self.plan.steps[step].gradients = Some(self.backward(step)?);
            }
        }
        if self.plan.mode == Mode::Scoring {
            let again = self.values[..computed].iter_mut().filter(|value| value.last > done);
            again.for_each(|value| value.last = self.clock);
            self.values[self.plan.logits].last = self.clock;
        }
        Ok(self.place())
    }

    fn value(&mut self, node: NodeId) -> usize {
        let elements = self.plan.batch * self.graph.nodes[node].shape.elements();
        self.values.push(Value { elements, first: self.clock, last: self.clock });
        self.values.len() - 1
    }

    fn read(&mut self, value: usize) -> usize {
        self.values[value].last = self.clock;
        value
    }

    fn no_step(&self, node: NodeId) -> Error {
        Error::NoStep { node: self.graph.nodes[node].name.clone() }
    }

    fn input(&mut self, node: NodeId) -> Result<usize, Error> {
        let value = self.output[node].ok_or_else(|| self.no_step(node))?;
        Ok(self.read(value))
    }

    fn forward(&mut self, group: Group<B>) -> Result<(), Error> {
        let Group { nodes, inputs, operation } = group;
        let (node, last) = (&self.graph.nodes[nodes[0]], nodes[nodes.len() - 1]);
        let layout = &self.graph.layout;
        let mut operands = Operands {
            inputs: inputs.iter().map(|&input| self.input(input)).collect::<Result<_, _>>()?,
            output: 0,
            parameters: node.parameters.iter().map(|&p| layout.parameters[p].range()).collect(),
            statistics: node.statistic.map_or(0..0, |s| layout.statistics[s].range()),
            saved: None,
        };
        if operation.needs_sums() {
            // The step that computes its input leaves the sums, and can do so for one reader.
            let before = self.plan.steps.iter_mut().find(|step| step.nodes.last() == inputs.first());
            match before.filter(|step| step.operation.leaves_sums()) {
                Some(step) if self.graph.consumers(inputs[0]).count() == 1 => {
                    step.operands.statistics = operands.statistics.clone();
                }
                _ => return Err(self.no_step(nodes[0])),
            }
        }
        operands.output = self.value(last);
        self.output[last] = Some(operands.output);
        if self.plan.mode != Mode::Inference && operation.saved_bytes() > 0 {
            operands.saved = Some(self.plan.saved.len());
            self.plan.saved.push(operation.saved_bytes());
        }
        self.plan.steps.push(Step { nodes, operation, operands, gradients: None });
        self.inputs.push(inputs);
        Ok(())
    }

    fn backward(&mut self, step: usize) -> Result<Gradients, Error> {
        let Step { nodes, operation, operands, .. } = &self.plan.steps[step];
        let (keeps_input, keeps_output) = (operation.keeps_input(), operation.keeps_output());
        let (x, y, last) = (operands.inputs[0], operands.output, nodes[nodes.len() - 1]);
        let dy = self.gradient[last].ok_or_else(|| self.no_step(last))?;
        self.read(dy);
        if keeps_input {
            self.read(x);
        }
        if keeps_output {
            self.read(y);
        }
        // Last to first: an operation writes the gradient of its second input before that of its first.
        let mut destinations = vec![];
        for input in (0..self.inputs[step].len()).rev() {
            destinations.push(self.destination(step, input, dy)?);
        }
        destinations.reverse();
        Ok(Gradients { output: dy, inputs: destinations })
    }

    /// Chooses where the gradient of a step's input goes.
    fn destination(&mut self, step: usize, input: usize, dy: usize) -> Result<Destination, Error> {
        let node = self.inputs[step][input];
        let can = |builder: &Self, to| builder.plan.steps[step].operation.can_write(input, to);
        if node == 0 && can(self, Destination::Nowhere) {
            return Ok(Destination::Nowhere);
        }
        let to = match self.gradient[node] {
            Some(value) => Destination::Accumulate(self.read(value)),
            None if can(self, Destination::InPlace) => {
                self.gradient[node] = Some(dy);
                Destination::InPlace
            }
            None => {
                let value = self.value(node);
                self.gradient[node] = Some(value);
                Destination::Overwrite(value)
            }
        };
        if can(self, to) { Ok(to) } else { Err(self.no_step(node)) }
    }

    /// Replaces every number of a value by that of its slot.
    fn place(mut self) -> Plan<B> {
        let (slots, place) = assign(&self.values);
        let turn = |value: &mut usize| *value = place[*value];
        let plan = &mut self.plan;
        for step in &mut plan.steps {
            step.operands.inputs.iter_mut().chain([&mut step.operands.output]).for_each(turn);
            if let Some(gradients) = &mut step.gradients {
                turn(&mut gradients.output);
                for to in &mut gradients.inputs {
                    if let Destination::Overwrite(value) | Destination::Accumulate(value) = to {
                        turn(value);
                    }
                }
            }
        }
        [&mut plan.images, &mut plan.logits].into_iter().chain(&mut plan.dlogits).for_each(turn);
        self.plan.slots = slots;
        self.plan
    }
}
