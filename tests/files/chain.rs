//! Chains of small checkpoints: exact round trips, what writers refuse, pruning, sizes.

use std::collections::BTreeMap;
use std::fs;

use crate::support::chain::{
    ID, Run, SCHEDULE, begin_three_masks, bits, names, place, small, three_masks, verified,
};
use fishmask::checkpoint::chain::{Chain, Kind, Values, Velocity, Writer, diff};
use fishmask::checkpoint::full::{self, State};
use fishmask::checkpoint::{Error, Hash, Moment, Problem, Progress, weights};
use fishmask::graph::{Init, Layout, Model, ModelId};
use half::f16;
use tempfile::tempdir;

#[test]
fn every_delta_restores_bit_for_bit() {
    let layout = Model::Resnet9.graph(2).unwrap().layout;
    let folder = tempdir().unwrap();
    let runs = three_masks(folder.path(), layout.clone());
    let chain = verified(folder.path(), &layout);
    for run in &runs {
        let restored = chain.load(run.progress.at).unwrap();
        run.assert_restored(&restored);
    }
    runs[7].assert_restored(&chain.load_latest().unwrap().unwrap());
    // The second mask came into force twice, and is there once.
    let masks = names(folder.path()).into_iter().filter(|name| name.starts_with("mask-"));
    assert_eq!(masks.count(), 3);
    // A chain is as deep as it had masks: deltas of one mask share a parent.
    let parents: Vec<Hash> = chain
        .checkpoints()
        .iter()
        .filter_map(|c| match c.kind {
            Kind::Delta { parent, .. } => Some(parent),
            _ => None,
        })
        .collect();
    let models: Vec<Hash> = chain.checkpoints().iter().filter_map(|c| c.model).collect();
    let expected = [0, 0, 2, 2, 4, 4, 6, 6].map(|i| models[i]);
    assert_eq!(parents, expected);
}

#[test]
fn awkward_values_survive() {
    let folder = tempdir().unwrap();
    let mut run = Run::new(small());
    let special = [0x8000_0000, 0x7fc0_1234, 0xffa0_0001, 0x0000_0001, 0x807f_ffff, 0x7f80_0000, 0xff7f_ffff];
    special.iter().zip(&mut run.weights).for_each(|(&bits, w)| *w = f32::from_bits(bits));
    special.iter().zip(&mut run.running).for_each(|(&bits, r)| *r = f32::from_bits(bits));
    let mut writer = run.open(folder.path());
    run.base(&mut writer);
    run.choose(29);
    run.begin_mask(&mut writer);
    let special = special.map(f32::from_bits);
    run.weights[10..17].copy_from_slice(&special);
    run.velocity[3..10].copy_from_slice(&special);
    let totals = fishmask::ops::Totals { loss: f64::NEG_INFINITY, correct: 3, images: u64::MAX };
    let (train_seconds, total_seconds) = (-0.0, f64::from_bits(1));
    let at = Moment::new(9999, 99999);
    run.progress = Progress { at, totals, train_seconds, total_seconds, ..Progress::default() };
    run.delta(&mut writer);
    let restored = verified(folder.path(), &run.layout).load(at).unwrap();
    assert_eq!((bits(&restored.weights), bits(&restored.running)), (bits(&run.weights), bits(&run.running)));
    let Velocity::Kept(velocity) = restored.velocity else { panic!("no velocity") };
    assert_eq!(bits(&velocity), bits(&run.velocity));
    assert_eq!(restored.progress, run.progress);
    assert!(restored.progress.train_seconds.is_sign_negative());
}

#[test]
fn a_base_is_a_file_of_weights_in_canonical_order() {
    let folder = tempdir().unwrap();
    let layout = Model::Resnet18.graph(1).unwrap().layout;
    let run = Run::new(layout.clone());
    run.base(&mut run.open(folder.path()));
    let path = folder.path().join("base-0000-step-00000.safetensors");
    let loaded = weights::load(&path, &layout).unwrap();
    assert_eq!((loaded.weights, loaded.running), (run.weights.clone(), run.running.clone()));
    let bytes = fs::read(&path).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert!(data.is_multiple_of(8));
    let flat: Vec<f32> = [layout.to_canonical(&run.weights), run.running].concat();
    let flat: Vec<u8> = flat.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert!(bytes[data..] == flat);
    let chain = verified(folder.path(), &layout);
    let hash = blake3::hash(&flat).to_hex();
    assert_eq!(chain.checkpoints()[0].model.unwrap().to_string(), hash.as_str());
    assert!(chain.latest().is_none(), "a base alone has nothing to go on with");
    assert_eq!(chain.load_latest().unwrap(), None);
    assert_eq!(chain.load(Moment::new(0, 0)).unwrap().weights, run.weights);
}

/// What a run writes after it was stopped and went on is what it would have written.
#[test]
fn a_writer_that_goes_on_writes_the_same_files() {
    let contents = |folder: &std::path::Path| -> BTreeMap<String, Vec<u8>> {
        names(folder).into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
    };
    let (whole, stopped) = (tempdir().unwrap(), tempdir().unwrap());
    three_masks(whole.path(), small());
    let (mut run, masks) = begin_three_masks(stopped.path(), small());
    for (mask, moments) in SCHEDULE {
        run.keep(masks[mask].clone());
        for (epoch, step) in moments {
            // A new writer each time.
            let mut writer = run.open(stopped.path());
            run.begin_mask(&mut writer);
            run.train(epoch, step);
            run.delta(&mut writer);
        }
    }
    assert!(contents(whole.path()) == contents(stopped.path()));
}

/// As of a run that is told to stop when it has chosen its mask.
#[test]
fn a_delta_of_its_bases_time_restores() {
    let folder = tempdir().unwrap();
    let mut run = Run::new(small());
    let mut writer = run.open(folder.path());
    run.train(1, 0);
    run.base(&mut writer);
    run.choose(5);
    run.begin_mask(&mut writer);
    run.delta(&mut writer);
    run.assert_restored(&verified(folder.path(), &run.layout).load_latest().unwrap().unwrap());
}

#[test]
fn f16_values_restore_rounded_in_every_place_a_mask_has_kept() {
    let folder = tempdir().unwrap();
    let mut run = Run::new(small());
    let mut writer = Writer::open(folder.path(), ID, &run.layout, Values::F16).unwrap();
    run.base(&mut writer);
    let mut kept_once = vec![];
    for epoch in 1..=4 {
        if epoch != 2 {
            run.choose(7);
            run.begin_mask(&mut writer);
        }
        run.train(epoch, 0);
        writer.delta(&run.progress, None, &run.running, run.source()).unwrap();
        kept_once.extend_from_slice(&run.mask);
        let restored = verified(folder.path(), &run.layout).load(Moment::new(epoch, 0)).unwrap();
        let mut expected = run.weights.clone();
        for &index in &kept_once {
            let at = place(&run.layout, index);
            expected[at] = f16::from_f32(run.weights[at]).to_f32();
        }
        assert_ne!(expected, run.weights);
        assert_eq!(bits(&restored.weights), bits(&expected));
        assert_eq!((restored.velocity, restored.mask), (Velocity::Absent, Some(run.mask.clone())));
    }
    let refused = |result: Result<_, Error>| result.map(drop).unwrap_err().to_string();
    let text = refused(writer.delta(&run.progress, Some(&run.velocity), &run.running, run.source()));
    assert!(text.contains("f16 values do not go with velocity"), "{text}");
    let index = run.mask[3];
    run.weights[place(&run.layout, index)] = 65520.0;
    let text = refused(writer.delta(&run.progress, None, &run.running, run.source()));
    assert!(text.contains(&format!("weight {index} is beyond what f16 holds")), "{text}");
    verified(folder.path(), &run.layout);
}

/// What a base holds exactly is rounded no more.
#[test]
fn a_new_base_forgets_which_values_were_rounded() {
    let folder = tempdir().unwrap();
    let mut run = Run::new(small());
    let mut writer = Writer::open(folder.path(), ID, &run.layout, Values::F16).unwrap();
    let mut expected = vec![];
    for epoch in 1..=2 {
        run.base(&mut writer);
        expected = run.weights.clone();
        run.choose(7);
        run.begin_mask(&mut writer);
        run.train(epoch, 0);
        writer.delta(&run.progress, None, &run.running, run.source()).unwrap();
    }
    for &index in &run.mask {
        let at = place(&run.layout, index);
        expected[at] = f16::from_f32(run.weights[at]).to_f32();
    }
    let restored = verified(folder.path(), &run.layout).load(Moment::new(2, 0)).unwrap();
    assert_eq!(bits(&restored.weights), bits(&expected));
    assert!(expected.iter().any(|&v| v != f16::from_f32(v).to_f32()), "the first mask's are exact again");
}

#[test]
fn a_delta_that_would_not_restore_is_not_written() {
    let folder = tempdir().unwrap();
    let mut run = Run::new(small());
    let mut writer = run.open(folder.path());
    run.choose(5);
    let refused = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert!(matches!(error.problem(), Problem::NotDelta { .. }), "{error}");
        error.to_string()
    };
    let text = refused(writer.mask(&run.mask, &run.running, run.source()).map(drop));
    assert!(text.ends_with("there is no base to build on"), "{text}");
    let delta = |writer: &mut Writer, run: &Run| {
        writer.delta(&run.progress, Some(&run.velocity), &run.running, run.source()).map(drop)
    };
    assert!(refused(delta(&mut writer, &run)).ends_with("no mask is in force"));
    run.base(&mut writer);
    run.begin_mask(&mut writer);
    run.train(1, 0);
    // A new mask when the old one's values are not in the chain.
    let mut other = run.clone();
    other.choose(5);
    let text = refused(writer.mask(&other.mask, &other.running, other.source()).map(drop));
    assert!(text.ends_with("when the weights were not those of the last checkpoint"), "{text}");
    // A weight that changes outside the mask.
    let mut moved = run.clone();
    let outside = (0..29).find(|i| !run.mask.contains(i)).unwrap();
    moved.weights[place(&run.layout, outside)] += 1.0;
    assert!(refused(delta(&mut writer, &moved)).contains("weights outside the mask changed"));
    // The chain is none the worse for it.
    run.delta(&mut writer);
    run.assert_restored(&verified(folder.path(), &run.layout).load(Moment::new(1, 0)).unwrap());
    // A new base ends the mask.
    run.base(&mut writer);
    assert!(refused(delta(&mut writer, &run)).ends_with("no mask is in force"));
}

/// In a layer of several pieces, each with a checksum of its own.
#[test]
fn a_change_outside_the_mask_is_found_in_every_piece() {
    let folder = tempdir().unwrap();
    let mut layout = Layout::default();
    layout.add_parameter("wide.weight".into(), vec![170_000], Init::Constant(1.0));
    layout.add_statistic("bn".into(), 1);
    let mut run = Run::new(layout);
    let mut writer = run.open(folder.path());
    run.base(&mut writer);
    run.mask = vec![0, 100_000];
    run.velocity = vec![0.0; 2];
    run.begin_mask(&mut writer);
    run.train(1, 0);
    for outside in [1, 65_535, 65_536, 131_071, 131_072, 169_999] {
        let mut moved = run.clone();
        moved.weights[outside] += 1.0;
        let error = writer.delta(&run.progress, Some(&run.velocity), &run.running, moved.source());
        assert!(error.unwrap_err().to_string().contains("weights outside the mask changed"), "{outside}");
    }
    run.delta(&mut writer);
}

/// A source's own error comes out as it is, and leaves nothing behind.
#[test]
fn a_source_that_fails_leaves_the_chain_as_it_was() {
    let folder = tempdir().unwrap();
    let run = Run::new(small());
    let mut writer = run.open(folder.path());
    for fails_at in 0..2 {
        let mut asked = 0;
        let source = |p: &fishmask::graph::layout::Parameter| {
            asked += 1;
            let whole = || Ok(run.weights[p.range()].to_vec());
            if asked > fails_at { Err(fishmask::train::Error::NoVelocity) } else { whole() }
        };
        let error = writer.base(&run.progress, &run.running, source).unwrap_err();
        assert!(matches!(error, fishmask::train::Error::NoVelocity), "{error}");
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

#[test]
fn a_full_checkpoint_belongs_to_the_chain_with_its_mask() {
    let folder = tempdir().unwrap();
    let runs = three_masks(folder.path(), small());
    let (layout, last) = (small(), &runs[7]);
    let state = State {
        progress: Progress { at: Moment::new(6, 2), ..last.progress },
        weights: vec![4.0; 29],
        velocity: Some(vec![5.0; 29]),
        running: vec![6.0; 10],
        mask: Some(Hash::of_indices(&last.mask)),
    };
    full::save(folder.path(), ID, &layout, &state).unwrap();
    let chain = verified(folder.path(), &layout);
    let restored = chain.load_latest().unwrap().unwrap();
    assert_eq!((restored.weights, restored.velocity), (vec![4.0; 29], Velocity::Dense(vec![5.0; 29])));
    assert_eq!(restored.mask.as_ref(), Some(&last.mask));
    // Pruned down to it, its mask stays.
    chain.prune(1).unwrap();
    let mask = format!("mask-{}.safetensors", Hash::of_indices(&last.mask).short());
    assert_eq!(names(folder.path()), ["epoch-0006-step-00002.safetensors", &mask]);
    verified(folder.path(), &layout);
}

#[test]
fn the_newest_is_never_passed_over() {
    let folder = tempdir().unwrap();
    three_masks(folder.path(), small());
    let newest = folder.path().join("epoch-0006-step-00001.delta.safetensors");
    let good = fs::read(&newest).unwrap();
    for damage in [|b: &mut Vec<u8>| *b.last_mut().unwrap() ^= 1, |b: &mut Vec<u8>| b.truncate(40)] {
        let mut bytes = good.clone();
        damage(&mut bytes);
        fs::write(&newest, bytes).unwrap();
        let chain = Chain::read(folder.path(), ID, &small()).unwrap();
        let text = chain.load_latest().unwrap_err().to_string();
        assert!(text.contains(&format!("cannot be used ({}: ", newest.display())), "{text}");
        assert!(text.ends_with("epoch-0006-step-00000.delta.safetensors"), "{text}");
    }
}

#[test]
fn pruned_to_any_length_the_rest_restores_the_same() {
    for keep in 1..=9 {
        let folder = tempdir().unwrap();
        let runs = three_masks(folder.path(), small());
        let before: u64 =
            names(folder.path()).iter().map(|n| folder.path().join(n).metadata().unwrap().len()).sum();
        let pruned = verified(folder.path(), &small()).prune(keep).unwrap();
        let chain = verified(folder.path(), &small());
        let kept = &runs[8_usize.saturating_sub(keep)..];
        let deltas = || chain.checkpoints().iter().filter(|c| c.kind != Kind::Base);
        assert_eq!(deltas().count(), kept.len());
        assert_eq!(chain.checkpoints().len(), kept.len() + 1, "one base");
        for run in kept {
            run.assert_restored(&chain.load(run.progress.at).unwrap());
        }
        // Deltas 0 and 1 build on the base; those after on a delta that goes, unless it is kept.
        let rebased = keep <= 6;
        assert_eq!(pruned.written.len(), usize::from(rebased), "{keep}: {:?}", pruned.written);
        let after: u64 =
            names(folder.path()).iter().map(|n| folder.path().join(n).metadata().unwrap().len()).sum();
        let written: u64 = pruned.written.iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(after, before + written - pruned.bytes);
        // Again there is nothing to do, and the run goes on.
        assert_eq!(chain.prune(keep).unwrap(), Default::default());
        let mut run = runs[7].clone();
        let mut writer = run.open(folder.path());
        run.begin_mask(&mut writer);
        run.train(7, 0);
        run.delta(&mut writer);
        run.assert_restored(&verified(folder.path(), &small()).load(Moment::new(7, 0)).unwrap());
    }
}

/// Every prefix of what pruning does, as a kill leaves it, verifies and restores what was to be kept.
#[test]
fn a_prune_cut_short_anywhere_leaves_a_chain_that_verifies() {
    for keep in [1, 2, 3, 5] {
        let whole = tempdir().unwrap();
        let runs = three_masks(whole.path(), small());
        let before: BTreeMap<String, Vec<u8>> = names(whole.path())
            .into_iter()
            .map(|n| (n.clone(), fs::read(whole.path().join(n)).unwrap()))
            .collect();
        let pruned = verified(whole.path(), &small()).prune(keep).unwrap();
        for removals in 0..=pruned.removed.len() {
            let folder = tempdir().unwrap();
            before.iter().for_each(|(name, bytes)| fs::write(folder.path().join(name), bytes).unwrap());
            for path in &pruned.written {
                fs::copy(path, folder.path().join(path.file_name().unwrap())).unwrap();
            }
            for path in &pruned.removed[..removals] {
                fs::remove_file(folder.path().join(path.file_name().unwrap())).unwrap();
            }
            let chain = verified(folder.path(), &small());
            for run in &runs[8 - keep..] {
                run.assert_restored(&chain.load(run.progress.at).unwrap());
            }
            chain.prune(keep).unwrap();
            assert_eq!(names(folder.path()), names(whole.path()), "{keep}, {removals}");
        }
    }
}

#[test]
fn prune_removes_nothing_when_what_it_is_to_keep_is_damaged() {
    let folder = tempdir().unwrap();
    three_masks(folder.path(), small());
    let before = names(folder.path());
    // Of the second nothing else is made that would need it.
    for damaged in ["base-0000-step-00000.safetensors", "epoch-0006-step-00001.delta.safetensors"] {
        let path = folder.path().join(damaged);
        let good = fs::read(&path).unwrap();
        let mut bytes = good.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let text = Chain::read(folder.path(), ID, &small()).unwrap().prune(2).unwrap_err().to_string();
        assert!(text.contains(&format!("{damaged}: damaged")), "{text}");
        assert_eq!(names(folder.path()), before);
        fs::write(&path, good).unwrap();
    }
}

/// When dense epochs end: a full checkpoint, and what the masks to come build on. What a killed program left
/// goes.
#[test]
fn a_base_beside_the_newest_checkpoint_is_not_pruned() {
    let folder = tempdir().unwrap();
    let mut run = Run::new(small());
    let mut writer = run.open(folder.path());
    run.base(&mut writer);
    run.train(1, 0);
    run.base(&mut writer);
    let state = State {
        progress: run.progress,
        weights: run.weights.clone(),
        velocity: Some(vec![0.0; 29]),
        running: run.running.clone(),
        mask: None,
    };
    full::save(folder.path(), ID, &run.layout, &state).unwrap();
    fs::write(folder.path().join(".epoch-0002-step-00000.safetensors.7.partial"), "").unwrap();
    let chain = verified(folder.path(), &run.layout);
    assert_eq!(chain.load(Moment::new(1, 0)).unwrap().velocity, Velocity::Dense(vec![0.0; 29]));
    chain.prune(1).unwrap();
    let expected = ["base-0001-step-00000.safetensors", "epoch-0001-step-00000.safetensors"];
    assert_eq!(names(folder.path()), expected);
    // A delta of that time which cannot be used hides no full checkpoint.
    let broken = folder.path().join("epoch-0001-step-00000.delta.safetensors");
    fs::write(&broken, "").unwrap();
    let latest = Chain::read(folder.path(), ID, &run.layout).unwrap().load_latest().unwrap().unwrap();
    assert_eq!(latest.velocity, Velocity::Dense(vec![0.0; 29]));
    fs::remove_file(broken).unwrap();
    run.choose(5);
    run.begin_mask(&mut writer);
    run.train(2, 0);
    run.delta(&mut writer);
    run.assert_restored(&verified(folder.path(), &run.layout).load(Moment::new(2, 0)).unwrap());
}

#[test]
fn diff_tells_what_changed_by_layer() {
    let layout = small();
    let a = layout.initial_weights(0);
    let mut b = a.clone();
    b[2] = -3.0;
    b[7] = -0.0;
    b[28] = f32::NAN;
    let rows = diff(&layout, &a, &b);
    let found: Vec<_> = rows.iter().map(|r| (&r.name[..], r.weights, r.changed)).collect();
    assert_eq!(found, [("conv.weight", 24, 2), ("bn.weight", 5, 1)]);
    assert_eq!(rows[0].largest, 3.0);
    assert!(rows[1].largest.is_nan());
}

/// Values alone of resnet34 at 0.5%: 4 bytes a kept weight and a statistic, and at most 2% more.
#[test]
fn a_delta_is_as_small_as_its_content() {
    let graph = Model::Resnet34.graph(64).unwrap();
    let folder = tempdir().unwrap();
    // First values take seconds to draw, and are not what this is about.
    let weights =
        |p: &fishmask::graph::layout::Parameter| Ok::<_, Error>(vec![1e-4 * p.offset as f32; p.count()]);
    let running = graph.layout.initial_statistics();
    let id = ModelId::new(Model::Resnet34, 64);
    for (values, each) in [(Values::F32, 4), (Values::F16, 2)] {
        let mut writer = Writer::open(folder.path(), id, &graph.layout, values).unwrap();
        writer.base(&Progress::default(), &running, weights).unwrap();
        let kept = graph.layout.weight_count() / 200;
        let indices: Vec<u32> = (0..kept as u32).map(|i| 200 * i + i % 7).collect();
        writer.mask(&indices, &running, weights).unwrap();
        let at = Progress { at: Moment::new(1, 0), test_accuracy: Some(87.5), ..Progress::default() };
        let path = writer.delta(&at, None, &running, weights).unwrap();
        let (bytes, content) = (path.metadata().unwrap().len() as usize, each * kept + 4 * running.len());
        assert!(bytes <= content + content / 50, "{bytes} bytes for {content}");
        println!("resnet34 at 0.5%, {values:?}: {bytes} bytes, content {content}");
    }
}
