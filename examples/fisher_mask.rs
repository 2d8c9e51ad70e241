//! Scores the weights of a file by their Fisher information and prints the share that a mask keeps of each
//! layer: `cargo run --release --example fisher_mask -- FOLDER`, where FOLDER is to hold the files.

use std::path::Path;

use fishmask::checkpoint::weights;
use fishmask::data::synthetic;
use fishmask::graph::scoring::Statistics;
use fishmask::mask::table;
use fishmask::settings::Config;
use fishmask::{Error, Selection};

/// Returns the number of weights that the mask keeps.
pub fn run(folder: &Path) -> Result<usize, Error> {
    let mut config = Config::default();
    config.network.width = 4;
    (config.mask.keep_ratio, config.mask.samples) = (0.05, 64);

    // Any file of weights will do, PyTorch's too: these are the ones that a run begins with.
    let layout = config.network.graph()?.layout;
    let (first, running) = (layout.initial_weights(0), layout.initial_statistics());
    let file = folder.join("weights.safetensors");
    weights::save(&file, config.network, &layout, &first, &running)?;

    // Freshly made weights have no running statistics yet: each image is normalised by its own.
    let selection = Selection::new(&config, &file)?.statistics(Statistics::Own);
    let selected = selection.run(|| Ok(synthetic::dataset(500, 10, 0).train))?;
    selected.save(&folder.join("mask.safetensors"))?;
    for row in table::rows(&selected.layout, &selected.mask, &selected.scores) {
        println!("{:24} {:6} of {:6} weights", row.name, row.kept, row.weights);
    }
    Ok(selected.mask.len())
}

#[allow(dead_code)] // The tests call `run`.
fn main() -> Result<(), Error> {
    let folder = std::env::args().nth(1).unwrap_or(".".into());
    run(Path::new(&folder)).map(drop)
}
