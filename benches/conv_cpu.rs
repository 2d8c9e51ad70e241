//! CPU convolutions at the networks' shapes, batch 128: milliseconds and GFLOP/s (operations of direct
//! convolution) of fprop with batch-normalisation sums, dgrad and wgrad, best of several runs.
//!
//! cargo bench --bench conv_cpu -- [--all-algorithms] [--threads T] [--runs R] [name part]...

use std::hint::black_box;
use std::time::Instant;

use fishmask::backend::Conv;
use fishmask::backend::cpu::conv::{self, Algorithm, Workspace};

/// (name, \[n, h, c, k, r, stride, pad\]); images are square.
const SHAPES: &[(&str, [usize; 7])] = &[
    ("resnet9-w16 prep", [128, 32, 3, 16, 3, 1, 1]),
    ("resnet9-w16 layer1", [128, 32, 16, 32, 3, 1, 1]),
    ("resnet9-w16 residual1", [128, 16, 32, 32, 3, 1, 1]),
    ("resnet9-w16 layer2", [128, 16, 32, 64, 3, 1, 1]),
    ("resnet9-w16 layer3", [128, 8, 64, 128, 3, 1, 1]),
    ("resnet9-w16 residual3", [128, 4, 128, 128, 3, 1, 1]),
    ("resnet9-w64 prep", [128, 32, 3, 64, 3, 1, 1]),
    ("resnet9-w64 layer1", [128, 32, 64, 128, 3, 1, 1]),
    ("resnet9-w64 residual1", [128, 16, 128, 128, 3, 1, 1]),
    ("resnet9-w64 layer2", [128, 16, 128, 256, 3, 1, 1]),
    ("resnet9-w64 layer3", [128, 8, 256, 512, 3, 1, 1]),
    ("resnet9-w64 residual3", [128, 4, 512, 512, 3, 1, 1]),
    ("resnet34 layer1", [128, 16, 64, 64, 3, 1, 1]),
    ("resnet34 layer2.0", [128, 16, 64, 128, 3, 2, 1]),
    ("resnet34 layer2.0 shortcut", [128, 16, 64, 128, 1, 2, 0]),
    ("resnet34 layer2", [128, 8, 128, 128, 3, 1, 1]),
    ("resnet34 layer3.0", [128, 8, 128, 256, 3, 2, 1]),
    ("resnet34 layer3.0 shortcut", [128, 8, 128, 256, 1, 2, 0]),
    ("resnet34 layer3", [128, 4, 256, 256, 3, 1, 1]),
    ("resnet34 layer4.0", [128, 4, 256, 512, 3, 2, 1]),
    ("resnet34 layer4.0 shortcut", [128, 4, 256, 512, 1, 2, 0]),
    ("resnet34 layer4", [128, 2, 512, 512, 3, 1, 1]),
];

fn main() {
    let (mut all, mut threads, mut runs, mut parts) = (false, 0, 10, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = |what: &str| args.next().and_then(|v| v.parse().ok()).unwrap_or_else(|| usage(what));
        match arg.as_str() {
            "--bench" => {}
            "--all-algorithms" => all = true,
            "--threads" => threads = number(&arg),
            "--runs" => runs = number(&arg),
            part if part.starts_with('-') => usage(part),
            part => parts.push(part.to_owned()),
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let Ok(pool) = pool else { usage("--threads") };
    pool.install(|| {
        println!("{:<36}{:>11}{:>21}{:>21}{:>21}", "ms (GFLOP/s)", "", "fprop", "dgrad", "wgrad");
        for (name, [n, side, c, k, r, stride, pad]) in SHAPES {
            if !parts.is_empty() && !parts.iter().any(|part| name.contains(part.as_str())) {
                continue;
            }
            let g = Conv { n: *n, h: *side, w: *side, c: *c, k: *k, r: *r, stride: *stride, pad: *pad };
            let chosen = conv::algorithm(&g);
            for algorithm in [Algorithm::Im2col, Algorithm::Winograd2, Algorithm::Winograd4] {
                let able = algorithm == Algorithm::Im2col || (g.r, g.stride, g.pad) == (3, 1, 1);
                if algorithm == chosen || all && able {
                    report(name, algorithm, &g, measure(algorithm, &g, runs));
                }
            }
        }
    });
}

fn usage(what: &str) -> ! {
    eprintln!("conv_cpu: cannot read {what}; see the head of benches/conv_cpu.rs");
    std::process::exit(2);
}

/// Best seconds of fprop, dgrad, wgrad; one run more for the warm-up.
fn measure(algorithm: Algorithm, g: &Conv, runs: usize) -> [f64; 3] {
    let fill = |len: usize| (0..len).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect::<Vec<f32>>();
    let (xs, ys, fs) = (g.n * g.h * g.w * g.c, g.n * g.p() * g.q() * g.k, g.k * g.r * g.r * g.c);
    let (x, dy, filter) = (fill(xs), fill(ys), fill(fs));
    let (mut y, mut dx, mut dfilter) = (vec![0.0; ys], vec![0.0; xs], vec![0.0; fs]);
    let mut sums = vec![0.0; 2 * g.k];
    let mut workspace = Workspace::with_algorithms(&[(*g, algorithm)]);
    let mut best = [f64::INFINITY; 3];
    for run in 0..=runs {
        let start = Instant::now();
        conv::fprop_by(algorithm, g, &x, &filter, &mut y, Some(&mut sums), &mut workspace);
        let fprop = start.elapsed();
        conv::dgrad_by(algorithm, g, &dy, &filter, &mut dx, false, &mut workspace);
        let dgrad = start.elapsed();
        conv::wgrad_by(algorithm, g, &x, &dy, &mut dfilter, &mut workspace);
        let wgrad = start.elapsed();
        black_box((&y, &dx, &dfilter, &sums));
        if run > 0 {
            let seconds = [fprop, dgrad - fprop, wgrad - dgrad].map(|d| d.as_secs_f64());
            best.iter_mut().zip(seconds).for_each(|(b, s)| *b = b.min(s));
        }
    }
    best
}

fn report(name: &str, algorithm: Algorithm, g: &Conv, seconds: [f64; 3]) {
    let cells = seconds.map(|s| format!("{:.3} ({:.0})", s * 1e3, g.flops() as f64 / s * 1e-9));
    let algorithm = format!("{algorithm:?}");
    println!("{name:<36}{algorithm:>11}{:>21}{:>21}{:>21}", cells[0], cells[1], cells[2]);
}
