//! Training runs through the library: they learn, and stopping and resuming leaves no trace in the result.

use std::path::{Path, PathBuf};

use crate::support::train::{
    config, final_bytes, layout, masking, on_emulated, one_epoch,
    stopped_and_resumed_ends_with_the_same_bits, train, train_from, with,
};
use fishmask::checkpoint::chain::{Chain, Kind, Restored, Velocity};
use fishmask::checkpoint::{Moment, Progress, weights};
use fishmask::device::Precision;
use fishmask::graph::scoring::{Statistics, Target};
use fishmask::mask;
use fishmask::ops::Power;
use fishmask::optim::UpdateRule;
use fishmask::settings::{CheckpointState, Config, MaskSettings};
use fishmask::train::{Error, Outcome};

/// The newest full checkpoint of a run.
fn latest(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    files.max()
}

/// A shorter run on the emulated device.
fn emulated() -> Config {
    with(on_emulated(config()), |c| {
        c.network.width = 8;
        c.train.epochs = 2;
        c.data.images = Some(5 * 32 + 7);
    })
}

#[test]
fn learns_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    let (outcome, watch) = train(&config(), folder.path(), None);
    let Outcome::Finished(last) = outcome.unwrap() else { panic!("not finished") };
    assert_eq!(watch.steps, 3 * 18);
    assert_eq!(watch.reports.iter().map(|r| r.epoch).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(watch.reports[2], last);
    // Chance is 10%. Smoothed by 0.1 the loss of a guess is ln 10.
    assert!(last.test_accuracy > 40.0 && last.train_accuracy > 40.0, "{last:?}");
    assert!(
        last.train_loss < watch.reports[0].train_loss && watch.reports[0].train_loss < 4.0,
        "{watch:?}",
        watch = watch.reports
    );
    assert_eq!(last.lr, 0.0);
    let sum: f64 = watch.reports.iter().map(|r| r.train_seconds).sum();
    assert!(last.total_seconds >= sum && last.total_seconds < sum + 60.0, "set-up counts in the total");
    assert!((last.images_per_second - 576.0 / last.train_seconds).abs() < 1e-6);
}

fn same_bits_with_any_number_of_threads(config: &Config) {
    let weights = [1, 2, 3].map(|threads| {
        let folder = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let config = one_epoch(config.clone());
        pool.install(|| train(&config, folder.path(), None)).0.unwrap();
        final_bytes(folder.path())
    });
    assert!(weights[0] == weights[1] && weights[1] == weights[2]);
}

#[test]
fn same_bits_with_any_number_of_threads_cpu() {
    same_bits_with_any_number_of_threads(&config());
}

#[test]
fn same_bits_with_any_number_of_threads_emulated() {
    same_bits_with_any_number_of_threads(&emulated());
}

#[test]
fn stopped_and_resumed_ends_with_the_same_bits_cpu() {
    // Mid-epoch, the last step of an epoch, the first of the next, twice in a run.
    stopped_and_resumed_ends_with_the_same_bits(&config(), &[&[5], &[18], &[19], &[7, 23], &[53]]);
}

#[test]
fn stopped_and_resumed_ends_with_the_same_bits_emulated() {
    stopped_and_resumed_ends_with_the_same_bits(&emulated(), &[&[2], &[5, 4]]);
}

#[test]
fn what_overflows_is_named_emulated() {
    let folder = tempfile::tempdir().unwrap();
    // The first step's update of 1e20 times the gradient overflows the f16 filters that the second step
    // reads.
    let wild = with(emulated(), |c| {
        c.optimizer.lr = 1e20;
        c.schedule.peak_epoch = 0.0;
    });
    let message = train(&wild, folder.path(), None).0.unwrap_err().to_string();
    for part in ["no longer finite at epoch 1, step 2, first in the input of prep_bn (", "try a lower --lr"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(latest(folder.path()).is_none());
}

#[test]
fn the_learning_rate_ends_at_its_final_share() {
    let folder = tempfile::tempdir().unwrap();
    let config = with(one_epoch(config()), |c| c.schedule.final_share = 0.25);
    let (_, watch) = train(&config, folder.path(), None);
    assert_eq!(watch.reports[0].lr, 0.25 * config.optimizer.lr);
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let wild = with(config(), |c| {
        c.optimizer.lr = 1e20;
        c.schedule.peak_epoch = 0.0;
    });
    let (outcome, watch) = train(&wild, folder.path(), None);
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains("no longer finite at epoch 1, step") && message.contains("--lr"), "{message}");
    assert!(watch.steps < 18, "{}", watch.steps);
    assert!(!folder.path().join("final.safetensors").exists());

    // The checkpoint of a sound first epoch outlives a second that fails.
    let (outcome, _) = train(&config(), folder.path(), Some(20));
    assert!(matches!(outcome, Ok(Outcome::Interrupted(_))));
    let before = latest(folder.path()).unwrap();
    let (outcome, _) = train(&wild, folder.path(), None);
    assert!(matches!(outcome, Err(Error::NotFinite { epoch: 2, .. })), "{outcome:?}");
    assert_eq!(latest(folder.path()).unwrap(), before);
}

#[test]
fn a_finished_run_has_nothing_left() {
    let folder = tempfile::tempdir().unwrap();
    let short = one_epoch(config());
    train(&short, folder.path(), None).0.unwrap();
    let before = final_bytes(folder.path());
    assert!(matches!(train(&short, folder.path(), None).0, Ok(Outcome::NothingLeft { epochs: 1 })));
    assert_eq!(final_bytes(folder.path()), before);
}

/// What a folder's checkpoints restore to, oldest first: (epoch, step, weights in memory order).
fn restored(config: &Config, folder: &Path) -> Vec<(u32, u32, Vec<f32>)> {
    let layout = config.network.graph().unwrap().layout;
    let chain = Chain::read(&folder.join("checkpoints"), config.network, &layout).unwrap();
    let load = |c: &fishmask::checkpoint::chain::Checkpoint| {
        let restored = chain.restore(c).unwrap();
        (restored.progress.at.epoch, restored.progress.at.step, restored.weights)
    };
    chain.checkpoints().iter().map(load).collect()
}

/// Under a strict mask nothing else changes, bit for bit, in any tensor; under the published rule all of it
/// does.
fn what_a_mask_leaves_alone(config: &Config) {
    let layout = config.network.model.graph(config.network.width).unwrap().layout;
    let first = layout.initial_weights(config.train.seed);
    for update_rule in [UpdateRule::Strict, UpdateRule::Published] {
        let folder = tempfile::tempdir().unwrap();
        let mask = MaskSettings { rule: update_rule, ..masking() };
        let config = with(one_epoch(config.clone()), |c| c.mask = mask);
        let (outcome, watch) = train(&config, folder.path(), None);
        outcome.unwrap();
        let [report] = watch.masks[..] else { panic!("{:?}", watch.masks) };
        assert_eq!((report.kept, report.samples), (layout.weight_count() / 20, 40));
        assert_eq!(watch.reports[0].kept, report.kept);
        let chain = Chain::read(&folder.path().join("checkpoints"), config.network, &layout).unwrap();
        let last = chain.load(Moment::new(1, 0)).unwrap();
        let mask = mask::Mask::new(last.mask.unwrap(), layout.weight_count()).unwrap();
        assert_eq!(mask.len(), report.kept);
        let (before, after) = (layout.to_canonical(&first), layout.to_canonical(&last.weights));
        let changed = |i: &usize| before[*i].to_bits() != after[*i].to_bits();
        for p in &layout.parameters {
            let moved: Vec<usize> = p.range().filter(changed).collect();
            let kept = mask.within(&p.range());
            match update_rule {
                UpdateRule::Strict => {
                    let outside = moved.iter().filter(|&&i| kept.binary_search(&(i as u32)).is_err()).count();
                    assert_eq!(outside, 0, "{}", p.name);
                    assert!(
                        10 * moved.len() >= 9 * kept.len(),
                        "{}: {} of {} moved",
                        p.name,
                        moved.len(),
                        kept.len()
                    );
                }
                // Decay moves all but zeros.
                UpdateRule::Published => {
                    let zeros = p.range().filter(|&i| before[i] == 0.0).count();
                    assert!(moved.len() + zeros >= p.count() * 99 / 100, "{}: {} moved", p.name, moved.len());
                }
            }
        }
        let kinds: Vec<Kind> = chain.checkpoints().iter().map(|c| c.kind).collect();
        match update_rule {
            UpdateRule::Strict => assert!(matches!(kinds[..], [Kind::Base, Kind::Delta { .. }]), "{kinds:?}"),
            UpdateRule::Published => {
                assert!(matches!(kinds[..], [Kind::Full { mask: Some(_) }]), "{kinds:?}")
            }
        }
    }
}

#[test]
fn what_a_mask_leaves_alone_cpu() {
    what_a_mask_leaves_alone(&config());
}

#[test]
fn what_a_mask_leaves_alone_emulated() {
    what_a_mask_leaves_alone(&emulated());
}

/// Fixed, selected anew each epoch, after dense epochs; by scores and by lot; both rules.
#[test]
fn masked_runs_stopped_and_resumed_end_with_the_same_bits_cpu() {
    let cases = [
        masking(),
        MaskSettings { every: 1, target: Target::Expect, ..masking() },
        MaskSettings { warmup_epochs: 1, power: Power::Absolute, ..masking() },
        MaskSettings { kind: mask::Kind::Random, every: 1, ..masking() },
        MaskSettings { rule: UpdateRule::Published, every: 2, ..masking() },
    ];
    for masking in cases {
        let config = with(config(), |c| c.mask = masking);
        stopped_and_resumed_ends_with_the_same_bits(&config, &[&[5], &[18], &[7, 23], &[37, 16]]);
    }
}

#[test]
fn masked_runs_stopped_and_resumed_end_with_the_same_bits_emulated() {
    let config = with(emulated(), |c| c.mask = MaskSettings { every: 1, ..masking() });
    stopped_and_resumed_ends_with_the_same_bits(&config, &[&[2, 3]]);
}

/// Every epoch of a chain restores to what the run had: the last to its final weights, each to what the next
/// one starts from.
#[test]
fn chains_of_a_run() {
    let layout = config().network.model.graph(4).unwrap().layout;
    for (mask_every, checkpoint_every, expected) in [
        (0, 1, vec![(0, 0), (1, 0), (2, 0), (3, 0)]),
        (1, 1, vec![(0, 0), (1, 0), (2, 0), (3, 0)]),
        // A mask's last values are kept before another takes its place.
        (2, 0, vec![(0, 0), (2, 0), (3, 0)]),
        (0, 0, vec![(0, 0), (3, 0)]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = with(config(), |c| {
            c.mask = MaskSettings { every: mask_every, ..masking() };
            c.checkpoint.every = checkpoint_every;
        });
        let (outcome, watch) = train(&config, folder.path(), None);
        outcome.unwrap();
        assert_eq!(
            watch.masks.len(),
            if mask_every == 0 { 1 } else { 3_usize.div_ceil(mask_every as usize) }
        );
        let found = restored(&config, folder.path());
        assert_eq!(found.iter().map(|(epoch, step, _)| (*epoch, *step)).collect::<Vec<_>>(), expected);
        assert!(found[0].2 == layout.initial_weights(config.train.seed));
        let last = weights::load(&folder.path().join("final.safetensors"), &layout).unwrap().weights;
        assert!(found[found.len() - 1].2 == last);
    }
}

#[test]
fn without_state_a_run_keeps_values_and_cannot_be_resumed() {
    for checkpoint_values in [Precision::F32, Precision::F16] {
        let folder = tempfile::tempdir().unwrap();
        let config = with(config(), |c| {
            c.mask = masking();
            c.checkpoint.state = CheckpointState::Off;
            c.checkpoint.values = checkpoint_values;
        });
        let (outcome, _) = train(&config, folder.path(), Some(20));
        assert!(matches!(outcome, Ok(Outcome::Interrupted(_))));
        // Of the epoch it was in, nothing: it could not be resumed.
        let found = restored(&config, folder.path());
        assert_eq!(
            found.iter().map(|(epoch, step, _)| (*epoch, *step)).collect::<Vec<_>>(),
            [(0, 0), (1, 0)]
        );
        let layout = config.network.graph().unwrap().layout;
        let chain = Chain::read(&folder.path().join("checkpoints"), config.network, &layout).unwrap();
        assert_eq!(chain.load_latest().unwrap().unwrap().velocity, Velocity::Absent);
        let message = train(&config, folder.path(), None).0.unwrap_err().to_string();
        assert!(message.contains("--checkpoint-state off"), "{message}");
    }
}

#[test]
fn samples_are_normalised_by_running_statistics_once_there_are_any() {
    let statistics = [0, 1, 2].map(|epoch| masking().rule(epoch).statistics);
    assert_eq!(statistics, [Statistics::Own, Statistics::Running, Statistics::Running]);
}

/// A layer is trained for a single weight that a mask keeps of it.
#[test]
fn one_kept_weight_of_a_layer_moves() {
    // Without decay the published rule too moves only what is kept, and needs no chain to go on from.
    let config = with(one_epoch(config()), |c| {
        c.mask = MaskSettings { rule: UpdateRule::Published, ..masking() };
        c.optimizer.weight_decay = 0.0;
    });
    let layout = layout(&config);
    let mask: Vec<u32> = layout.parameters.iter().map(|p| p.offset as u32 + p.count() as u32 / 2).collect();
    let state = Restored {
        path: "none".into(),
        progress: Progress { at: Moment::new(0, 1), ..Progress::default() },
        weights: layout.initial_weights(config.train.seed),
        running: layout.initial_statistics(),
        velocity: Velocity::Dense(vec![0.0; layout.weight_count()]),
        mask: Some(mask.clone()),
    };
    let before = layout.to_canonical(&state.weights);
    let folder = tempfile::tempdir().unwrap();
    train_from(&config, folder.path(), Some(state), None).0.unwrap();
    let after = weights::load(&folder.path().join("final.safetensors"), &layout).unwrap().weights;
    let after = layout.to_canonical(&after);
    let moved = (0..after.len()).filter(|&i| after[i] != before[i]).map(|i| i as u32);
    assert_eq!(moved.collect::<Vec<u32>>(), mask);
}

/// Under the published rule a weight outside the mask is moved by decay alone, at the rates of the schedule
/// (docs/METHOD.md, "Optimiser" and "Masks").
#[test]
fn decay_moves_what_the_published_rule_masks_by_the_schedule() {
    let config = with(one_epoch(config()), |c| {
        c.mask = MaskSettings { rule: UpdateRule::Published, ..masking() };
        c.optimizer.weight_decay = 0.05;
    });
    let layout = layout(&config);
    let folder = tempfile::tempdir().unwrap();
    train(&config, folder.path(), None).0.unwrap();
    let kept =
        crate::support::train::chain(&config, folder.path()).load(Moment::new(1, 0)).unwrap().mask.unwrap();
    let after = weights::load(&folder.path().join("final.safetensors"), &layout).unwrap().weights;
    let [before, after] = [layout.initial_weights(config.train.seed), after].map(|w| layout.to_canonical(&w));
    // Of a weight that begins at 1, on the summed loss of 32 images.
    let (mut expected, mut velocity) = (1.0, 0.0);
    for step in 1..=18 {
        let x = f64::from(step) / 18.0;
        let lr = 0.2 * (x / 0.5).min((1.0 - x) / 0.5) / 32.0;
        let d = -lr * 0.05 * 32.0 * expected;
        velocity = 0.9 * velocity + d;
        expected += d + 0.9 * velocity;
    }
    for i in (0..before.len()).filter(|&i| kept.binary_search(&(i as u32)).is_err()) {
        let wanted = expected * f64::from(before[i]);
        // A step rounds the velocity and the weight a few times.
        assert!((f64::from(after[i]) - wanted).abs() <= 1e-5 * wanted.abs(), "{i}: {} {wanted}", after[i]);
    }
}
