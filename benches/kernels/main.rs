//! The kernels, one by one, at the shapes of the three networks; beside PyTorch's in the same run.
//!
//! `cargo bench --bench kernels [-- [--device cuda:N|emulated] [--batch N] [--width N] [NAME]]` prints, for
//! each operation whose name contains NAME: the median time of a call, TFLOP/s or GB/s, and the share of the
//! floor. With `PYTHON=python3` it also runs `benches/peers/torch_kernels.py` on the same shapes and prints
//! the ratio (PyTorch's time over ours) and, at the end, its geometric mean by group.
//!
//! The floor is the larger of FLOPs over the rate of a large f16 matrix product and bytes over the rate of a
//! large copy, both as the peer measures them in the same run. Without the peer an H200's rates are assumed,
//! 790 TFLOP/s and 4.3 TB/s. Bytes are those an operation must move when each of its passes reads its inputs
//! and writes its outputs once; batch norm's backward pass needs two.

mod cases;

use std::path::Path;
use std::process::Command;

use cases::{Case, Shapes};
use clap::Parser;
use fishmask::device::driver::Driver;
use fishmask::device::{Cuda, Device, OnDriver, with_driver};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
struct Cli {
    /// cuda, cuda:N or emulated (to try the bench itself; its times mean nothing)
    #[arg(long, default_value = "cuda:0")]
    device: Device,
    /// Images
    #[arg(long, default_value = "512")]
    batch: usize,
    /// Channels of the networks' stems
    #[arg(long, default_value = "64")]
    width: usize,
    /// Timed samples of each operation
    #[arg(long, default_value = "15")]
    samples: usize,
    /// Only operations whose name contains this
    name: Option<String>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the machine can do at most.
struct Ceilings {
    /// FLOP/s.
    product: f64,
    /// Bytes/s, read and written.
    copy: f64,
    source: &'static str,
}

fn main() -> Result<(), Failure> {
    let cli = Cli::parse();
    with_driver(cli.device, Bench(&cli))?
}

struct Bench<'a>(&'a Cli);

impl OnDriver for Bench<'_> {
    type Output = Result<(), Failure>;

    fn on<D: Driver>(self, driver: D) -> Result<(), Failure> {
        run(self.0, Cuda::new(driver)?)
    }
}

fn run<D: Driver>(cli: &Cli, mut backend: Cuda<D>) -> Result<(), Failure> {
    let shapes = Shapes::new(cli.batch, cli.width)?;
    let mut wanted = shapes.cases();
    wanted.retain(|case| cli.name.as_ref().is_none_or(|name| case.name.contains(name.as_str())));
    let peer = match std::env::var("PYTHON") {
        Ok(python) => Some(torch(&python, &wanted)?),
        Err(_) => None,
    };
    let ceilings = match &peer {
        Some(peer) => Ceilings {
            product: peer["product"].as_f64().ok_or("the peer measured no product")?,
            copy: peer["copy"].as_f64().ok_or("the peer measured no copy")?,
            source: "measured in this run by PyTorch",
        },
        None => Ceilings { product: 790e12, copy: 4.3e12, source: "an H200's" },
    };
    let Ceilings { product, copy, source } = ceilings;
    println!(
        "{}, batch {}, width {}, {} samples",
        backend.driver().properties().name,
        cli.batch,
        cli.width,
        cli.samples
    );
    println!("ceilings: {:.0} TFLOP/s, {:.2} TB/s ({source})", product / 1e12, copy / 1e12);
    println!(
        "{:<58} {:>9} {:>8} {:>9} {:>6} {:>9} {:>6}",
        "operation", "us", "TFLOP/s", "GB/s", "floor", "torch us", "ratio"
    );
    let mut groups: Vec<(&str, Vec<f64>)> = vec![];
    for case in &wanted {
        let seconds = case.measure(&mut backend, cli.samples)?;
        let floor = (case.flops / product).max(case.bytes / copy);
        print!("{:<58} {:>9.1} ", case.name, seconds * 1e6);
        match case.flops > 0.0 {
            true => print!("{:>8.1} ", case.flops / seconds / 1e12),
            false => print!("{:>8} ", ""),
        }
        print!("{:>9.0} {:>5.0}%", case.bytes / seconds / 1e9, 100.0 * floor / seconds);
        if let Some(theirs) = peer.as_ref().and_then(|peer| peer["seconds"][&case.name].as_f64()) {
            let ratio = theirs / seconds;
            print!(" {:>9.1} {ratio:>6.2}", theirs * 1e6);
            match groups.iter_mut().find(|(group, _)| *group == case.group) {
                Some((_, ratios)) => ratios.push(ratio),
                None => groups.push((case.group, vec![ratio])),
            }
        }
        println!();
    }
    for (group, ratios) in groups {
        let mean = (ratios.iter().map(|r| r.ln()).sum::<f64>() / ratios.len() as f64).exp();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        println!(
            "{group}: PyTorch's time over ours {mean:.2} (geometric mean of {}), least {least:.2}",
            ratios.len()
        );
    }
    Ok(())
}

/// The peer's seconds by name, and its machine's ceilings.
fn torch(python: &str, cases: &[Case]) -> Result<Value, Failure> {
    let shapes: Vec<Value> =
        cases.iter().map(|case| json!({"name": case.name, "shape": case.shape})).collect();
    let file = tempfile::NamedTempFile::new()?;
    serde_json::to_writer(&file, &shapes)?;
    // Cargo sets it, and run-gpu-checks.sh where there is no cargo.
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    let peer = Path::new(&root).join("benches/peers/torch_kernels.py");
    let output = Command::new(python).arg(peer).arg(file.path()).output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the peer failed: {}", text.lines().last().unwrap_or("no word why")).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
