//! Several workers in one process: what merging does to the weights, what stopping and resuming does not.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::support::gpu::on_gpu;
use crate::support::train::{
    Watch, chain, layout, masking, on_emulated, one_epoch, stopped_and_resumed_ends_with_the_same_bits,
    train, train_from, train_on, with,
};
use fishmask::checkpoint::chain::{Restored, Velocity};
use fishmask::checkpoint::weights::{self, Loaded};
use fishmask::checkpoint::{Moment, Problem, Progress};
use fishmask::data::synthetic;
use fishmask::device::Cpu;
use fishmask::device::Device;
use fishmask::distributed::Aggregate;
use fishmask::graph::Network;
use fishmask::graph::network::{Batches, plans};
use fishmask::mask::{Kind, Mask};
use fishmask::ops::AugmentOps;
use fishmask::optim::UpdateRule;
use fishmask::rng::{Purpose, Stream};
use fishmask::settings::{CheckpointState, Config, MaskSettings, WorkerMasks, WorkerSettings};
use fishmask::train::{Error, Outcome, evaluate};

/// Ten steps an epoch and a partial batch that is dropped.
fn config() -> Config {
    with(crate::support::train::config(), |c| {
        c.train.epochs = 2;
        c.train.batch_size = 16;
        c.data.images = Some(10 * 16 + 7);
    })
}

fn emulated() -> Config {
    with(on_emulated(config()), |c| {
        c.train.epochs = 1;
        c.data.images = Some(3 * 16);
    })
}

fn cuda() -> Config {
    with(emulated(), |c| c.device.name = Device::Cuda(0))
}

fn several() -> WorkerSettings {
    WorkerSettings {
        count: 2,
        merge_steps: 4,
        reselect_merges: 2,
        masks: WorkerMasks::Same,
        aggregate: Aggregate::Mean,
        shard_data: false,
    }
}

/// Weights in canonical order and running statistics at a run's end.
fn end(config: &Config, state: Option<Restored>) -> (Vec<f32>, Vec<f32>) {
    let folder = tempfile::tempdir().unwrap();
    train_from(config, folder.path(), state, None).0.unwrap();
    let Loaded { weights, running, .. } =
        weights::load(&folder.path().join("final.safetensors"), &layout(config)).unwrap();
    (layout(config).to_canonical(&weights), running)
}

/// Where every run of `config` begins.
fn beginning(config: &Config) -> (Vec<f32>, Vec<f32>) {
    let layout = layout(config);
    (layout.to_canonical(&layout.initial_weights(config.train.seed)), layout.initial_statistics())
}

/// Where each of several workers begins when it is run alone: with the several's weights.
fn first_state(config: &Config) -> Restored {
    let layout = layout(config);
    Restored {
        path: "none".into(),
        progress: Progress::default(),
        weights: layout.initial_weights(config.train.seed),
        running: layout.initial_statistics(),
        velocity: Velocity::Dense(vec![0.0; layout.weight_count()]),
        mask: None,
    }
}

/// The run that a worker is alone: with the seed of its rank.
fn alone(config: &Config, rank: u32) -> Config {
    let mut stream = Stream::new(config.train.seed, Purpose::Worker, 0, rank);
    let seed =
        if rank == 0 { config.train.seed } else { u64::from(stream.word()) << 32 | u64::from(stream.word()) };
    with(config.clone(), |c| {
        c.train.seed = seed;
        c.workers.count = 1;
    })
}

/// `base` and the workers' values put together as docs/METHOD.md says ("Several workers"), in f32.
fn together(base: &[f32], workers: &[Vec<f32>], how: Aggregate) -> Vec<f32> {
    let divisor = if how == Aggregate::Mean { workers.len() as f32 } else { 1.0 };
    let merge = |(i, base): (usize, &f32)| {
        let sum: f32 = workers.iter().fold(0.0, |sum, values| sum + (values[i] - base));
        base + sum / divisor
    };
    base.iter().enumerate().map(merge).collect()
}

/// Merged once, at the end, workers are as many runs of their own, each with its own order and augmentation.
fn dense_workers_end_in_the_mean_of_their_runs(config: &Config, count: usize) {
    let (base, base_running) = beginning(config);
    let (ends, runnings): (Vec<_>, Vec<_>) =
        (0..count as u32).map(|rank| end(&alone(config, rank), Some(first_state(config)))).unzip();
    assert_ne!(ends[0], ends[1]);
    let workers = WorkerSettings { count, merge_steps: 1000, ..several() };
    let (weights, running) = end(&with(config.clone(), |c| c.workers = workers), None);
    assert!(weights == together(&base, &ends, Aggregate::Mean));
    assert!(running == together(&base_running, &runnings, Aggregate::Mean));
}

#[test]
fn dense_workers_end_in_the_mean_of_their_runs_cpu() {
    for count in [2, 3] {
        dense_workers_end_in_the_mean_of_their_runs(&config(), count);
    }
}

#[test]
fn dense_workers_end_in_the_mean_of_their_runs_emulated() {
    dense_workers_end_in_the_mean_of_their_runs(&emulated(), 2);
}

#[test]
fn dense_workers_end_in_the_mean_of_their_runs_cuda() {
    on_gpu(|_| dense_workers_end_in_the_mean_of_their_runs(&cuda(), 2));
}

/// Merged after each of two epochs, workers go on from the merged model with velocities of their own.
#[test]
fn workers_go_on_from_the_merged_model_with_their_own_velocity() {
    let config = config();
    let layout = layout(&config);
    let (base, base_running) = beginning(&config);
    // To the end of the first epoch's steps, alone.
    let halves = [0, 1].map(|rank| {
        let (config, folder) = (alone(&config, rank), tempfile::tempdir().unwrap());
        let (outcome, _) = train_from(&config, folder.path(), Some(first_state(&self::config())), Some(10));
        assert!(matches!(outcome, Ok(Outcome::Interrupted(cause)) if cause.number() == 15), "{outcome:?}");
        chain(&config, folder.path()).load(Moment::new(0, 10)).unwrap()
    });
    let weights = halves.each_ref().map(|half| layout.to_canonical(&half.weights));
    let running = halves.each_ref().map(|half| half.running.clone());
    let merged = together(&base, &weights, Aggregate::Mean);
    let merged_running = together(&base_running, &running, Aggregate::Mean);
    let ends = [0, 1].map(|rank| {
        let weights = layout.to_memory(&merged);
        let state = Restored { weights, running: merged_running.clone(), ..halves[rank as usize].clone() };
        end(&alone(&config, rank), Some(state))
    });
    let [weights, running] = [
        together(&merged, &ends.each_ref().map(|end| end.0.clone()), Aggregate::Mean),
        together(&merged_running, &ends.each_ref().map(|end| end.1.clone()), Aggregate::Mean),
    ];
    let found = end(&with(config, |c| c.workers = WorkerSettings { merge_steps: 10, ..several() }), None);
    assert!(found.0 == weights && found.1 == running);
}

/// A mask that keeps everything leaves out nothing that a dense merge has.
#[test]
fn workers_that_keep_every_weight_are_dense_workers() {
    let dense = with(config(), |c| c.workers = several());
    let mask = MaskSettings { keep_ratio: 1.0, ..masking() };
    assert!(end(&with(dense.clone(), |c| c.mask = mask), None) == end(&dense, None));
}

/// The mask of a run's last checkpoint.
fn last_mask(config: &Config, folder: &Path) -> Mask {
    let restored = chain(config, folder).load(Moment::new(config.train.epochs, 0)).unwrap();
    Mask::new(restored.mask.unwrap(), layout(config).weight_count()).unwrap()
}

/// Under the strict rule workers change what their masks keep, and merging moves nothing else.
fn only_kept_weights_move(config: &Config) {
    let (base, _) = beginning(config);
    let mut moved = vec![];
    for (masks, aggregate) in [
        (WorkerMasks::Same, Aggregate::Mean),
        (WorkerMasks::Interleaved, Aggregate::Mean),
        (WorkerMasks::Interleaved, Aggregate::Sum),
    ] {
        let config = with(one_epoch(config.clone()), |c| {
            c.mask = masking();
            c.workers = WorkerSettings { merge_steps: 1000, masks, aggregate, ..several() };
        });
        let folder = tempfile::tempdir().unwrap();
        let (outcome, watch) = train(&config, folder.path(), None);
        outcome.unwrap();
        let mask = last_mask(&config, folder.path());
        let own = layout(&config).weight_count() / 20;
        assert_eq!(mask.len(), if masks == WorkerMasks::Same { own } else { 2 * own });
        assert_eq!(watch.masks[0].kept, mask.len());
        let weights =
            weights::load(&folder.path().join("final.safetensors"), &layout(&config)).unwrap().weights;
        let weights = layout(&config).to_canonical(&weights);
        for (i, (before, after)) in base.iter().zip(&weights).enumerate() {
            let kept = mask.indices().binary_search(&(i as u32)).is_ok();
            assert!(kept || before.to_bits() == after.to_bits(), "{i} changed outside the mask");
        }
        let changes = mask.indices().iter().map(|&i| weights[i as usize] - base[i as usize]);
        moved.push((mask.clone(), changes.collect::<Vec<f32>>()));
    }
    let [_, (mask, mean), (sum_mask, sum)] = &moved[..] else { panic!() };
    assert_eq!(mask, sum_mask);
    assert!(mean.iter().filter(|change| **change != 0.0).count() > mean.len() * 9 / 10);
    // Only one worker has moved each: their sum is twice their mean, but for the roundings of weights below
    // 2.
    for (mean, sum) in mean.iter().zip(sum) {
        assert!((2.0 * mean - sum).abs() < 1e-6, "{mean} {sum}");
    }
}

#[test]
fn only_kept_weights_move_cpu() {
    only_kept_weights_move(&config());
}

#[test]
fn only_kept_weights_move_emulated() {
    only_kept_weights_move(&emulated());
}

#[test]
fn only_kept_weights_move_cuda() {
    on_gpu(|_| only_kept_weights_move(&cuda()));
}

/// Each scores its part of the samples, and together they find what one finds by all of them, but for the
/// order of a sum.
#[test]
fn workers_score_the_samples_of_one_between_them() {
    let mask = |workers| {
        let config = with(one_epoch(config()), |c| {
            c.mask = MaskSettings { samples: 37, ..masking() };
            c.workers = workers;
        });
        let folder = tempfile::tempdir().unwrap();
        train(&config, folder.path(), None).0.unwrap();
        last_mask(&config, folder.path())
    };
    let one = mask(WorkerSettings { count: 1, ..several() });
    let three = mask(WorkerSettings { count: 3, reselect_merges: 0, ..several() });
    let shared = one.shared(&three, &(0..one.weight_count()));
    assert!(one.len() == three.len() && one.len() - shared <= 2, "{shared} of {}", one.len());
}

/// Of its own images each scores the first.
#[test]
fn workers_with_parts_of_the_images_score_all_of_them() {
    let config = with(one_epoch(config()), |c| {
        c.mask = MaskSettings { samples: 2 * 83, ..masking() };
        c.workers = WorkerSettings { shard_data: true, ..several() };
    });
    let folder = tempfile::tempdir().unwrap();
    train(&config, folder.path(), None).0.unwrap();
}

/// Each selection has samples, or lots, of its own: at a learning rate of 0 nothing else changes from one to
/// the next.
#[test]
fn every_selection_draws_anew() {
    for kind in [Kind::Fisher, Kind::Random] {
        let config = with(one_epoch(config()), |c| {
            c.mask = MaskSettings { kind, ..masking() };
            c.workers = several();
            c.optimizer.lr = 0.0;
        });
        let folder = tempfile::tempdir().unwrap();
        let (outcome, watch) = train(&config, folder.path(), None);
        outcome.unwrap();
        let stayed: Vec<_> = watch.masks.iter().map(|mask| mask.stayed).collect();
        let [None, Some(stayed)] = stayed[..] else { panic!("{kind:?}: {stayed:?}") };
        assert!(stayed < watch.masks[1].kept, "{kind:?}: {stayed} of {}", watch.masks[1].kept);
    }
}

#[test]
fn merges_and_masks_come_when_they_are_due_and_cost_what_is_kept() {
    let masks = [WorkerMasks::Same, WorkerMasks::Interleaved];
    for (masks, warmup_epochs) in masks.into_iter().flat_map(|masks| [(masks, 0), (masks, 1)]) {
        let config = with(config(), |c| {
            c.mask = MaskSettings { warmup_epochs, ..masking() };
            c.workers = WorkerSettings { masks, ..several() };
        });
        let folder = tempfile::tempdir().unwrap();
        let (outcome, watch) = train(&config, folder.path(), None);
        outcome.unwrap();
        // Of both workers together.
        assert_eq!(watch.numbers, (1..=20).chain(1..=20).collect::<Vec<u32>>());
        // Every 4 steps of 20, before the first mask, and at the end.
        let mut merges = vec![(1, 4), (1, 8), (2, 2), (2, 6), (2, 10)];
        if warmup_epochs == 1 {
            merges.insert(2, (1, 10));
        }
        assert_eq!(watch.merges, merges);
        // After every second merge; the last is the end.
        let epochs: Vec<u32> = watch.masks.iter().map(|mask| mask.epoch).collect();
        assert_eq!(epochs, if warmup_epochs == 0 { vec![1, 1, 2] } else { vec![2, 2] });

        let layout = layout(&config);
        let (n, r, k) = (
            layout.weight_count() as u64,
            layout.statistic_count() as u64,
            layout.weight_count() as u64 / 20,
        );
        // Of 2 workers each sends as much as there is: half of it to be added up, and the other half's sum.
        let values = |merge: &(u32, u32)| if warmup_epochs == 1 && merge.0 == 1 { n } else { k };
        for (report, epoch) in watch.reports.iter().zip([1, 2]) {
            let exchange = report.exchange.unwrap();
            let merges: Vec<_> = watch.merges.iter().filter(|merge| merge.0 == epoch).collect();
            assert_eq!(exchange.merges as usize, merges.len());
            let merged: u64 = merges.iter().map(|merge| 4 * (values(merge) + r)).sum();
            let selected = watch.masks.iter().filter(|mask| mask.epoch == epoch).count() as u64;
            // Agreements of 36 bytes: one a segment, and one a mask, whose scores all workers add up.
            let segments = if epoch == 1 { 3 } else { merges.len() as u64 };
            assert_eq!(exchange.sent, merged + selected * (4 * n + 36) + segments * 36, "epoch {epoch}");
            // The root is given the other's totals for its report; states that are given to be written do not
            // count.
            assert_eq!(exchange.received, exchange.sent + 24, "epoch {epoch}");
            let dense = merges.len() as f64 * 4.0 * (n + r) as f64;
            assert_eq!(exchange.share_of_dense, 100.0 * exchange.sent as f64 / dense);
        }
    }
}

/// What the first part of an epoch took is written down with the workers' states.
#[test]
fn a_resumed_epoch_reports_all_of_its_exchanges() {
    let config = with(one_epoch(config()), |c| c.workers = several());
    let exchange = |stops: &[u32]| {
        let folder = tempfile::tempdir().unwrap();
        stops.iter().for_each(|&stop| drop(train(&config, folder.path(), Some(stop))));
        train(&config, folder.path(), None).1.reports[0].exchange.unwrap()
    };
    // Both have merged once, and done two of the next four steps.
    let (whole, resumed) = (exchange(&[]), exchange(&[10]));
    assert_eq!((whole.merges, resumed.merges), (3, 3));
    // They agreed once more.
    assert_eq!((resumed.sent, resumed.received), (whole.sent + 36, whole.received + 36));
}

/// Trains every weight.
fn dense() -> MaskSettings {
    MaskSettings { kind: Kind::Dense, ..masking() }
}

/// (workers, mask) of every kind of run.
fn kinds() -> Vec<(WorkerSettings, MaskSettings)> {
    let interleaved =
        WorkerSettings { masks: WorkerMasks::Interleaved, aggregate: Aggregate::Sum, ..several() };
    vec![
        (several(), dense()),
        (several(), masking()),
        (
            WorkerSettings { count: 3, shard_data: true, ..interleaved },
            MaskSettings { warmup_epochs: 1, ..masking() },
        ),
        (interleaved, MaskSettings { kind: Kind::Random, ..masking() }),
        (several(), MaskSettings { rule: UpdateRule::Published, ..masking() }),
    ]
}

/// Only the newest states of workers are kept, whatever chain there is; without its own a checkpoint is not
/// gone on from.
#[test]
fn a_checkpoint_is_gone_on_from_with_its_workers_states_alone() {
    for mask in [dense(), masking()] {
        let folder = tempfile::tempdir().unwrap();
        let config = with(config(), |c| (c.workers, c.mask) = (several(), mask));
        // Within the second epoch, after a selection.
        let stop = 2 * 10 + 2 * 8 - 1;
        let (outcome, _) = train(&config, folder.path(), Some(stop));
        assert!(matches!(outcome, Ok(Outcome::Interrupted(cause)) if cause.number() == 15), "{outcome:?}");
        let checkpoints = folder.path().join("checkpoints");
        let names =
            std::fs::read_dir(&checkpoints).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut states: Vec<String> = names.filter(|name| name.ends_with(".workers.safetensors")).collect();
        states.sort();
        assert_eq!(states.len(), 2, "{states:?}");
        assert!(chain(&config, folder.path()).verify().iter().all(|file| file.result.is_ok()));
        // Of another run, at the same place.
        let other = tempfile::tempdir().unwrap();
        train(&with(config.clone(), |c| c.train.seed = 6), other.path(), Some(stop)).0.unwrap();
        let path = checkpoints.join(&states[1]);
        std::fs::copy(other.path().join("checkpoints").join(&states[1]), &path).unwrap();
        let error = train(&config, folder.path(), None).0.unwrap_err();
        let other =
            matches!(&error, Error::Checkpoint(e) if matches!(e.problem(), Problem::OtherWorkers { .. }));
        assert!(other, "{error}");
        std::fs::remove_file(path).unwrap();
        let message = train(&config, folder.path(), None).0.unwrap_err().to_string();
        assert!(message.contains(&states[1]), "{message}");
        assert!(!folder.path().join("final.safetensors").exists());
    }
}

#[test]
fn several_workers_without_states_are_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let config = with(config(), |c| {
        (c.workers, c.mask) = (several(), masking());
        c.checkpoint.state = CheckpointState::Off;
    });
    let (outcome, _) = train(&config, folder.path(), Some(25));
    assert!(matches!(outcome, Ok(Outcome::Interrupted(cause)) if cause.number() == 15), "{outcome:?}");
    assert!(matches!(train(&config, folder.path(), None).0, Err(Error::NoVelocity)));
}

#[test]
fn stopped_and_resumed_ends_with_the_same_bits_cpu() {
    for (workers, mask) in kinds() {
        let shards = if workers.shard_data { workers.count } else { 1 };
        let config = with(config(), |c| {
            (c.workers, c.mask) = (workers, mask);
            c.data.images = c.data.images.map(|images| images * shards);
        });
        // In the first worker's step 3, which the others follow; where they merge; in a later worker's
        // segment, which goes on to the merge; twice; where a mask is selected after the merge; at an epoch's
        // end.
        stopped_and_resumed_ends_with_the_same_bits(&config, &[&[3], &[4], &[6], &[9, 5], &[12], &[18]]);
    }
}

fn masked_workers_stop_and_resume(config: &Config) {
    let workers = WorkerSettings { merge_steps: 2, ..several() };
    let config = with(config.clone(), |c| (c.workers, c.mask) = (workers, masking()));
    stopped_and_resumed_ends_with_the_same_bits(&config, &[&[1, 2]]);
}

#[test]
fn masked_workers_stop_and_resume_emulated() {
    masked_workers_stop_and_resume(&emulated());
}

#[test]
fn masked_workers_stop_and_resume_cuda() {
    on_gpu(|_| masked_workers_stop_and_resume(&cuda()));
}

/// Each worker evaluates whole batches of the test images: together they see each image once.
#[test]
fn workers_evaluate_every_test_image_once() {
    // Batches of 500, 500 and 210, for fewer workers and for more.
    let images = 1210;
    for count in [2, 4] {
        let config = with(config(), |c| {
            c.train.epochs = 1;
            c.workers = WorkerSettings { count, ..several() };
        });
        let dataset = synthetic::dataset(160, images, 0);
        let test = Arc::new(dataset.test.clone());
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("checkpoints")).unwrap();
        let mut watch = Watch::default();
        train_on(&config, dataset, folder.path(), None, &mut watch).unwrap();

        let graph = config.network.model.graph(config.network.width).unwrap();
        let Loaded { weights, running, .. } =
            weights::load(&folder.path().join("final.safetensors"), &graph.layout).unwrap();
        let plans = plans(&graph, Batches { training: None, inference: images }).unwrap();
        let mut network = Network::new(graph, plans, Cpu::new(), &weights, &running).unwrap();
        let mut data = network.backend().data(&test, None).unwrap();
        let all = evaluate(&mut network, &mut data, 0..images, &mut None, |_, _| Ok(true)).unwrap().unwrap();
        let report = &watch.reports[0];
        assert_eq!(report.test_accuracy, 100.0 * all.correct as f64 / images as f64);
        let loss = all.loss / images as f64;
        assert!((report.test_loss - loss).abs() <= 1e-9 * loss, "{} and {loss}", report.test_loss);
    }
}
