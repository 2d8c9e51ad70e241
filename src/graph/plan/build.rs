//! The steps of a plan, and the slots of what they read and write.

use super::fuse::Group;
use super::{Backward, Forward, Mode, Plan, Residual, Slot};
use crate::graph::{Error, Graph, NodeId, Op, Shape};
use crate::ops::{Affine, AveragePool, Conv, Linear, Norm};

/// A value or gradient, alive from its first write to its last use in a count of steps.
struct Value {
    elements: usize,
    first: usize,
    last: usize,
}

/// A plan in the making.
pub(super) struct Builder<'a> {
    graph: &'a Graph,
    batch: usize,
    mode: Mode,
    /// Slots are value numbers until [`Builder::build`] assigns buffers.
    values: Vec<Value>,
    /// The value each node's output lives in.
    output: Vec<Option<usize>>,
    /// The value each node's gradient lives in, once something wrote it.
    gradient: Vec<Option<usize>>,
    winners: Vec<usize>,
    clock: usize,
}

impl<'a> Builder<'a> {
    pub fn new(graph: &'a Graph, batch: usize, mode: Mode) -> Self {
        let nodes = graph.nodes.len();
        let (output, gradient) = (vec![None; nodes], vec![None; nodes]);
        Builder { graph, batch, mode, values: vec![], output, gradient, winners: vec![], clock: 0 }
    }

    fn value(&mut self, node: NodeId) -> usize {
        let elements = self.batch * self.graph.nodes[node].shape.elements();
        self.values.push(Value { elements, first: self.clock, last: self.clock });
        self.values.len() - 1
    }

    fn read(&mut self, value: usize) -> usize {
        self.values[value].last = self.clock;
        value
    }

    fn input(&mut self, node: NodeId) -> Result<usize, Error> {
        let missing = || Error::NoStep { node: self.graph.nodes[node].name.clone() };
        let value = self.output[node].ok_or_else(missing)?;
        Ok(self.read(value))
    }

    pub fn build(mut self, groups: Vec<Group>) -> Result<Plan, Error> {
        let images = self.value(0);
        self.output[0] = Some(images);
        let mut forward = vec![];
        for group in groups {
            self.clock += 1;
            let step = self.forward(&group)?;
            forward.push((group, step));
        }
        self.clock += 1;
        let last = self.graph.nodes.len() - 1;
        let logits = self.input(last)?;
        let (mut backward, mut dlogits) = (vec![], None);
        let (computed, done) = (self.values.len(), self.clock);
        if self.mode != Mode::Inference {
            let gradient = self.value(last);
            self.gradient[last] = Some(gradient);
            dlogits = Some(gradient);
            for (group, step) in forward.iter().rev() {
                self.clock += 1;
                backward.push(self.backward(group, step)?);
            }
        }
        if self.mode == Mode::Scoring {
            let read_backward = |value: &&mut Value| value.last > done;
            self.values[..computed]
                .iter_mut()
                .filter(read_backward)
                .for_each(|value| value.last = self.clock);
            self.values[logits].last = self.clock;
        }
        let (slots, place) = assign(&self.values);
        let mut forward: Vec<_> = forward.into_iter().map(|(group, step)| (group.nodes, step)).collect();
        forward.iter_mut().for_each(|(_, step)| step.place(&place));
        backward.iter_mut().for_each(|step| step.place(&place));
        Ok(Plan {
            batch: self.batch,
            forward,
            backward,
            slots,
            winners: self.winners,
            images: place[images],
            logits: place[logits],
            dlogits: dlogits.map(|d| place[d]),
        })
    }

    fn forward(&mut self, group: &Group) -> Result<Forward, Error> {
        let graph = self.graph;
        let (first, last) = (group.nodes[0], group.nodes[group.nodes.len() - 1]);
        let node = &graph.nodes[first];
        let source = node.inputs[0];
        let Shape { h, w, c } = graph.nodes[source].shape;
        let n = self.batch;
        let range = |parameter: usize| graph.layout.parameters[parameter].range();
        let x = self.input(source)?;
        let step = match node.op {
            Op::Conv { r, stride, pad, filter } => {
                let conv = Conv { n, h, w, c, k: node.shape.c, r, stride, pad };
                let statistic = graph.consumers(first).find_map(|reader| match graph.nodes[reader].op {
                    Op::BatchNorm { statistic, .. } => Some(statistic),
                    _ => None,
                });
                Forward::Conv { conv, x, filter: range(filter), y: self.value(last), statistic }
            }
            Op::BatchNorm { weight, bias, statistic } => {
                // A convolution takes the sums, and for one reader.
                let conv = matches!(graph.nodes[source].op, Op::Conv { .. });
                if !conv || graph.consumers(source).count() != 1 {
                    return Err(Error::NoStep { node: node.name.clone() });
                }
                let affine = Affine { weight: range(weight), bias: range(bias) };
                let norm = self.norm(group, n, node.shape);
                let residual = group.residual.map(|r| self.input(r)).transpose()?;
                let y = self.value(last);
                let winners = (self.mode != Mode::Inference && norm.pool.is_some()).then(|| {
                    self.winners.push(n * graph.nodes[last].shape.elements());
                    self.winners.len() - 1
                });
                Forward::Norm { norm, x, residual, affine, statistic, y, winners }
            }
            Op::GlobalAveragePool => {
                Forward::AveragePool { pool: AveragePool { n, h, w, c }, x, y: self.value(last) }
            }
            Op::Linear { weight, bias } => {
                let scale = match graph.nodes[last].op {
                    Op::Scale(factor) => factor,
                    _ => 1.0,
                };
                let linear = Linear { n, c, k: node.shape.c, scale };
                let (weight, bias) = (range(weight), bias.map(range));
                Forward::Linear { linear, x, weight, bias, y: self.value(last) }
            }
            _ => return Err(Error::NoStep { node: node.name.clone() }),
        };
        let (Forward::Conv { y, .. }
        | Forward::Norm { y, .. }
        | Forward::AveragePool { y, .. }
        | Forward::Linear { y, .. }) = &step;
        self.output[last] = Some(*y);
        Ok(step)
    }

    fn norm(&self, group: &Group, n: usize, Shape { h, w, c }: Shape) -> Norm {
        let mut norm = Norm { n, h, w, c, relu: false, residual: false, relu_sum: false, pool: None };
        for &node in &group.nodes {
            match self.graph.nodes[node].op {
                Op::Relu if norm.residual => norm.relu_sum = true,
                Op::Relu => norm.relu = true,
                Op::Add => norm.residual = true,
                Op::MaxPool(pool) => norm.pool = Some(pool),
                _ => {}
            }
        }
        norm
    }

    /// The gradient of a node's output as a destination: its value, and whether something wrote it before.
    fn destination(&mut self, node: NodeId) -> (usize, bool) {
        match self.gradient[node] {
            Some(value) => (self.read(value), true),
            None => {
                let value = self.value(node);
                self.gradient[node] = Some(value);
                (value, false)
            }
        }
    }

    /// As [`Builder::destination`], for steps that can only overwrite.
    fn fresh_destination(&mut self, node: NodeId) -> Result<usize, Error> {
        match self.destination(node) {
            (value, false) => Ok(value),
            _ => Err(Error::NoStep { node: self.graph.nodes[node].name.clone() }),
        }
    }

    fn backward(&mut self, group: &Group, step: &Forward) -> Result<Backward, Error> {
        let (first, last) = (group.nodes[0], group.nodes[group.nodes.len() - 1]);
        let source = self.graph.nodes[first].inputs[0];
        let missing = || Error::NoStep { node: self.graph.nodes[last].name.clone() };
        let dy = self.gradient[last].ok_or_else(missing)?;
        self.read(dy);
        Ok(match step.clone() {
            Forward::Conv { conv, x, filter, .. } => {
                self.read(x);
                let dx = (source != 0).then(|| self.destination(source));
                Backward::Conv { conv, x, dy, filter, dx }
            }
            Forward::Norm { norm, x, affine, statistic, y, winners, .. } => {
                self.read(x);
                let y = (norm.relu_sum && norm.pool.is_none()).then(|| self.read(y));
                let residual = match group.residual {
                    None => Residual::None,
                    Some(other) if norm.pool.is_none() && self.gradient[other].is_none() => {
                        self.gradient[other] = Some(dy);
                        Residual::InPlace
                    }
                    Some(other) => match self.destination(other) {
                        (value, false) => Residual::Overwrite(value),
                        (value, true) => Residual::Accumulate(value),
                    },
                };
                let dx = self.fresh_destination(source)?;
                Backward::Norm { norm, x, y, winners, affine, statistic, dy, dx, residual }
            }
            Forward::AveragePool { pool, .. } => {
                Backward::AveragePool { pool, dy, dx: self.fresh_destination(source)? }
            }
            Forward::Linear { linear, x, weight, bias, .. } => {
                self.read(x);
                Backward::Linear { linear, x, dy, weight, bias, dx: self.fresh_destination(source)? }
            }
        })
    }
}

/// Buffers for values whose lives do not overlap: (elements of each, the buffer of each value). Largest first,
/// so a buffer is as large as its first tenant and small values fill the gaps.
fn assign(values: &[Value]) -> (Vec<usize>, Vec<Slot>) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|&v| std::cmp::Reverse(values[v].elements));
    let (mut slots, mut tenants, mut place) = (vec![], Vec::<Vec<usize>>::new(), vec![0; values.len()]);
    for v in order {
        let apart = |&t: &usize| values[t].last < values[v].first || values[v].last < values[t].first;
        let slot = tenants.iter().position(|t| t.iter().all(apart)).unwrap_or_else(|| {
            slots.push(values[v].elements);
            tenants.push(vec![]);
            slots.len() - 1
        });
        tenants[slot].push(v);
        place[v] = slot;
    }
    (slots, place)
}

impl Forward {
    fn place(&mut self, place: &[Slot]) {
        match self {
            Forward::Norm { x, residual, y, .. } => {
                residual.iter_mut().chain([x, y]).for_each(|slot| *slot = place[*slot]);
            }
            Forward::Conv { x, y, .. } | Forward::AveragePool { x, y, .. } | Forward::Linear { x, y, .. } => {
                [x, y].into_iter().for_each(|slot| *slot = place[*slot]);
            }
        }
    }
}

impl Backward {
    fn place(&mut self, place: &[Slot]) {
        let apply = |slot: &mut Slot| *slot = place[*slot];
        match self {
            Backward::Conv { x, dy, dx, .. } => {
                dx.iter_mut().map(|(slot, _)| slot).chain([x, dy]).for_each(apply);
            }
            Backward::Norm { x, y, dy, dx, residual, .. } => {
                if let Residual::Overwrite(slot) | Residual::Accumulate(slot) = residual {
                    apply(slot);
                }
                y.iter_mut().chain([x, dy, dx]).for_each(apply);
            }
            Backward::AveragePool { dy, dx, .. } => [dy, dx].into_iter().for_each(apply),
            Backward::Linear { x, dy, dx, .. } => [x, dy, dx].into_iter().for_each(apply),
        }
    }
}
