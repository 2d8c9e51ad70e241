//! Scores on the CPU: each sample's squared gradient for every convolution of the networks, beside the fprop and dgrad
//! that scoring needs too, in microseconds a sample (and GFLOP/s of direct convolution), and the top-k of resnet34's
//! parameters. Best of several runs.
//!
//! cargo bench --bench score_cpu -- [--threads T] [--runs R] [--batch N] [name part]...

use std::hint::black_box;
use std::time::Instant;

use fishmask::backend::cpu::Cpu;
use fishmask::backend::{Backend, Conv, Power, Sparse};
use fishmask::rng::{Purpose, Stream};

/// (name, how often, \[h, c, k, r, stride, pad\]); images are square.
type Layer = (&'static str, usize, [usize; 6]);

const NETWORKS: &[(&str, &[Layer])] = &[
    (
        "resnet34-w64",
        &[
            ("stem", 1, [32, 3, 64, 3, 1, 1]),
            ("layer1", 6, [16, 64, 64, 3, 1, 1]),
            ("layer2.0", 1, [16, 64, 128, 3, 2, 1]),
            ("layer2.0 shortcut", 1, [16, 64, 128, 1, 2, 0]),
            ("layer2", 7, [8, 128, 128, 3, 1, 1]),
            ("layer3.0", 1, [8, 128, 256, 3, 2, 1]),
            ("layer3.0 shortcut", 1, [8, 128, 256, 1, 2, 0]),
            ("layer3", 11, [4, 256, 256, 3, 1, 1]),
            ("layer4.0", 1, [4, 256, 512, 3, 2, 1]),
            ("layer4.0 shortcut", 1, [4, 256, 512, 1, 2, 0]),
            ("layer4", 5, [2, 512, 512, 3, 1, 1]),
        ],
    ),
    (
        "resnet9-w64",
        &[
            ("prep", 1, [32, 3, 64, 3, 1, 1]),
            ("layer1", 1, [32, 64, 128, 3, 1, 1]),
            ("residual1", 2, [16, 128, 128, 3, 1, 1]),
            ("layer2", 1, [16, 128, 256, 3, 1, 1]),
            ("layer3", 1, [8, 256, 512, 3, 1, 1]),
            ("residual3", 2, [4, 512, 512, 3, 1, 1]),
        ],
    ),
    (
        "resnet9-w16",
        &[
            ("prep", 1, [32, 3, 16, 3, 1, 1]),
            ("layer1", 1, [32, 16, 32, 3, 1, 1]),
            ("residual1", 2, [16, 32, 32, 3, 1, 1]),
            ("layer2", 1, [16, 32, 64, 3, 1, 1]),
            ("layer3", 1, [8, 64, 128, 3, 1, 1]),
            ("residual3", 2, [4, 128, 128, 3, 1, 1]),
        ],
    ),
];

fn main() {
    let (mut threads, mut runs, mut batch, mut parts) = (0, 5, 64, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = |what: &str| args.next().and_then(|v| v.parse().ok()).unwrap_or_else(|| usage(what));
        match arg.as_str() {
            "--bench" => {}
            "--threads" => threads = number(&arg),
            "--runs" => runs = number(&arg),
            "--batch" => batch = number(&arg),
            part if part.starts_with('-') => usage(part),
            part => parts.push(part.to_owned()),
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let Ok(pool) = pool else { usage("--threads") };
    pool.install(|| {
        let chosen = |name: &str| parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()));
        let head = format!("us a sample (GFLOP/s), batch {batch}");
        println!("{head:<42}{:>16}{:>16}{:>16}", "fprop", "dgrad", "score");
        for (network, layers) in NETWORKS {
            let mut totals = [0.0; 3];
            for &(name, times, [side, c, k, r, stride, pad]) in *layers {
                let name = format!("{network} {name}");
                if !chosen(&name) {
                    continue;
                }
                let conv = Conv { n: batch, h: side, w: side, c, k, r, stride, pad };
                let seconds = measure(&conv, runs).map(|s| s / batch as f64);
                let rate = |s: f64| conv.flops() as f64 / batch as f64 / s * 1e-9;
                let cells = seconds.map(|s| format!("{:.1} ({:.0})", s * 1e6, rate(s)));
                println!(
                    "{:<42}{:>16}{:>16}{:>16}",
                    format!("{name} x{times}"),
                    cells[0],
                    cells[1],
                    cells[2]
                );
                totals.iter_mut().zip(seconds).for_each(|(t, s)| *t += times as f64 * s);
            }
            let [f, d, s] = totals.map(|t| t * 1e6);
            println!("{:<42}{f:>16.1}{d:>16.1}{s:>16.1}", format!("{network}, every layer"));
        }
        if chosen("top-k") {
            top_k(runs);
        }
    });
}

fn usage(what: &str) -> ! {
    eprintln!("score_cpu: cannot read {what}; see the head of benches/score_cpu.rs");
    std::process::exit(2);
}

/// Best seconds of fprop, dgrad and score; one run more for the warm-up.
fn measure(conv: &Conv, runs: usize) -> [f64; 3] {
    let fill = |len: usize| (0..len).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect::<Vec<f32>>();
    let filter = conv.k * conv.r * conv.r * conv.c;
    let (x, dy, weights) = (fill(conv.inputs()), fill(conv.outputs()), fill(filter));
    let (mut y, mut dx) = (vec![0.0; conv.outputs()], vec![0.0; conv.inputs()]);
    let mut scores = vec![0.0; filter];
    let mut cpu = Cpu::new();
    let ready = cpu.reserve(&[*conv], &[]).and_then(|()| cpu.reserve_scoring(&[*conv], &[]));
    assert!(ready.is_ok(), "the CPU always has room");
    let mut best = [f64::INFINITY; 3];
    for run in 0..=runs {
        let start = Instant::now();
        let done = cpu.conv_fprop(conv, &x, &weights, 0..filter, &mut y, None);
        let fprop = start.elapsed();
        let done = done.and_then(|()| cpu.conv_dgrad(conv, &dy, &weights, 0..filter, &mut dx, false));
        let dgrad = start.elapsed();
        let done = done.and_then(|()| cpu.conv_score(conv, Power::Square, &x, &dy, &mut scores, 0..filter));
        let score = start.elapsed();
        assert!(done.is_ok(), "{conv:?}");
        black_box((&y, &dx, &scores));
        if run > 0 {
            let seconds = [fprop, dgrad - fprop, score - dgrad].map(|d| d.as_secs_f64());
            best.iter_mut().zip(seconds).for_each(|(b, s)| *b = b.min(s));
        }
    }
    best
}

/// Of 21,282,122 scores, skewed as Fisher's are.
fn top_k(runs: usize) {
    let mut stream = Stream::new(1, Purpose::Synthetic, 0, 0);
    let scores: Vec<f32> =
        (0..21_282_122).map(|_| (stream.normal() * stream.normal()).powi(2) as f32).collect();
    for ratio in [0.005, 0.02, 0.1, 0.5] {
        let k = (ratio * scores.len() as f64) as usize;
        let mut best = f64::INFINITY;
        for _ in 0..=runs {
            let start = Instant::now();
            let indices = Cpu::new().top_k(&scores, scores.len(), k);
            best = best.min(start.elapsed().as_secs_f64());
            assert!(indices.is_ok_and(|indices| indices.len() == k));
        }
        println!("top-k of {} scores, {:.1}%: {:.1} ms", scores.len(), ratio * 100.0, best * 1e3);
    }
}
