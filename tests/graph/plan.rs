//! Plans: walked step by step, with what each buffer holds worked out from the graph alone.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use fishmask::device::Cpu;
use fishmask::graph::network::{Batches, plans, shared_slots};
use fishmask::graph::plan::{Destination, Mode, Slot, Step};
use fishmask::graph::{Error, Graph, Init, Model, NodeId, Op, Shape, summary};
use fishmask::ops::{
    Add, AveragePool, BatchNorm, Conv, ConvLayer, Linear, LinearLayer, Norm, Pool, Relu, Scale,
};

type Plan = fishmask::graph::Plan<Cpu>;

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
    /// The node whose pass forward left each saved buffer.
    saved: BTreeMap<usize, NodeId>,
}

type Checked = Result<(), String>;

fn ensure(condition: bool, what: impl FnOnce() -> String) -> Checked {
    if condition { Ok(()) } else { Err(what()) }
}

/// Among a step's nodes the one that reads a node of another step beside the chain, and what it reads.
fn other_input(graph: &Graph, nodes: &[NodeId]) -> Option<(NodeId, NodeId)> {
    let reads = |&node: &NodeId| {
        let other = graph.nodes[node].inputs.iter().find(|input| !nodes.contains(input));
        other.map(|&input| (node, input))
    };
    nodes[1..].iter().find_map(reads)
}

/// An operation, and what its passes read and write beside its first input and its output.
struct Expected {
    operation: Box<dyn Any>,
    /// The operation's words.
    words: String,
    /// Whether the backward pass reads the first input and the output.
    reads: [bool; 2],
    /// Whether the gradient of the first input can be added to what is there, as only a convolution's can.
    accumulates: bool,
    /// Whether the second input's gradient can be in place.
    in_place: bool,
    saves: bool,
}

impl Expected {
    fn new<T: Any + std::fmt::Debug>(operation: T) -> Expected {
        let words = format!("{operation:?}");
        let reads = [true, false];
        Expected {
            operation: Box::new(operation),
            words,
            reads,
            accumulates: false,
            in_place: false,
            saves: false,
        }
    }

    /// What these nodes are to be computed by, worked out from their operations.
    fn of(graph: &Graph, nodes: &[NodeId], n: usize) -> Result<Expected, String> {
        let first = &graph.nodes[nodes[0]];
        let Shape { h, w, c } = graph.nodes[first.inputs[0]].shape;
        let rest: Vec<&Op> = nodes[1..].iter().map(|&node| &graph.nodes[node].op).collect();
        match (&first.op, &rest[..]) {
            (&Op::Conv(ConvLayer { k, r, stride, pad, .. }), []) => {
                let conv = Conv { n, h, w, c, k, r, stride, pad };
                Ok(Expected { accumulates: true, ..Expected::new(conv) })
            }
            (Op::BatchNorm(BatchNorm), rest) => {
                let mut norm = Norm { n, h, w, c, relu: false, residual: false, relu_sum: false, pool: None };
                for (place, op) in rest.iter().enumerate() {
                    match op {
                        Op::Relu(_) if place == 0 => norm.relu = true,
                        Op::Add(_) if place <= 1 => norm.residual = true,
                        Op::Relu(_) if norm.residual => norm.relu_sum = true,
                        Op::MaxPool(pool) if place + 1 == rest.len() => norm.pool = Some(*pool),
                        op => return Err(format!("{op:?} at {place} after a batch norm")),
                    }
                }
                let pooled = norm.pool.is_some();
                let reads = [true, norm.relu_sum && !pooled];
                Ok(Expected { reads, in_place: !pooled, saves: pooled, ..Expected::new(norm) })
            }
            (Op::GlobalAveragePool(_), []) => {
                Ok(Expected { reads: [false; 2], ..Expected::new(AveragePool { n, h, w, c }) })
            }
            (&Op::Linear(LinearLayer { k, .. }), []) => Ok(Expected::new(Linear { n, c, k, scale: 1.0 })),
            (&Op::Linear(LinearLayer { k, .. }), &[&Op::Scale(Scale(scale))]) => {
                Ok(Expected::new(Linear { n, c, k, scale }))
            }
            (op, rest) => Err(format!("{op:?} with {rest:?}")),
        }
    }

    fn is(&self, step: &Step<Cpu>) -> Checked {
        let same_type = (&*step.operation as &dyn Any).type_id() == (*self.operation).type_id();
        let words = format!("{:?}", step.operation);
        ensure(same_type && words == self.words, || format!("{words}, not {}", self.words))
    }
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

    fn forward(&mut self, step: &Step<Cpu>) -> Checked {
        let (graph, Step { nodes, operands, .. }) = (self.graph, step);
        let (first, last) = (nodes[0], nodes[nodes.len() - 1]);
        for pair in nodes.windows(2) {
            let readers = graph.nodes.iter().filter(|n| n.inputs.contains(&pair[0])).count();
            let chained = readers == 1 && graph.nodes[pair[1]].inputs.contains(&pair[0]);
            ensure(chained, || format!("nodes {pair:?} are no chain"))?;
        }
        let expected = Expected::of(graph, nodes, self.plan.batch)?;
        expected.is(step)?;
        // The parameters are those of the first node's name, in the layout's order.
        let own = |name: &str| name.rsplit_once('.').is_some_and(|(node, _)| node == graph.nodes[first].name);
        let parameters = graph.layout.parameters.iter().filter(|p| own(&p.name)).map(|p| p.range());
        ensure(operands.parameters == parameters.collect::<Vec<_>>(), || {
            format!("parameters at {:?}", operands.parameters)
        })?;
        // A batch norm's statistics, and where its convolution leaves the sums for them.
        let norm = match graph.nodes[first].op {
            Op::Conv(_) => graph.nodes.iter().find(|n| n.inputs == [first]),
            Op::BatchNorm(_) => Some(&graph.nodes[first]),
            _ => None,
        };
        let statistic = norm
            .and_then(|norm| graph.layout.statistics.iter().find(|statistic| statistic.name == norm.name));
        let range = statistic.map_or(0..0, |statistic| statistic.range());
        let needs = matches!(graph.nodes[first].op, Op::Conv(_) | Op::BatchNorm(_));
        ensure(operands.statistics == range && needs != range.is_empty(), || {
            format!("statistics at {:?}, not {range:?}", operands.statistics)
        })?;
        let inputs: Vec<NodeId> = graph.nodes[first]
            .inputs
            .iter()
            .copied()
            .chain(other_input(graph, nodes).map(|(_, input)| input))
            .collect();
        ensure(operands.inputs.len() == inputs.len(), || format!("inputs {:?}", operands.inputs))?;
        for (&slot, &input) in operands.inputs.iter().zip(&inputs) {
            self.reads_output(slot, input)?;
            ensure(slot != operands.output, || format!("slot {slot} read and written"))?;
        }
        let saves = expected.saves && self.plan.dlogits.is_some();
        ensure(operands.saved.is_some() == saves, || format!("saved {:?}", operands.saved))?;
        if let Some(saved) = operands.saved {
            let needed = self.plan.batch * graph.nodes[last].shape.elements();
            ensure(self.plan.saved[saved] >= needed, || format!("saved {saved} is too small"))?;
            let taken = self.saved.insert(saved, last);
            ensure(taken.is_none(), || format!("saved {saved} of {taken:?} overwritten"))?;
        }
        self.write(operands.output, Held::Output(last))
    }

    /// Checks a backward step; returns the parameter ranges whose gradients it writes.
    fn backward(&mut self, step: &Step<Cpu>) -> Result<Vec<Range<usize>>, String> {
        let (graph, Step { nodes, operands, .. }) = (self.graph, step);
        let gradients = step.gradients.as_ref().ok_or("a step without gradients")?;
        let (first, last) = (nodes[0], nodes[nodes.len() - 1]);
        let source = graph.nodes[first].inputs[0];
        let expected = Expected::of(graph, nodes, self.plan.batch)?;
        let (x, y, dy) = (operands.inputs[0], operands.output, gradients.output);
        self.reads_gradient(dy, last)?;
        let mut read = vec![dy];
        if expected.reads[0] {
            self.reads_output(x, source)?;
            read.push(x);
        }
        if expected.reads[1] {
            self.reads_output(y, last)?;
            read.push(y);
        }
        if let Some(saved) = operands.saved {
            ensure(self.saved.get(&saved) == Some(&last), || format!("saved {saved} is another's"))?;
        }
        let written: Vec<Slot> = gradients.inputs.iter().filter_map(Destination::slot).collect();
        let distinct = BTreeSet::from_iter(read.iter().chain(&written)).len() == read.len() + written.len();
        ensure(distinct, || format!("slots {read:?} read and {written:?} written"))?;
        // The node that brought the second input along is the reader whose part its gradient is.
        match (gradients.inputs.get(1), other_input(graph, nodes)) {
            (None, None) => {}
            (Some(Destination::InPlace), Some((reader, other))) if expected.in_place => {
                self.adds_gradient(dy, other, reader, false)?;
            }
            (Some(Destination::Overwrite(slot)), Some((reader, other))) => {
                self.adds_gradient(*slot, other, reader, false)?;
            }
            (Some(Destination::Accumulate(slot)), Some((reader, other))) => {
                self.adds_gradient(*slot, other, reader, true)?;
            }
            found => return Err(format!("second input's gradient {found:?}")),
        }
        match gradients.inputs[0] {
            Destination::Nowhere if source == 0 => {}
            Destination::Overwrite(slot) if source != 0 => self.adds_gradient(slot, source, first, false)?,
            Destination::Accumulate(slot) if source != 0 && expected.accumulates => {
                self.adds_gradient(slot, source, first, true)?;
            }
            found => return Err(format!("the gradient of node {source} goes to {found:?}")),
        }
        Ok(operands.parameters.clone())
    }
}

/// Walks a plan forward and backward.
fn walk(graph: &Graph, plan: &Plan, mode: Mode) -> Checked {
    ensure(plan.slots.is_sorted_by(|a, b| a >= b), || format!("slots {:?} are not sorted", plan.slots))?;
    let mut computed: Vec<NodeId> = plan.steps.iter().flat_map(|step| step.nodes.clone()).collect();
    computed.sort_unstable();
    ensure(computed == (1..graph.nodes.len()).collect::<Vec<_>>(), || {
        format!("computes nodes {computed:?}")
    })?;

    let mut walk = Walk { graph, plan, slots: BTreeMap::new(), saved: BTreeMap::new() };
    walk.write(plan.images, Held::Output(0))?;
    for step in &plan.steps {
        walk.forward(step)?;
    }
    let last = graph.nodes.len() - 1;
    walk.reads_output(plan.logits, last)?;
    ensure(plan.dlogits.is_some() == (mode != Mode::Inference), || format!("dlogits {:?}", plan.dlogits))?;
    let Some(dlogits) = plan.dlogits else {
        let backward = plan.steps.iter().any(|step| step.gradients.is_some());
        return ensure(!backward && plan.saved.is_empty(), || "a backward pass".into());
    };
    ensure(dlogits != plan.logits, || format!("slot {dlogits} read and written"))?;
    for _ in 0..if mode == Mode::Scoring { 3 } else { 1 } {
        walk.reads_output(plan.logits, last)?;
        walk.write(dlogits, Held::Gradient(last, BTreeSet::new()))?;
        let mut written = vec![];
        for step in plan.steps.iter().rev() {
            written.extend(walk.backward(step)?);
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

/// Turns every use of slot `from` to `to`.
fn redirect(mut plan: Plan, from: Slot, to: Slot) -> Plan {
    let turn = |slot: &mut Slot| *slot = if *slot == from { to } else { *slot };
    for step in &mut plan.steps {
        step.operands.inputs.iter_mut().chain([&mut step.operands.output]).for_each(turn);
        let gradients = step.gradients.as_mut().unwrap();
        turn(&mut gradients.output);
        for to in &mut gradients.inputs {
            if let Destination::Overwrite(slot) | Destination::Accumulate(slot) = to {
                turn(slot);
            }
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
        let plan = || Plan::new(&graph, 3, Mode::Training).unwrap();
        let (slots, steps) = (plan().slots.len(), plan().steps.len());
        let is_noticed = |spoilt: &Plan| walk(&graph, spoilt, Mode::Training).is_err();
        // No plan holds a slot that it could do without by sharing a larger one.
        for small in 1..slots {
            for large in 0..small {
                assert!(is_noticed(&redirect(plan(), small, large)), "{model} {small} {large}");
            }
        }
        let mut spoilt = 0;
        for (i, input) in (0..steps).flat_map(|i| [(i, 0), (i, 1)]) {
            let mut other = plan();
            let Some(to) = other.steps[i].gradients.as_mut().unwrap().inputs.get_mut(input) else { continue };
            *to = match *to {
                Destination::Overwrite(slot) => Destination::Accumulate(slot),
                Destination::Accumulate(slot) => Destination::Overwrite(slot),
                Destination::Nowhere | Destination::InPlace => continue,
            };
            spoilt += 1;
            assert!(is_noticed(&other), "{model}: accumulation of step {i} reversed");
        }
        assert!(spoilt >= 7, "{model}: {spoilt}");
        let mut other = plan();
        other.steps.swap(2, 3);
        assert!(is_noticed(&other));
        let mut other = plan();
        other.steps[0].operands.statistics = 2..4;
        assert!(is_noticed(&other));
        let mut other = plan();
        other.steps[1].operands.parameters.swap(0, 1);
        assert!(is_noticed(&other));
    }
}

#[test]
fn inference_takes_less_memory_and_shares_it() {
    for model in MODELS {
        let graph = model.graph(8).unwrap();
        let (training, inference) =
            plans::<Cpu>(&graph, Batches { training: Some(12), inference: 12 }).unwrap();
        let training = training.unwrap();
        assert!(2 * inference.activation_bytes(4) < training.activation_bytes(4), "{model}");
        assert_eq!(shared_slots(Some(&training), &inference).len(), training.slots.len());
        assert_eq!(shared_slots(None, &inference), inference.slots);
        let (_, larger) = plans::<Cpu>(&graph, Batches { training: None, inference: 100 }).unwrap();
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

/// The 2.5 GB that training may take hold these, the weights three times (79 MB) and the convolutions'
/// scratch.
#[test]
fn activations_of_a_full_batch_fit() {
    let graph = Model::Resnet9.graph(64).unwrap();
    let (training, inference) =
        plans::<Cpu>(&graph, Batches { training: Some(512), inference: 500 }).unwrap();
    let training = training.unwrap();
    let slots = shared_slots(Some(&training), &inference);
    let winners: usize = training.saved.iter().sum();
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
        assert_eq!(rows.len(), plan.steps.len());
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
    assert_eq!(summary::training_flops(&plan), 3 * work.iter().sum::<u64>() - work[0]);
    assert_eq!(summary::training_flops(&plan), 2_272_032_768);
}

const INPUT: Shape = Shape { h: 8, w: 6, c: 3 };
const SPEC: ConvLayer = ConvLayer { k: 4, r: 3, stride: 1, pad: 1, init: Init::Constant(0.5) };

#[track_caller]
fn assert_no_step(graph: &Graph, node: &str) {
    for mode in [Mode::Inference, Mode::Training, Mode::Scoring] {
        let error = Plan::new(graph, 2, mode).err().unwrap();
        assert!(matches!(&error, Error::NoStep { node: found } if found == node), "{error}");
        assert_eq!(error.to_string(), format!("{node}: no step computes this operation on its own"));
    }
}

#[test]
fn what_no_step_computes_is_an_error() {
    let (mut g, x) = Graph::new(INPUT);
    g.layer("lone", &[x], Relu).unwrap();
    assert_no_step(&g, "lone");
    let (mut g, x) = Graph::new(INPUT);
    g.layer("sum", &[x, x], Add).unwrap();
    assert_no_step(&g, "sum");
    let (mut g, x) = Graph::new(INPUT);
    g.layer("pool", &[x], Pool::square(2)).unwrap();
    assert_no_step(&g, "pool");
    let (mut g, x) = Graph::new(INPUT);
    g.layer("times", &[x], Scale(2.0)).unwrap();
    assert_no_step(&g, "times");
    // A ReLU whose input has another reader cannot join the batch norm.
    let (mut g, x) = Graph::new(INPUT);
    let x = g.layer("conv", &[x], SPEC).unwrap();
    let x = g.layer("bn", &[x], BatchNorm).unwrap();
    let y = g.layer("relu", &[x], Relu).unwrap();
    g.layer("add", &[x, y], Add).unwrap();
    assert_no_step(&g, "relu");
    // A batch norm added to itself is no residual.
    let (mut g, x) = Graph::new(INPUT);
    let x = g.layer("conv", &[x], SPEC).unwrap();
    let x = g.layer("bn", &[x], BatchNorm).unwrap();
    g.layer("twice", &[x, x], Add).unwrap();
    assert_no_step(&g, "twice");
    // Only a convolution takes a batch norm's sums, and only for one.
    let (mut g, x) = Graph::new(INPUT);
    g.layer("bn", &[x], BatchNorm).unwrap();
    assert_no_step(&g, "bn");
    let (mut g, x) = Graph::new(INPUT);
    let x = g.layer("conv", &[x], SPEC).unwrap();
    let a = g.layer("one", &[x], BatchNorm).unwrap();
    let b = g.layer("two", &[x], BatchNorm).unwrap();
    g.layer("sum", &[a, b], Add).unwrap();
    assert_no_step(&g, "two");
}

#[test]
fn what_does_not_fit_is_an_error() {
    let reason = |result: Result<NodeId, Error>| match result {
        Err(Error::Shape { node, reason }) => format!("{node}: {reason}"),
        other => panic!("{other:?}"),
    };
    let (mut g, x) = Graph::new(INPUT);
    let found = reason(g.layer("conv", &[x], ConvLayer { r: 9, ..SPEC }));
    assert_eq!(found, "conv: a 9x9 filter is larger than its 8x6 input with padding 1");
    let found = reason(g.layer("pool", &[x], Pool::square(7)));
    assert_eq!(found, "pool: a 7x7 window is larger than its 8x6 input");
    let found = reason(g.layer("linear", &[x], LinearLayer { k: 10, bias: true }));
    assert_eq!(found, "linear: a linear layer needs one pixel, not 8x6x3");
    let y = g.layer("conv", &[x], SPEC).unwrap();
    assert_eq!(reason(g.layer("sum", &[x, y], Add)), "sum: cannot add 8x6x3 and 8x6x4");
    let (mut g, x) = Graph::new(Shape { h: 40, w: 40, c: 1 });
    let found = reason(g.layer("pool", &[x], Pool::square(16)));
    assert_eq!(found, "pool: a 16x16 window has more places than a byte can number");
    let found = reason(g.layer("pool", &[x], Pool { size: 2, stride: 2, pad: 2 }));
    assert_eq!(found, "pool: padding 2 is more than half of a 2x2 window");
    let found = reason(g.layer("pool", &[x], Pool { size: 2, stride: 0, pad: 0 }));
    assert_eq!(found, "pool: a stride of 0 never ends");
    let found = reason(g.layer("conv", &[x], ConvLayer { stride: 0, ..SPEC }));
    assert_eq!(found, "conv: a stride of 0 never ends");
    // What failed left nothing behind.
    assert_eq!((g.nodes.len(), g.layout.weight_count()), (1, 0));
}
