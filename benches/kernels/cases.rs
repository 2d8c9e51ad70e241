//! The operations and shapes, and how each is timed.

use std::sync::Arc;

use fishmask::data::synthetic;
use fishmask::device::Cpu;
use fishmask::device::driver::Driver;
use fishmask::device::{Array, Buffers, Cuda, Error, Vector};
use fishmask::graph::plan::Mode;
use fishmask::graph::{Model, Plan};
use fishmask::ops::top_k::{TopK, TopKScratch};
use fishmask::ops::{
    Affine, AugmentOps, AveragePool, Conv, ConvDgrad, ConvFprop, ConvOps, ConvWgrad, Groups, In, Linear,
    LinearForward, LinearOps, LinearParameters, Loss, LossOps, Norm, NormBackward, NormForward, NormOps, Out,
    PoolOps, Position, Power, ResidualGradient, Totals, Work,
};
use fishmask::optim::{Moves, RateOps, Sgd, SgdBuffers, SgdOps};
use fishmask::rng::{Purpose, Stream};
use half::f16;
use serde_json::{Value, json};

/// One operation at one shape.
pub struct Case {
    /// Unique.
    pub name: String,
    /// Operations whose ratios are averaged.
    pub group: &'static str,
    /// Floating-point operations; 0 where memory is all that counts.
    pub flops: f64,
    /// Bytes that must be moved.
    pub bytes: f64,
    /// The shape for the peer.
    pub shape: Value,
    operation: Operation,
}

#[derive(Clone, Copy)]
enum Operation {
    Fprop(Conv),
    Dgrad(Conv),
    Wgrad(Conv),
    Score(Conv),
    NormForward(Norm),
    NormBackward(Norm),
    AveragePool(AveragePool),
    Linear(Linear),
    Loss(Loss),
    Augment(usize),
    Sgd(usize),
    TopK { n: usize, k: usize },
}

/// The shapes of the three networks.
pub struct Shapes {
    convs: Vec<Conv>,
    norms: Vec<Norm>,
    width: usize,
    batch: usize,
    parameters: [usize; 2],
}

impl Shapes {
    /// Those of training steps of the three models.
    pub fn new(batch: usize, width: usize) -> Result<Shapes, fishmask::graph::Error> {
        let (mut convs, mut norms) = (vec![], vec![]);
        let mut parameters = vec![];
        for model in [Model::Resnet9, Model::Resnet18, Model::Resnet34] {
            let graph = model.graph(width)?;
            let plan = Plan::<Cpu>::new(&graph, batch, Mode::Training)?;
            for conv in plan.operations::<Conv>() {
                if !convs.contains(&conv) {
                    convs.push(conv);
                }
            }
            for norm in plan.operations::<Norm>() {
                if !norms.contains(&norm) {
                    norms.push(norm);
                }
            }
            parameters.push(graph.layout.weight_count());
        }
        Ok(Shapes { convs, norms, width, batch, parameters: [parameters[0], parameters[2]] })
    }

    /// Every operation at every shape.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases = vec![];
        for conv in &self.convs {
            cases.extend(conv_cases(conv));
        }
        for norm in &self.norms {
            cases.extend(norm_cases(norm));
        }
        let (n, c) = (self.batch, 8 * self.width);
        let pool = AveragePool { n, h: 2, w: 2, c };
        let group = "memory-bound";
        let case = |name: String, flops, bytes, shape, operation| Case {
            name,
            group,
            flops,
            bytes,
            shape,
            operation,
        };
        let shape = json!({"op": "average_pool", "n": n, "h": 2, "w": 2, "c": c});
        let bytes = (2 * n * c * 5) as f64;
        cases.push(case(format!("average pool 2x2x{c}"), 0.0, bytes, shape, Operation::AveragePool(pool)));
        let linear = Linear { n, c, k: 10, scale: 0.125 };
        let shape = json!({"op": "linear", "n": n, "c": c, "k": 10});
        let bytes = (2 * n * (c + 10) + 4 * c * 10) as f64;
        cases.push(case(format!("linear {c}->10"), 0.0, bytes, shape, Operation::Linear(linear)));
        let loss = Loss { n, classes: 10, smoothing: 0.0 };
        let shape = json!({"op": "loss", "n": n, "classes": 10});
        cases.push(case("softmax cross-entropy".into(), 0.0, (n * 41) as f64, shape, Operation::Loss(loss)));
        let shape = json!({"op": "augment", "n": n});
        let bytes = (n * 3072 * 3) as f64;
        cases.push(case("augmentation 32x32x3".into(), 0.0, bytes, shape, Operation::Augment(n)));
        for parameters in self.parameters {
            // Reads weight, velocity and gradient; writes the first two and the rounded weight.
            let shape = json!({"op": "sgd", "n": parameters});
            let bytes = parameters as f64 * 22.0;
            cases.push(case(format!("sgd {parameters}"), 0.0, bytes, shape, Operation::Sgd(parameters)));
        }
        let n = self.parameters[1];
        for share in [0.005, 0.02, 0.1] {
            let k = (n as f64 * share) as usize;
            let shape = json!({"op": "top_k", "n": n, "k": k});
            // Scores once, indices once.
            let bytes = (4 * n + 4 * k) as f64;
            let operation = Operation::TopK { n, k };
            cases.push(Case {
                group: "top-k",
                ..case(format!("top-k {k} of {n}"), 0.0, bytes, shape, operation)
            });
        }
        cases
    }
}

fn conv_cases(conv: &Conv) -> [Case; 4] {
    let Conv { n, h, w, c, k, r, stride, pad } = *conv;
    let [x, y, filter] = [conv.inputs(), conv.outputs(), k * r * r * c].map(|elements| 2.0 * elements as f64);
    let case = |pass: &str, bytes, operation| Case {
        name: format!("conv {r}x{r}/{stride} {h}x{w} {c}->{k} {pass}"),
        group: "convolutions",
        flops: conv.flops() as f64,
        bytes,
        shape: json!({
            "op": pass, "n": n, "h": h, "w": w, "c": c, "k": k, "r": r, "stride": stride, "pad": pad,
        }),
        operation,
    };
    [
        case("fprop", x + filter + y, Operation::Fprop(*conv)),
        case("dgrad", x + filter + y, Operation::Dgrad(*conv)),
        // The gradient is f32.
        case("wgrad", x + 2.0 * filter + y, Operation::Wgrad(*conv)),
        // Scores are f32, read and written.
        Case { group: "scores", ..case("score", x + 4.0 * filter + y, Operation::Score(*conv)) },
    ]
}

fn norm_cases(norm: &Norm) -> [Case; 2] {
    let Norm { n, h, w, c, relu, residual, relu_sum, pool } = *norm;
    let x = (n * h * w * c) as f64;
    let y = pool.map_or(x, |pool| (n * pool.outputs(h) * pool.outputs(w) * c) as f64);
    let winners = if pool.is_some() { y } else { 0.0 };
    let parts = [
        (relu, " relu".to_string()),
        (residual, " add".to_string()),
        (relu_sum, " relu".to_string()),
        (pool.is_some(), pool.map_or(String::new(), |pool| format!(" pool{}/{}", pool.size, pool.stride))),
    ];
    let parts: String = parts.into_iter().filter(|(present, _)| *present).map(|(_, name)| name).collect();
    let shape = |op: &str| {
        let pool = pool.map(|pool| [pool.size, pool.stride, pool.pad]);
        json!({
            "op": op, "n": n, "h": h, "w": w, "c": c,
            "relu": relu, "residual": residual, "relu_sum": relu_sum, "pool": pool,
        })
    };
    let second = if residual { x } else { 0.0 };
    // Each of two passes reads x and dy (and what it needs of the mask); the second writes dx, the first the
    // residual's.
    let mask = if relu_sum && pool.is_none() { y } else { 0.0 };
    let backward = 2.0 * (2.0 * (x + y) + x + second + 2.0 * mask) + 2.0 * winners;
    let case = |pass: &str, bytes, operation| Case {
        name: format!("norm{parts} {h}x{w}x{c} {pass}"),
        group: "memory-bound",
        flops: 0.0,
        bytes,
        shape: shape(&format!("norm_{pass}")),
        operation,
    };
    [
        case("forward", 2.0 * (x + second + y) + winners, Operation::NormForward(*norm)),
        case("backward", backward, Operation::NormBackward(*norm)),
    ]
}

/// Buffers of a fused batch norm, with statistics of about 0 and 1.
struct NormBuffers<D: Driver> {
    x: Array<D, f16>,
    residual: Array<D, f16>,
    weights: Vector<D>,
    affine: Affine,
    statistics: Vector<D>,
    y: Array<D, f16>,
    winners: Array<D, u8>,
    gradients: Vector<D>,
}

impl<D: Driver> NormBuffers<D> {
    fn new(
        backend: &Cuda<D>,
        norm: &Norm,
        noise: &mut impl FnMut(usize, f32) -> Vec<f32>,
    ) -> Result<Self, Error> {
        let (c, inputs, outputs) = (norm.c, norm.n * norm.h * norm.w * norm.c, norm.outputs());
        let [mut x, mut residual] = [backend.tensor(inputs)?, backend.tensor(inputs)?];
        backend.write_tensor(&noise(inputs, 1.0), &mut x)?;
        backend.write_tensor(&noise(inputs, 1.0), &mut residual)?;
        let mut statistics = noise(c, 0.1);
        statistics.resize(2 * c, 1.0);
        Ok(NormBuffers {
            x,
            residual,
            weights: backend.upload_weights(&noise(2 * c, 1.0))?,
            affine: Affine { weight: 0..c, bias: c..2 * c },
            statistics: backend.vector(&statistics)?,
            y: backend.tensor(outputs)?,
            winners: backend.bytes(outputs)?,
            gradients: backend.vector(&vec![0.0; 2 * c])?,
        })
    }
}

/// Buffers in use together exceed this, so that no cache holds what a call reads.
const ROTATION: f64 = 512e6;

/// One call on buffers of its own.
type Call<'a, D> = Box<dyn FnMut(&mut Cuda<D>) -> Result<(), Error> + 'a>;

impl Case {
    /// Median seconds of a call, from recordings of several calls on rotating buffers.
    pub fn measure<D: Driver>(&self, backend: &mut Cuda<D>, samples: usize) -> Result<f64, Error> {
        let sets = ((ROTATION / self.bytes).ceil() as usize).clamp(1, 8);
        let mut calls = vec![];
        for set in 0..sets {
            calls.push(self.call(backend, set as u32)?);
        }
        // Launches are many enough that starting a recording does not count.
        let rounds = ((2e9 / self.bytes) as usize / sets).clamp(1, 32);
        for call in &mut calls {
            call(backend)?;
        }
        backend.record()?;
        let recorded = (0..rounds).try_for_each(|_| calls.iter_mut().try_for_each(|call| call(backend)));
        let recording = backend.recorded();
        recorded?;
        let Some(recording) = recording? else { return Ok(f64::NAN) };
        backend.replay(&recording)?;
        let mut seconds = vec![];
        for _ in 0..samples {
            let began = backend.driver().event()?;
            backend.replay(&recording)?;
            let ended = backend.driver().event()?;
            backend.driver().synchronize()?;
            seconds.push(backend.driver().elapsed(&began, &ended)? / (rounds * sets) as f64);
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[seconds.len() / 2])
    }

    fn call<'a, D: Driver + 'a>(&self, backend: &mut Cuda<D>, set: u32) -> Result<Call<'a, D>, Error> {
        let mut stream = Stream::new(set.into(), Purpose::Synthetic, 0, 0);
        let mut noise = |count: usize, scale: f32| -> Vec<f32> {
            // Few draws, many values: enough that no two products are alike.
            let drawn: Vec<f32> = (0..4099).map(|_| scale * stream.normal() as f32).collect();
            (0..count).map(|i| drawn[(i + i / 4099) % 4099]).collect()
        };
        let tensor = |backend: &Cuda<D>, values: Vec<f32>| {
            let mut tensor = backend.tensor(values.len())?;
            backend.write_tensor(&values, &mut tensor)?;
            Ok::<_, Error>(tensor)
        };
        Ok(match self.operation {
            Operation::Fprop(conv) => {
                backend.reserve(Cuda::<D>::conv_scratch(&conv, Work::Train))?;
                let filter = conv.k * conv.r * conv.r * conv.c;
                let x = tensor(backend, noise(conv.inputs(), 1.0))?;
                let weights = backend.upload_weights(&noise(filter, 0.05))?;
                let mut y = backend.tensor(conv.outputs())?;
                let mut sums = backend.sums(2 * conv.k)?;
                Box::new(move |backend| {
                    let filter = In { vector: &weights, at: 0..filter };
                    let sums = Some((&mut sums, 0..2 * conv.k));
                    backend.conv_fprop(&conv, ConvFprop { x: &x, filter, y: &mut y, sums })
                })
            }
            Operation::Dgrad(conv) => {
                backend.reserve(Cuda::<D>::conv_scratch(&conv, Work::Train))?;
                let filter = conv.k * conv.r * conv.r * conv.c;
                let dy = tensor(backend, noise(conv.outputs(), 1.0))?;
                let weights = backend.upload_weights(&noise(filter, 0.05))?;
                let mut dx = backend.tensor(conv.inputs())?;
                Box::new(move |backend| {
                    let filter = In { vector: &weights, at: 0..filter };
                    backend.conv_dgrad(&conv, ConvDgrad { dy: &dy, filter, dx: &mut dx, accumulate: false })
                })
            }
            Operation::Wgrad(conv) => {
                backend.reserve(Cuda::<D>::conv_scratch(&conv, Work::Train))?;
                let filter = conv.k * conv.r * conv.r * conv.c;
                let x = tensor(backend, noise(conv.inputs(), 1.0))?;
                let dy = tensor(backend, noise(conv.outputs(), 1.0))?;
                let mut gradients = backend.vector(&vec![0.0; filter])?;
                Box::new(move |backend| {
                    let into = Out::Gradients(&mut gradients);
                    backend.conv_wgrad(&conv, ConvWgrad { x: &x, dy: &dy, filter: 0..filter, into })
                })
            }
            Operation::Score(conv) => {
                backend.reserve(Cuda::<D>::conv_scratch(&conv, Work::Score))?;
                let filter = conv.k * conv.r * conv.r * conv.c;
                let x = tensor(backend, noise(conv.inputs(), 1.0))?;
                let dy = tensor(backend, noise(conv.outputs(), 1.0))?;
                let mut scores = backend.vector(&vec![0.0; filter])?;
                Box::new(move |backend| {
                    let into = Out::Scores(Power::Square, &mut scores);
                    backend.conv_wgrad(&conv, ConvWgrad { x: &x, dy: &dy, filter: 0..filter, into })
                })
            }
            Operation::NormForward(norm) => {
                let b = NormBuffers::new(backend, &norm, &mut noise)?;
                let NormBuffers { x, residual, weights, affine, statistics, mut y, mut winners, .. } = b;
                Box::new(move |backend| {
                    backend.norm_forward(
                        &norm,
                        NormForward {
                            x: &x,
                            residual: norm.residual.then_some(&residual),
                            weights: &weights,
                            affine: &affine,
                            groups: Groups::Batch,
                            statistics: &statistics,
                            at: 0..2 * norm.c,
                            y: &mut y,
                            winners: norm.pool.map(|_| &mut winners),
                        },
                    )
                })
            }
            Operation::NormBackward(norm) => {
                backend.reserve(Cuda::<D>::norm_scratch(&norm, Work::Train))?;
                let b = NormBuffers::new(backend, &norm, &mut noise)?;
                let NormBuffers {
                    x,
                    mut residual,
                    weights,
                    affine,
                    statistics,
                    mut y,
                    mut winners,
                    mut gradients,
                } = b;
                backend.norm_forward(
                    &norm,
                    NormForward {
                        x: &x,
                        residual: norm.residual.then_some(&residual),
                        weights: &weights,
                        affine: &affine,
                        groups: Groups::Batch,
                        statistics: &statistics,
                        at: 0..2 * norm.c,
                        y: &mut y,
                        winners: norm.pool.map(|_| &mut winners),
                    },
                )?;
                let outputs = norm.outputs();
                let mut dy = tensor(backend, noise(outputs, 1.0))?;
                let mut dx = backend.tensor(norm.n * norm.h * norm.w * norm.c)?;
                Box::new(move |backend| {
                    backend.norm_backward(
                        &norm,
                        NormBackward {
                            x: &x,
                            y: (norm.relu_sum && norm.pool.is_none()).then_some(&y),
                            winners: norm.pool.map(|_| &winners),
                            weights: &weights,
                            affine: &affine,
                            statistics: &statistics,
                            constant: false,
                            at: 0..2 * norm.c,
                            dy: &mut dy,
                            dx: &mut dx,
                            residual: match norm.residual {
                                true => ResidualGradient::Overwrite(&mut residual),
                                false => ResidualGradient::None,
                            },
                            into: Out::Gradients(&mut gradients),
                        },
                    )
                })
            }
            Operation::AveragePool(pool) => {
                let x = tensor(backend, noise(pool.n * pool.h * pool.w * pool.c, 1.0))?;
                let mut y = backend.tensor(pool.n * pool.c)?;
                Box::new(move |backend| backend.average_pool_forward(&pool, &x, &mut y))
            }
            Operation::Linear(linear) => {
                let (c, k) = (linear.c, linear.k);
                let x = tensor(backend, noise(linear.n * c, 1.0))?;
                let weights = backend.upload_weights(&noise(c * k, 0.05))?;
                let mut y = backend.tensor(linear.n * k)?;
                let parameters = LinearParameters { weight: 0..c * k, bias: None };
                Box::new(move |backend| {
                    let (weights, parameters) = (&weights, &parameters);
                    backend.linear_forward(&linear, LinearForward { x: &x, weights, parameters, y: &mut y })
                })
            }
            Operation::Loss(loss) => {
                let logits = tensor(backend, noise(loss.n * loss.classes, 1.0))?;
                let labels = backend.bytes(loss.n)?;
                let mut dlogits = backend.tensor(loss.n * loss.classes)?;
                backend.set_totals(Totals::default())?;
                Box::new(move |backend| {
                    backend.softmax_cross_entropy(&loss, &logits, &labels, Some(&mut dlogits))
                })
            }
            Operation::Augment(n) => {
                // The batches drawn while timing stay within the split.
                let split = Arc::new(synthetic::dataset(64 * n, 1, 0).train);
                let mut data = backend.data(&split, Some((n, set.into())))?;
                backend.seek(&mut data, Position::default())?;
                let mut images = backend.tensor(n * 3072)?;
                let mut labels = backend.bytes(n)?;
                Box::new(move |backend| backend.next_batch(&mut data, n, &mut images, &mut labels))
            }
            Operation::Sgd(n) => {
                let gradients = backend.vector(&noise(n, 1.0))?;
                let mut velocity = backend.vector(&vec![0.0; n])?;
                let mut weights = backend.upload_weights(&noise(n, 0.05))?;
                backend.set_rates(&vec![1e-6; 1 << 16], 0)?;
                let sgd = Sgd { momentum: 0.9, weight_decay: 0.0 };
                Box::new(move |backend| {
                    backend.sgd(
                        &sgd,
                        Moves::All,
                        SgdBuffers { gradients: &gradients, velocity: &mut velocity, weights: &mut weights },
                    )
                })
            }
            Operation::TopK { n, k } => {
                let scores: Vec<f32> = (0..n)
                    .map(|i| {
                        Stream::new(u64::from(set) + 1, Purpose::Synthetic, 0, i as u32).uniform().powi(8)
                    })
                    .collect();
                let scores = backend.vector(&scores)?;
                let mut indices = Array::new(backend.driver(), k)?;
                let mut scratch = TopKScratch::new(backend.driver(), n)?;
                Box::new(move |backend| {
                    let (scores, indices, scratch) = (&scores.values, &mut indices, &mut scratch);
                    backend.top_k_by(n, k, TopK { scores, indices, scratch })
                })
            }
        })
    }
}
