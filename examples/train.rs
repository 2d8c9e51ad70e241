//! Trains a small network on synthetic pictures, and keeps nothing: `cargo run --release --example train`.

use fishmask::data::synthetic;
use fishmask::records::Table;
use fishmask::settings::{Config, Reasons};
use fishmask::train::Outcome;
use fishmask::{Error, Run};

/// Returns the test accuracy in percent.
pub fn run(epochs: u32) -> Result<f64, Error> {
    let mut config = Config::default();
    config.network.width = 4;
    config.data.images = Some(500);
    (config.train.epochs, config.train.batch_size) = (epochs, 50);
    // 500 pictures to train on and 200 to evaluate; the same numbers always make the same pictures.
    let dataset = synthetic::dataset(500, 200, 0);
    let table = Table::new(std::io::stdout(), Reasons::default());
    match Run::new(config).dataset(dataset).listen(table).run()? {
        Outcome::Finished(report) => Ok(report.test_accuracy),
        Outcome::Interrupted(_) | Outcome::NothingLeft { .. } => Ok(f64::NAN),
    }
}

#[allow(dead_code)] // The tests call `run`.
fn main() -> Result<(), Error> {
    run(6).map(drop)
}
