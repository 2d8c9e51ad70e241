//! Trains under a mask, then reads the chain of small checkpoints and restores the weights after its first
//! epoch: `cargo run --release --example restore -- FOLDER`, where FOLDER is new.

use std::path::Path;

use fishmask::checkpoint::chain::Chain;
use fishmask::checkpoint::{Moment, weights};
use fishmask::data::synthetic;
use fishmask::mask::Kind;
use fishmask::settings::Config;
use fishmask::{Error, Run};

/// Returns the share of the weights that the second epoch has changed.
pub fn run(folder: &Path) -> Result<f64, Error> {
    let mut config = Config::default();
    config.network.width = 4;
    (config.train.epochs, config.train.batch_size, config.data.images) = (2, 50, Some(500));
    (config.mask.kind, config.mask.keep_ratio, config.mask.samples) = (Kind::Fisher, 0.05, 64);
    Run::new(config.clone()).folder(folder).dataset(synthetic::dataset(500, 200, 0)).run()?;

    let layout = config.network.graph()?.layout;
    let chain = Chain::read(&folder.join("checkpoints"), config.network, &layout)?;
    for checkpoint in chain.checkpoints() {
        println!("{}: {}", checkpoint.progress.at, checkpoint.path.display());
    }
    let [first, last] = [chain.load(Moment::new(1, 0))?, chain.load(Moment::new(2, 0))?];
    let file = folder.join("first-epoch.safetensors");
    weights::save(&file, config.network, &layout, &first.weights, &first.running)?;
    let changed = first.weights.iter().zip(&last.weights).filter(|(before, after)| before != after);
    Ok(changed.count() as f64 / first.weights.len() as f64)
}

#[allow(dead_code)] // The tests call `run`.
fn main() -> Result<(), Error> {
    let folder = std::env::args().nth(1).unwrap_or("restored".into());
    let share = run(Path::new(&folder))?;
    println!("the second epoch changed {:.2}% of the weights", 100.0 * share);
    Ok(())
}
