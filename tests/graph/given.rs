//! Runs that are given what they start from: weights, and a mask that they do not choose.

use std::path::Path;

use crate::support::gpu::on_gpu;
use crate::support::train::{
    Watch, chain, config, dataset, final_bytes, layout, masking, on_emulated, one_epoch, train_from,
    train_started, with,
};
use fishmask::checkpoint::chain::Restored;
use fishmask::checkpoint::{Moment, weights};
use fishmask::device::Device;
use fishmask::mask::{Kind, Mask};
use fishmask::optim::UpdateRule;
use fishmask::settings::{Config, MaskSettings};
use fishmask::train::{Error, Outcome, Start};

/// A run on the GPU's kernels of a few steps.
fn emulated() -> Config {
    with(one_epoch(on_emulated(config())), |c| c.data.images = Some(3 * 32))
}

fn cuda() -> Config {
    with(emulated(), |c| c.device.name = Device::Cuda(0))
}

/// Trains as `change` says, given a start; stops after so many steps.
fn given(
    config: &Config,
    folder: &Path,
    start: Start,
    resume: Option<Restored>,
    stop_after: Option<u32>,
) -> (Result<Outcome, Error>, Watch) {
    std::fs::create_dir_all(folder.join("checkpoints")).unwrap();
    let mut watch = Watch { stop_after, ..Watch::default() };
    let outcome = train_started(config, dataset(config), folder, start, resume, &mut watch);
    (outcome, watch)
}

/// The mask that a Fisher run chooses at its start, given to another run, and the weights of its seed: the
/// bits are the same, also when it is stopped and goes on with what is in its folder.
fn a_given_mask_is_as_a_chosen_one(config: &Config, rule: UpdateRule) {
    let chosen = with(config.clone(), |c| c.mask = MaskSettings { rule, ..masking() });
    let a = tempfile::tempdir().unwrap();
    let (outcome, _) = train_from(&chosen, a.path(), None, None);
    assert!(matches!(outcome, Ok(Outcome::Finished(_))), "{outcome:?}");
    let layout = layout(config);
    let restored = chain(&chosen, a.path()).load_latest().unwrap().unwrap();
    let mask = Mask::new(restored.mask.unwrap(), layout.weight_count()).unwrap();

    let file = with(chosen, |c| c.mask.kind = Kind::File);
    let model = Some(layout.initial_model(config.train.seed));
    let start = Start { model, mask: Some(mask.clone()) };
    let b = tempfile::tempdir().unwrap();
    let (outcome, watch) = given(&file, b.path(), start.clone(), None, None);
    assert!(matches!(outcome, Ok(Outcome::Finished(_))), "{outcome:?}");
    assert!(final_bytes(b.path()) == final_bytes(a.path()));
    let reports: Vec<_> = watch.masks.iter().map(|r| (r.kind, r.epoch, r.kept)).collect();
    assert_eq!(reports, [(Kind::File, 1, mask.len())], "it comes into force once");

    let c = tempfile::tempdir().unwrap();
    let (outcome, _) = given(&file, c.path(), start, None, Some(2));
    assert!(matches!(outcome, Ok(Outcome::Interrupted(cause)) if cause.number() == 15), "{outcome:?}");
    let state = chain(&file, c.path()).load_latest().unwrap();
    let (outcome, watch) = given(&file, c.path(), Start::default(), state, None);
    assert!(matches!(outcome, Ok(Outcome::Finished(_))) && watch.masks.is_empty(), "{outcome:?}");
    assert!(final_bytes(c.path()) == final_bytes(a.path()));
}

#[test]
fn a_given_mask_is_as_a_chosen_one_cpu() {
    a_given_mask_is_as_a_chosen_one(&one_epoch(config()), UpdateRule::Strict);
    a_given_mask_is_as_a_chosen_one(&one_epoch(config()), UpdateRule::Published);
}

#[test]
fn a_given_mask_is_as_a_chosen_one_emulated() {
    a_given_mask_is_as_a_chosen_one(&emulated(), UpdateRule::Strict);
}

#[test]
fn a_given_mask_is_as_a_chosen_one_cuda() {
    on_gpu(|_| a_given_mask_is_as_a_chosen_one(&cuda(), UpdateRule::Strict));
}

/// Of several workers, which would select a mask anew after every second merge.
#[test]
fn workers_keep_the_mask_that_they_are_given() {
    let config = with(one_epoch(config()), |c| {
        c.workers.count = 2;
        c.mask = MaskSettings { kind: Kind::Random, ..masking() };
    });
    let once = with(config.clone(), |c| c.workers.reselect_merges = 0);
    let a = tempfile::tempdir().unwrap();
    train_from(&once, a.path(), None, None).0.unwrap();
    let restored = chain(&once, a.path()).load_latest().unwrap().unwrap();
    let mask = Mask::new(restored.mask.unwrap(), layout(&config).weight_count()).unwrap();
    let file = with(config, |c| c.mask.kind = Kind::File);
    let b = tempfile::tempdir().unwrap();
    let (outcome, watch) = given(&file, b.path(), Start { model: None, mask: Some(mask) }, None, None);
    outcome.unwrap();
    assert_eq!(watch.masks.len(), 1);
    assert!(watch.merges.len() > 4 && final_bytes(b.path()) == final_bytes(a.path()));
}

/// Without a step that moves them, the weights at the end are those at the start.
#[test]
fn given_weights_are_where_a_run_starts() {
    let still = with(one_epoch(config()), |c| {
        c.optimizer.lr = 1e-30;
        c.optimizer.weight_decay = 0.0;
    });
    let layout = layout(&still);
    let (weights, running) = layout.initial_model(77);
    let folder = tempfile::tempdir().unwrap();
    let start = Start { model: Some((weights.clone(), running)), mask: None };
    given(&still, folder.path(), start, None, None).0.unwrap();
    let end = weights::load(&folder.path().join("final.safetensors"), &layout).unwrap().weights;
    assert!(end.iter().zip(&weights).all(|(end, start)| (end - start).abs() < 1e-25));
    let restored = chain(&still, folder.path()).load(Moment::new(1, 0)).unwrap();
    assert_eq!(restored.weights, end);
}

#[test]
fn a_run_that_is_to_be_given_a_mask_and_is_not_says_so() {
    let file = with(one_epoch(config()), |c| c.mask = MaskSettings { kind: Kind::File, ..masking() });
    let folder = tempfile::tempdir().unwrap();
    let (outcome, _) = given(&file, folder.path(), Start::default(), None, None);
    assert!(matches!(outcome, Err(Error::NoMask)), "{outcome:?}");
}
