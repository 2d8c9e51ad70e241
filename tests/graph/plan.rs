//! Plans: walked step by step, with what each buffer holds worked out from the graph alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use fishmask::graph::network::{Batches, plans, shared_slots};
use fishmask::graph::plan::{Backward, Forward, Mode, Residual, Slot};
use fishmask::graph::{ConvSpec, Error, Graph, Init, Model, NodeId, Op, Plan, Shape, summary};
use fishmask::ops::Pool;

const MODELS: [Model; 3] = [Model::Resnet9, Model::Resnet18, Model::Resnet34];

/// What a buffer holds.
#[derive(Clone, Debug, PartialEq)]
enum Held {
    /// A node's output.
    Output(NodeId),
    /// A node's gradient, summed over these of its readers.
    Gradient(NodeId, BTreeSet<NodeId>),
}

/// A plan being walked.
struct Walk<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    slots: BTreeMap<Slot, Held>,
    winners: BTreeMap<usize, NodeId>,
}

type Checked = Result<(), String>;

fn ensure(condition: bool, what: impl FnOnce() -> String) -> Checked {
    if condition { Ok(()) } else { Err(what()) }
}

/// The second input of the Add among a step's nodes.
fn other_input(graph: &Graph, nodes: &[NodeId]) -> Option<NodeId> {
    let add = nodes.iter().find(|&&n| graph.nodes[n].op == Op::Add)?;
    graph.nodes[*add].inputs.iter().copied().find(|input| !nodes.contains(input))
}

impl Walk<'_> {
    fn write(&mut self, slot: Slot, held: Held) -> Checked {
        let (Held::Output(node) | Held::Gradient(node, _)) = &held;
        let needed = self.plan.batch * self.graph.nodes[*node].shape.elements();
        ensure(self.plan.slots[slot] >= needed, || format!("{held:?} does not fit slot {slot}"))?;
        self.slots.insert(slot, held);
        Ok(())
    }

    fn reads_output(&self, slot: Slot, node: NodeId) -> Checked {
        let held = self.slots.get(&slot);
        ensure(held == Some(&Held::Output(node)), || format!("slot {slot} holds {held:?}, not output {node}"))
    }

    /// A gradient is read only when every reader of its node has added its part.
    fn reads_gradient(&self, slot: Slot, node: NodeId) -> Checked {
        let readers = (0..self.graph.nodes.len()).filter(|&n| self.graph.nodes[n].inputs.contains(&node));
        let expected = Held::Gradient(node, readers.collect());
        let held = self.slots.get(&slot);
        ensure(held == Some(&expected), || format!("slot {slot} holds {held:?}, not {expected:?}"))
    }

    fn adds_gradient(&mut self, slot: Slot, node: NodeId, reader: NodeId, accumulate: bool) -> Checked {
        let mut parts = BTreeSet::from([reader]);
        if accumulate {
            match self.slots.get(&slot) {
                Some(Held::Gradient(there, before)) if *there == node => parts.extend(before),
                held => return Err(format!("adds to slot {slot}, which holds {held:?}")),
            }
        }
        self.write(slot, Held::Gradient(node, parts))
    }

    fn forward(&mut self, nodes: &[NodeId], step: &Forward) -> Checked {
        let graph = self.graph;
        let (first, last) = (nodes[0], nodes[nodes.len() - 1]);
        for pair in nodes.windows(2) {
            let readers = graph.nodes.iter().filter(|n| n.inputs.contains(&pair[0])).count();
            let chained = readers == 1 && graph.nodes[pair[1]].inputs.contains(&pair[0]);
            ensure(chained, || format!("nodes {pair:?} are no chain"))?;
        }
        let source = graph.nodes[first].inputs[0];
        let shape = graph.nodes[source].shape;
        let range = |p: usize| graph.layout.parameters[p].range();
        let (x, y) = match (&graph.nodes[first].op, step) {
            (
                &Op::Conv { r, stride, pad, filter },
                Forward::Conv { conv, x, filter: found, y, statistic },
            ) => {
                let geometry = (conv.n, Shape { h: conv.h, w: conv.w, c: conv.c }, conv.k);
                ensure(geometry == (self.plan.batch, shape, graph.nodes[first].shape.c), || {
                    format!("{conv:?}")
                })?;
                ensure((conv.r, conv.stride, conv.pad) == (r, stride, pad), || format!("{conv:?}"))?;
                ensure(*found == range(filter), || format!("filter at {found:?}"))?;
                let next = graph.nodes.iter().find(|n| n.inputs == [first]).map(|n| n.op);
                let Some(Op::BatchNorm { statistic: expected, .. }) = next else {
                    return Err(format!("no batch norm after conv {first}"));
                };
                ensure(*statistic == Some(expected), || format!("sums of {statistic:?}"))?;
                (*x, *y)
            }
            (
                &Op::BatchNorm { weight, bias, statistic },
                Forward::Norm { norm, x, residual, affine, statistic: found, y, winners },
            ) => {
                ensure(
                    (norm.n, Shape { h: norm.h, w: norm.w, c: norm.c }) == (self.plan.batch, shape),
                    || format!("{norm:?}"),
                )?;
                ensure((affine.weight.clone(), affine.bias.clone()) == (range(weight), range(bias)), || {
                    format!("{affine:?}")
                })?;
                ensure(*found == statistic, || format!("statistic {found}"))?;
                let ops: Vec<Op> = nodes[1..].iter().map(|&n| graph.nodes[n].op).collect();
                let mut expected = vec![];
                expected.extend(norm.relu.then_some(Op::Relu));
                expected.extend(norm.residual.then_some(Op::Add));
                expected.extend(norm.relu_sum.then_some(Op::Relu));
                expected.extend(norm.pool.map(Op::MaxPool));
                ensure(ops == expected, || format!("{norm:?} for {ops:?}"))?;
                let other = other_input(graph, nodes);
                ensure(norm.residual == other.is_some() && residual.is_some() == other.is_some(), || {
                    format!("residual {residual:?} for {other:?}")
                })?;
                if let (Some(slot), Some(other)) = (residual, other) {
                    self.reads_output(*slot, other)?;
                    ensure(slot != y, || format!("slot {slot} read and written"))?;
                }
                let expected = norm.pool.is_some() && !self.plan.backward.is_empty();
                ensure(winners.is_some() == expected, || format!("winners {winners:?}"))?;
                if let Some(winners) = winners {
                    let needed = self.plan.batch * graph.nodes[last].shape.elements();
                    ensure(self.plan.winners[*winners] >= needed, || format!("winners {winners} too few"))?;
                    let taken = self.winners.insert(*winners, last);
                    ensure(taken.is_none(), || format!("winners {winners} of {taken:?} overwritten"))?;
                }
                (*x, *y)
            }
            (Op::GlobalAveragePool, Forward::AveragePool { pool, x, y }) => {
                ensure(
                    (pool.n, Shape { h: pool.h, w: pool.w, c: pool.c }) == (self.plan.batch, shape),
                    || format!("{pool:?}"),
                )?;
                (*x, *y)
            }
            (&Op::Linear { weight, bias }, Forward::Linear { linear, x, weight: found, bias: at, y }) => {
                let geometry = (linear.n, linear.c, linear.k);
                ensure(geometry == (self.plan.batch, shape.c, graph.nodes[first].shape.c), || {
                    format!("{linear:?}")
                })?;
                let scale = match nodes.get(1).map(|&n| graph.nodes[n].op) {
                    Some(Op::Scale(factor)) => factor,
                    _ => 1.0,
                };
                ensure(linear.scale == scale, || format!("{linear:?}"))?;
                ensure((found.clone(), at.clone()) == (range(weight), bias.map(range)), || {
                    format!("{found:?}")
                })?;
                (*x, *y)
            }
            (op, step) => return Err(format!("{step:?} for {op:?}")),
        };
        self.reads_output(x, source)?;
        ensure(x != y, || format!("slot {x} read and written"))?;
        self.write(y, Held::Output(last))
    }

    /// Checks a backward step against its forward step; returns the parameter ranges whose gradients it writes.
    fn backward(
        &mut self,
        nodes: &[NodeId],
        forward: &Forward,
        step: &Backward,
    ) -> Result<Vec<Range<usize>>, String> {
        let graph = self.graph;
        let (first, last) = (nodes[0], nodes[nodes.len() - 1]);
        let source = graph.nodes[first].inputs[0];
        match (forward, step) {
            (Forward::Conv { conv, filter, .. }, Backward::Conv { conv: found, x, dy, filter: at, dx }) => {
                ensure((conv, filter) == (found, at), || format!("{step:?} for {forward:?}"))?;
                self.reads_output(*x, source)?;
                self.reads_gradient(*dy, last)?;
                ensure(dx.is_none() == (source == 0), || format!("dx {dx:?} of node {source}"))?;
                if let Some((dx, accumulate)) = *dx {
                    ensure(dx != *x && dx != *dy, || format!("slot {dx} read and written"))?;
                    self.adds_gradient(dx, source, first, accumulate)?;
                }
                Ok(vec![filter.clone()])
            }
            (
                Forward::Norm { norm, affine, statistic, winners, .. },
                Backward::Norm { norm: n, x, y, winners: w, affine: a, statistic: s, dy, dx, residual },
            ) => {
                ensure((norm, affine, statistic, winners) == (n, a, s, w), || {
                    format!("{step:?} for {forward:?}")
                })?;
                self.reads_output(*x, source)?;
                self.reads_gradient(*dy, last)?;
                ensure(y.is_some() == (norm.relu_sum && norm.pool.is_none()), || format!("y {y:?}"))?;
                if let Some(y) = y {
                    self.reads_output(*y, last)?;
                }
                if let Some(w) = w {
                    ensure(self.winners.get(w) == Some(&last), || format!("winners {w} are another's"))?;
                }
                let read: Vec<Slot> = [*x, *dy].into_iter().chain(*y).collect();
                ensure(!read.contains(dx), || format!("slot {dx} read and written"))?;
                // The Add is the reader whose part this is.
                let add = nodes.iter().copied().find(|&n| graph.nodes[n].op == Op::Add);
                match (residual, other_input(graph, nodes), add) {
                    (Residual::None, None, None) => {}
                    (Residual::InPlace, Some(other), Some(add)) => {
                        ensure(norm.pool.is_none(), || "a pooled gradient in place".into())?;
                        self.adds_gradient(*dy, other, add, false)?;
                    }
                    (Residual::Overwrite(slot) | Residual::Accumulate(slot), Some(other), Some(add)) => {
                        ensure(!read.contains(slot) && slot != dx, || {
                            format!("slot {slot} read and written")
                        })?;
                        let accumulate = matches!(residual, Residual::Accumulate(_));
                        self.adds_gradient(*slot, other, add, accumulate)?;
                    }
                    found => return Err(format!("residual's gradient {found:?}")),
                }
                self.adds_gradient(*dx, source, first, false)?;
                Ok(vec![affine.weight.clone(), affine.bias.clone()])
            }
            (Forward::AveragePool { pool, .. }, Backward::AveragePool { pool: found, dy, dx }) => {
                ensure(pool == found && dx != dy, || format!("{step:?} for {forward:?}"))?;
                self.reads_gradient(*dy, last)?;
                self.adds_gradient(*dx, source, first, false)?;
                Ok(vec![])
            }
            (
                Forward::Linear { linear, weight, bias, .. },
                Backward::Linear { linear: l, x, dy, weight: w, bias: b, dx },
            ) => {
                ensure((linear, weight, bias) == (l, w, b), || format!("{step:?} for {forward:?}"))?;
                self.reads_output(*x, source)?;
                self.reads_gradient(*dy, last)?;
                ensure(dx != x && dx != dy, || format!("slot {dx} read and written"))?;
                self.adds_gradient(*dx, source, first, false)?;
                Ok([weight.clone()].into_iter().chain(bias.clone()).collect())
            }
            _ => Err(format!("{step:?} for {forward:?}")),
        }
    }
}

/// Walks a plan forward and backward.
fn walk(graph: &Graph, plan: &Plan, mode: Mode) -> Checked {
    ensure(plan.slots.is_sorted_by(|a, b| a >= b), || format!("slots {:?} are not sorted", plan.slots))?;
    let mut computed: Vec<NodeId> = plan.forward.iter().flat_map(|(nodes, _)| nodes.clone()).collect();
    computed.sort_unstable();
    ensure(computed == (1..graph.nodes.len()).collect::<Vec<_>>(), || {
        format!("computes nodes {computed:?}")
    })?;

    let mut walk = Walk { graph, plan, slots: BTreeMap::new(), winners: BTreeMap::new() };
    walk.write(plan.images, Held::Output(0))?;
    for (nodes, step) in &plan.forward {
        walk.forward(nodes, step)?;
    }
    let last = graph.nodes.len() - 1;
    walk.reads_output(plan.logits, last)?;
    ensure(plan.dlogits.is_some() == (mode != Mode::Inference), || format!("dlogits {:?}", plan.dlogits))?;
    let Some(dlogits) = plan.dlogits else {
        return ensure(plan.backward.is_empty() && plan.winners.is_empty(), || "a backward pass".into());
    };
    ensure(dlogits != plan.logits, || format!("slot {dlogits} read and written"))?;
    ensure(plan.backward.len() == plan.forward.len(), || format!("{} steps back", plan.backward.len()))?;
    for _ in 0..if mode == Mode::Scoring { 3 } else { 1 } {
        walk.reads_output(plan.logits, last)?;
        walk.write(dlogits, Held::Gradient(last, BTreeSet::new()))?;
        let mut written = vec![];
        for (step, (nodes, forward)) in plan.backward.iter().zip(plan.forward.iter().rev()) {
            written.extend(walk.backward(nodes, forward, step)?);
        }
        written.sort_by_key(|range| range.start);
        let expected: Vec<_> = graph.layout.parameters.iter().map(|p| p.range()).collect();
        ensure(written == expected, || "a gradient is missing or written twice".into())?;
    }
    Ok(())
}

#[test]
fn every_buffer_holds_what_is_read_from_it() {
    for model in MODELS {
        for (width, batch) in [(2, 3), (64, 512)] {
            let graph = model.graph(width).unwrap();
            for mode in [Mode::Inference, Mode::Training, Mode::Scoring] {
                let plan = Plan::new(&graph, batch, mode).unwrap();
                walk(&graph, &plan, mode).unwrap_or_else(|e| panic!("{model} {mode:?}: {e}"));
            }
            // A second backward pass needs what training lets go.
            let training = Plan::new(&graph, batch, Mode::Training).unwrap();
            assert!(walk(&graph, &training, Mode::Scoring).is_err());
        }
    }
}

/// Steps of a plan with every use of slot `from` turned to `to`.
fn redirect(plan: &Plan, from: Slot, to: Slot) -> Plan {
    let mut plan = plan.clone();
    let turn = |slot: &mut Slot| *slot = if *slot == from { to } else { *slot };
    for (_, step) in &mut plan.forward {
        match step {
            Forward::Conv { x, y, .. } | Forward::AveragePool { x, y, .. } | Forward::Linear { x, y, .. } => {
                [x, y].into_iter().for_each(turn);
            }
            Forward::Norm { x, residual, y, .. } => residual.iter_mut().chain([x, y]).for_each(turn),
        }
    }
    for step in &mut plan.backward {
        match step {
            Backward::Conv { x, dy, dx, .. } => {
                dx.iter_mut().map(|(slot, _)| slot).chain([x, dy]).for_each(turn);
            }
            Backward::Norm { x, y, dy, dx, residual, .. } => {
                y.iter_mut().chain([x, dy, dx]).for_each(turn);
                if let Residual::Overwrite(slot) | Residual::Accumulate(slot) = residual {
                    turn(slot);
                }
            }
            Backward::AveragePool { dy, dx, .. } => [dy, dx].into_iter().for_each(turn),
            Backward::Linear { x, dy, dx, .. } => [x, dy, dx].into_iter().for_each(turn),
        }
    }
    [&mut plan.images, &mut plan.logits].into_iter().chain(&mut plan.dlogits).for_each(turn);
    plan
}

/// The walk above finds what it is there to find.
#[test]
fn a_spoilt_plan_is_noticed() {
    for model in MODELS {
        let graph = model.graph(2).unwrap();
        let plan = Plan::new(&graph, 3, Mode::Training).unwrap();
        // No plan holds a slot that it could do without by sharing a larger one.
        for small in 1..plan.slots.len() {
            for large in 0..small {
                assert!(
                    walk(&graph, &redirect(&plan, small, large), Mode::Training).is_err(),
                    "{model} {small} {large}"
                );
            }
        }
        let mut spoilt = 0;
        for i in 0..plan.backward.len() {
            let mut other = plan.clone();
            match &mut other.backward[i] {
                Backward::Conv { dx: Some((_, accumulate)), .. } => *accumulate = !*accumulate,
                Backward::Norm { residual, .. } => match *residual {
                    Residual::Overwrite(slot) => *residual = Residual::Accumulate(slot),
                    Residual::Accumulate(slot) => *residual = Residual::Overwrite(slot),
                    _ => continue,
                },
                _ => continue,
            }
            spoilt += 1;
            assert!(
                walk(&graph, &other, Mode::Training).is_err(),
                "{model}: accumulation of step {i} reversed"
            );
        }
        assert!(spoilt >= 7, "{model}: {spoilt}");
        let mut other = plan.clone();
        other.forward.swap(2, 3);
        assert!(walk(&graph, &other, Mode::Training).is_err());
    }
}

#[test]
fn inference_takes_less_memory_and_shares_it() {
    for model in MODELS {
        let graph = model.graph(8).unwrap();
        let (training, inference) = plans(&graph, Batches { training: Some(12), inference: 12 }).unwrap();
        let training = training.unwrap();
        assert!(2 * inference.activation_bytes(4) < training.activation_bytes(4), "{model}");
        assert_eq!(shared_slots(Some(&training), &inference).len(), training.slots.len());
        assert_eq!(shared_slots(None, &inference), inference.slots);
        let (_, larger) = plans(&graph, Batches { training: None, inference: 100 }).unwrap();
        let shared = shared_slots(Some(&training), &larger);
        assert!(shared.is_sorted_by(|a, b| a >= b));
        for plan in [&training, &larger] {
            assert!(plan.slots.iter().zip(&shared).all(|(own, both)| own <= both), "{model}");
        }
        let own = training.slots.iter().sum::<usize>().max(larger.slots.iter().sum());
        let total: usize = shared.iter().sum();
        assert!(own <= total && total < training.slots.iter().chain(&larger.slots).sum(), "{model}");
    }
}

/// The 2.5 GB that training may take hold these, the weights three times (79 MB) and the convolutions' scratch.
#[test]
fn activations_of_a_full_batch_fit() {
    let graph = Model::Resnet9.graph(64).unwrap();
    let (training, inference) = plans(&graph, Batches { training: Some(512), inference: 500 }).unwrap();
    let training = training.unwrap();
    let slots = shared_slots(Some(&training), &inference);
    let winners: usize = training.winners.iter().sum();
    let bytes = 4 * slots.iter().sum::<usize>() + winners;
    println!("activations: {bytes} bytes, {winners} of them winners; slots {slots:?}");
    assert!(bytes < 1_800_000_000, "{bytes}");
    assert_eq!(training.activation_bytes(4), 4 * training.slots.iter().sum::<usize>() + winners);
}

#[test]
fn summary_counts_parameters_and_work() {
    for model in MODELS {
        let graph = model.graph(64).unwrap();
        let plan = Plan::new(&graph, 2, Mode::Training).unwrap();
        let rows = summary::rows(&graph, &plan);
        assert_eq!(
            rows.iter().map(|row| row.parameters).sum::<usize>(),
            graph.layout.weight_count(),
            "{model}"
        );
        assert_eq!(rows.len(), plan.forward.len());
    }
    let graph = Model::Resnet9.graph(64).unwrap();
    let plan = Plan::new(&graph, 512, Mode::Training).unwrap();
    let rows = summary::rows(&graph, &plan);
    // Pixels, filters, taps and a multiply-add's two operations, for each convolution in turn.
    let work = [
        32 * 32 * 64 * 27 * 2,
        32 * 32 * 128 * 576 * 2,
        16 * 16 * 128 * 1152 * 2,
        16 * 16 * 128 * 1152 * 2,
        16 * 16 * 256 * 1152 * 2,
        8 * 8 * 512 * 2304 * 2,
        4 * 4 * 512 * 4608 * 2,
        4 * 4 * 512 * 4608 * 2,
        512 * 10 * 2,
    ];
    let found: Vec<u64> = rows.iter().map(|row| row.flops).filter(|&flops| flops > 0).collect();
    assert_eq!(found, work);
    assert_eq!(summary::training_flops(&graph, &plan), 3 * work.iter().sum::<u64>() - work[0]);
    assert_eq!(summary::training_flops(&graph, &plan), 2_272_032_768);
}

const INPUT: Shape = Shape { h: 8, w: 6, c: 3 };
const SPEC: ConvSpec = ConvSpec { k: 4, r: 3, stride: 1, pad: 1, init: Init::Constant(0.5) };

#[track_caller]
fn assert_no_step(graph: &Graph, node: &str) {
    for mode in [Mode::Inference, Mode::Training, Mode::Scoring] {
        let error = Plan::new(graph, 2, mode).unwrap_err();
        assert!(matches!(&error, Error::NoStep { node: found } if found == node), "{error}");
        assert_eq!(error.to_string(), format!("{node}: no step computes this operation on its own"));
    }
}

#[test]
fn what_no_step_computes_is_an_error() {
    let (mut g, x) = Graph::new(INPUT);
    g.relu("lone", x);
    assert_no_step(&g, "lone");
    let (mut g, x) = Graph::new(INPUT);
    g.add("sum", x, x).unwrap();
    assert_no_step(&g, "sum");
    let (mut g, x) = Graph::new(INPUT);
    g.max_pool("pool", x, Pool::square(2)).unwrap();
    assert_no_step(&g, "pool");
    let (mut g, x) = Graph::new(INPUT);
    g.scale("times", x, 2.0);
    assert_no_step(&g, "times");
    // A ReLU whose input has another reader cannot join the batch norm.
    let (mut g, x) = Graph::new(INPUT);
    let x = g.conv("conv", x, SPEC).unwrap();
    let x = g.batch_norm("bn", x);
    let y = g.relu("relu", x);
    g.add("add", x, y).unwrap();
    assert_no_step(&g, "relu");
    // A batch norm added to itself is no residual.
    let (mut g, x) = Graph::new(INPUT);
    let x = g.conv("conv", x, SPEC).unwrap();
    let x = g.batch_norm("bn", x);
    g.add("twice", x, x).unwrap();
    assert_no_step(&g, "twice");
    // Only a convolution takes a batch norm's sums, and only for one.
    let (mut g, x) = Graph::new(INPUT);
    g.batch_norm("bn", x);
    assert_no_step(&g, "bn");
    let (mut g, x) = Graph::new(INPUT);
    let x = g.conv("conv", x, SPEC).unwrap();
    let a = g.batch_norm("one", x);
    let b = g.batch_norm("two", x);
    g.add("sum", a, b).unwrap();
    assert_no_step(&g, "two");
}

#[test]
fn what_does_not_fit_is_an_error() {
    let reason = |result: Result<NodeId, Error>| match result {
        Err(Error::Shape { node, reason }) => format!("{node}: {reason}"),
        other => panic!("{other:?}"),
    };
    let (mut g, x) = Graph::new(INPUT);
    let found = reason(g.conv("conv", x, ConvSpec { r: 9, ..SPEC }));
    assert_eq!(found, "conv: a 9x9 filter is larger than its 8x6 input with padding 1");
    let found = reason(g.max_pool("pool", x, Pool::square(7)));
    assert_eq!(found, "pool: a 7x7 window is larger than its 8x6 input");
    let found = reason(g.linear("linear", x, 10, true));
    assert_eq!(found, "linear: a linear layer needs one pixel, not 8x6x3");
    let y = g.conv("conv", x, SPEC).unwrap();
    assert_eq!(reason(g.add("sum", x, y)), "sum: cannot add 8x6x3 and 8x6x4");
    let (mut g, x) = Graph::new(Shape { h: 40, w: 40, c: 1 });
    let found = reason(g.max_pool("pool", x, Pool::square(16)));
    assert_eq!(found, "pool: a 16x16 window has more places than a byte can number");
    let found = reason(g.max_pool("pool", x, Pool { size: 2, stride: 2, pad: 2 }));
    assert_eq!(found, "pool: padding 2 is more than half of a 2x2 window");
    let found = reason(g.max_pool("pool", x, Pool { size: 2, stride: 0, pad: 0 }));
    assert_eq!(found, "pool: a stride of 0 never ends");
    let found = reason(g.conv("conv", x, ConvSpec { stride: 0, ..SPEC }));
    assert_eq!(found, "conv: a stride of 0 never ends");
    // What failed left nothing behind.
    assert_eq!((g.nodes.len(), g.layout.weight_count()), (1, 0));
}
