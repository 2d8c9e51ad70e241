//! The examples run and say what they promise.

#[path = "../../examples/fisher_mask.rs"]
mod fisher_mask;
#[path = "../../examples/network.rs"]
mod network;
#[path = "../../examples/restore.rs"]
mod restore;
#[path = "../../examples/train.rs"]
mod train;

use fishmask::settings::Config;
use tempfile::tempdir;

#[test]
fn an_example_trains_on_synthetic_pictures() {
    // Chance is 10%.
    let accuracy = train::run(4).unwrap();
    assert!(accuracy > 20.0, "{accuracy}");
}

#[test]
fn an_example_chooses_a_mask_of_a_file() {
    let folder = tempdir().unwrap();
    let mut network = Config::default().network;
    network.width = 4;
    let weights = network.graph().unwrap().layout.weight_count();
    assert_eq!(fisher_mask::run(folder.path()).unwrap(), weights / 20);
    assert!(folder.path().join("mask.safetensors").exists());
}

#[test]
fn an_example_restores_an_epoch_of_a_chain() {
    let folder = tempdir().unwrap();
    let changed = restore::run(&folder.path().join("run")).unwrap();
    assert!(changed > 0.04 && changed <= 0.05, "{changed}");
    assert!(folder.path().join("run/first-epoch.safetensors").exists());
}

#[test]
fn an_example_trains_a_network_of_its_own() {
    let losses = network::run(20).unwrap();
    // A guess has a loss of ln 10.
    assert!(losses[0] < 3.0 && losses[19] < 0.7 * losses[0], "{losses:?}");
}
