//! Weights and full checkpoints: exact round trips, and an error naming file and tensor for each bad file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use fishmask::checkpoint::chain::{Chain, Velocity};
use fishmask::checkpoint::full::{self, State};
use fishmask::checkpoint::{Error, Moment, Problem, Progress, weights};
use fishmask::graph::{Init, Layout, Model, ModelId};
use fishmask::ops::Totals;
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

/// 29 weights (a 2x3x2x2 filter, five scales) and ten statistics.
fn small() -> Layout {
    let mut layout = Layout::default();
    layout.add_parameter("conv.weight".into(), vec![2, 3, 2, 2], Init::Constant(0.0));
    layout.add_parameter("bn.weight".into(), vec![5], Init::Constant(1.0));
    layout.add_statistic("bn".into(), 5);
    layout
}

/// Values that a careless copy changes: signed zero, NaNs with payloads, denormals, infinities, ordinary
/// ones.
fn awkward(n: usize, salt: u32) -> Vec<f32> {
    let special = [0x8000_0000, 0x7fc0_1234, 0xffa0_0001, 0x0000_0001, 0x807f_ffff, 0x7f80_0000, 0xff7f_ffff];
    let bits = |i: u32| match special.get(i as usize) {
        Some(&bits) => bits,
        None => (i + salt).wrapping_mul(0x9E37_79B9),
    };
    (0..n as u32).map(|i| f32::from_bits(bits(i))).collect()
}

/// The numbers among them.
fn finite(n: usize, salt: u32) -> Vec<f32> {
    let number = |v: f32| if v.is_finite() { v } else { -0.0 };
    awkward(n, salt).into_iter().map(number).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn state(layout: &Layout, epoch: u32, step: u32) -> State {
    State {
        progress: Progress {
            at: Moment::new(epoch, step),
            totals: Totals { loss: 0.1 + 0.2, correct: 3, images: u64::MAX },
            train_seconds: 1.0 / 3.0,
            total_seconds: f64::from_bits(1),
            ..Progress::default()
        },
        weights: awkward(layout.weight_count(), 1),
        velocity: Some(awkward(layout.weight_count(), 2)),
        running: awkward(layout.statistic_count(), 3),
        mask: None,
    }
}

#[track_caller]
fn assert_same(a: &State, b: &State) {
    let whole = |Progress { at, totals, .. }: Progress| (at, totals.correct, totals.images);
    assert_eq!(whole(a.progress), whole(b.progress));
    let floats = |Progress { totals, train_seconds, total_seconds, .. }: Progress| {
        [totals.loss, train_seconds, total_seconds].map(f64::to_bits)
    };
    assert_eq!(floats(a.progress), floats(b.progress));
    assert_eq!(bits(&a.weights), bits(&b.weights));
    assert_eq!(a.velocity.as_deref().map(bits), b.velocity.as_deref().map(bits));
    assert_eq!(bits(&a.running), bits(&b.running));
}

const ID: ModelId = ModelId::new(Model::Resnet9, 4);

struct Fixture {
    layout: Layout,
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Fixture { layout: small(), folder: tempfile::tempdir().unwrap() }
    }

    /// The checkpoint that a run would go on from, which is read.
    fn latest(&self) -> Result<Option<PathBuf>, Error> {
        let restored = Chain::read(self.folder.path(), ID, &self.layout)?.load_latest()?;
        Ok(restored.map(|restored| restored.path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Saves good weights and returns their path.
    fn weights(&self) -> PathBuf {
        let path = self.path("final.safetensors");
        let (values, running) = (finite(29, 1), finite(10, 2));
        weights::save(&path, ID, &self.layout, &values, &running).unwrap();
        path
    }

    /// Saves f32 tensors of ones, as another program would.
    fn foreign(&self, tensors: &[(&str, Dtype, &[usize])]) -> PathBuf {
        let path = self.path("foreign.safetensors");
        let data: Vec<Vec<u8>> = tensors
            .iter()
            .map(|(_, dtype, shape)| vec![1; shape.iter().product::<usize>() * dtype.bitsize() / 8])
            .collect();
        let views = tensors.iter().zip(&data).map(|((name, dtype, shape), data)| {
            (*name, TensorView::new(*dtype, shape.to_vec(), data).unwrap())
        });
        fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        path
    }

    /// The error of loading foreign tensors, without the path before it.
    fn refusal(&self, tensors: &[(&str, Dtype, &[usize])]) -> String {
        let path = self.foreign(tensors);
        let text = weights::load(&path, &self.layout).unwrap_err().to_string();
        text.strip_prefix(&format!("{}: ", path.display())).unwrap().to_string()
    }
}

const CONV: (&str, Dtype, &[usize]) = ("conv.weight", Dtype::F32, &[2, 3, 2, 2]);
const BN: (&str, Dtype, &[usize]) = ("bn.weight", Dtype::F32, &[5]);
const MEAN: (&str, Dtype, &[usize]) = ("bn.running_mean", Dtype::F32, &[5]);
const VAR: (&str, Dtype, &[usize]) = ("bn.running_var", Dtype::F32, &[5]);

#[test]
fn weights_round_trip_bit_for_bit() {
    let f = Fixture::new();
    let path = f.weights();
    let loaded = weights::load(&path, &f.layout).unwrap();
    assert_eq!(bits(&loaded.weights), bits(&finite(29, 1)));
    assert_eq!(bits(&loaded.running), bits(&finite(10, 2)));
    assert!(loaded.notes.is_empty());
}

#[test]
fn files_hold_pytorch_names_shapes_and_order() {
    let f = Fixture::new();
    let path = f.path("w.safetensors");
    let canonical: Vec<f32> = (0..29).map(|i| i as f32).collect();
    let running: Vec<f32> = (0..10).map(|i| i as f32).collect();
    weights::save(&path, ID, &f.layout, &f.layout.to_memory(&canonical), &running).unwrap();
    let bytes = fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    assert_eq!(names, ["bn.running_mean", "bn.running_var", "bn.weight", "conv.weight"]);
    let values = |name: &str| {
        let view = file.tensor(name).unwrap();
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(file.tensor("conv.weight").unwrap().shape(), [2, 3, 2, 2]);
    assert_eq!(values("conv.weight"), canonical[..24]);
    assert_eq!(values("bn.weight"), canonical[24..]);
    assert_eq!(values("bn.running_mean"), running[..5]);
    assert_eq!(values("bn.running_var"), running[5..]);
}

#[test]
fn the_same_weights_make_the_same_bytes() {
    let f = Fixture::new();
    let first = fs::read(f.weights()).unwrap();
    assert_eq!(fs::read(f.weights()).unwrap(), first);
}

#[test]
fn one_tensor_makes_a_file() {
    let f = Fixture::new();
    let path = f.path("logits.safetensors");
    fishmask::checkpoint::save_tensor(&path, "logits", vec![2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    let bytes = fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor("logits").unwrap();
    assert_eq!((file.len(), view.shape(), view.dtype()), (1, &[2, 3][..], Dtype::F32));
    assert_eq!(view.data()[20..], 5f32.to_le_bytes());
    // Too few values for the shape are refused before anything is written.
    assert!(fishmask::checkpoint::save_tensor(&path, "logits", vec![2, 3], &[9.0]).is_err());
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn num_batches_tracked_is_read_over() {
    let f = Fixture::new();
    let count: (&str, Dtype, &[usize]) = ("bn.num_batches_tracked", Dtype::I64, &[]);
    assert!(weights::load(&f.foreign(&[CONV, BN, MEAN, VAR, count]), &f.layout).is_ok());
}

#[test]
fn without_velocity_there_is_none() {
    let f = Fixture::new();
    let state = State { velocity: None, ..state(&f.layout, 3, 0) };
    let path = full::save(f.folder.path(), ID, &f.layout, &state).unwrap();
    assert_same(&full::load(&path, ID, &f.layout).unwrap(), &state);
    let chain = Chain::read(f.folder.path(), ID, &f.layout).unwrap();
    assert_eq!(chain.load_latest().unwrap().unwrap().velocity, Velocity::Absent);
}

#[test]
fn a_missing_tensor_is_named_with_its_shape() {
    let f = Fixture::new();
    assert_eq!(f.refusal(&[CONV, BN, MEAN]), "tensor bn.running_var of shape [5] is missing");
}

#[test]
fn an_extra_tensor_is_named_with_its_shape() {
    let f = Fixture::new();
    let extra: (&str, Dtype, &[usize]) = ("fc.bias", Dtype::F32, &[7, 2]);
    let text = f.refusal(&[CONV, BN, MEAN, VAR, extra]);
    assert_eq!(text, "tensor fc.bias of shape [7, 2] is not one of the model's");
}

#[test]
fn a_wrong_shape_is_named_with_both_shapes() {
    let f = Fixture::new();
    let turned: (&str, Dtype, &[usize]) = ("conv.weight", Dtype::F32, &[2, 2, 2, 3]);
    let text = f.refusal(&[turned, BN, MEAN, VAR]);
    assert_eq!(text, "tensor conv.weight: expected shape [2, 3, 2, 2], found [2, 2, 2, 3]");
}

#[test]
fn a_file_of_another_width_says_which() {
    let f = Fixture::new();
    let wider: (&str, Dtype, &[usize]) = ("conv.weight", Dtype::F32, &[8, 3, 2, 2]);
    let text = f.refusal(&[wider, BN, MEAN, VAR]);
    assert!(
        text.ends_with("expected shape [2, 3, 2, 2], found [8, 3, 2, 2]; the file is of width 8"),
        "{text}"
    );
}

#[test]
fn a_wrong_dtype_is_named() {
    let f = Fixture::new();
    let whole: (&str, Dtype, &[usize]) = ("bn.weight", Dtype::I32, &[5]);
    let text = f.refusal(&[CONV, whole, MEAN, VAR]);
    assert_eq!(text, "tensor bn.weight: expected dtype F32 or F16 or BF16 or F64, found I32");
}

#[test]
fn weights_of_another_model_say_whose_they_are() {
    let f = Fixture::new();
    let models = [Model::Resnet9, Model::Resnet18, Model::Resnet34];
    for model in models {
        let layout = model.graph(2).unwrap().layout;
        let path = f.path("other.safetensors");
        weights::save(
            &path,
            ModelId::new(model, 2),
            &layout,
            &layout.initial_weights(0),
            &layout.initial_statistics(),
        )
        .unwrap();
        for other in models.into_iter().filter(|&other| other != model) {
            let text = weights::load(&path, &other.graph(2).unwrap().layout).unwrap_err().to_string();
            assert!(text.ends_with(&format!("; the file holds {model}'s tensors")), "{text}");
        }
    }
}

#[test]
fn a_full_checkpoint_is_not_taken_for_weights() {
    let f = Fixture::new();
    for velocity in [None, state(&f.layout, 1, 0).velocity] {
        let state = State { velocity, ..state(&f.layout, 1, 0) };
        let path = full::save(f.folder.path(), ID, &f.layout, &state).unwrap();
        let text = weights::load(&path, &f.layout).unwrap_err().to_string();
        assert!(
            text.ends_with("a full checkpoint; `fishmask checkpoint restore` writes its weights"),
            "{text}"
        );
    }
}

/// Offsets whose sum with the header's length does not fit 64 bits.
#[test]
fn offsets_near_the_end_of_64_bits_are_an_error() {
    let f = Fixture::new();
    let path = f.path("f");
    let tensor = |i: u64, elements: u64, begin: u64, end: u64| {
        format!(r#""t{i}":{{"dtype":"U8","shape":[{elements}],"data_offsets":[{begin},{end}]}}"#)
    };
    let block = 1 << 60;
    let mut entries: Vec<String> = (0..15).map(|i| tensor(i, block, i * block, (i + 1) * block)).collect();
    entries.push(tensor(15, block - 1, 15 * block, u64::MAX));
    let header = format!("{{{}}}", entries.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    fs::write(&path, bytes).unwrap();
    let error = weights::load(&path, &f.layout).unwrap_err();
    assert!(matches!(error.problem(), Problem::NotSafetensors { .. }), "{error}");
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let f = Fixture::new();
    let checkpoint = full::save(f.folder.path(), ID, &f.layout, &state(&f.layout, 1, 2)).unwrap();
    for (path, is_full) in [(f.weights(), false), (checkpoint, true)] {
        let bytes = fs::read(&path).unwrap();
        let cut = f.path("cut");
        for length in 0..bytes.len() {
            fs::write(&cut, &bytes[..length]).unwrap();
            let refused = match is_full {
                true => full::load(&cut, ID, &f.layout).is_err(),
                false => weights::load(&cut, &f.layout).is_err(),
            };
            assert!(refused, "{} cut to {length} bytes", path.display());
        }
    }
}

#[test]
fn full_checkpoints_round_trip_bit_for_bit() {
    let f = Fixture::new();
    for (epoch, batch, loss) in [(0, 1, f64::NAN), (3, 0, -0.0), (9999, 99999, f64::INFINITY)] {
        let mut state = state(&f.layout, epoch, batch);
        state.progress.totals.loss = loss;
        let path = full::save(f.folder.path(), ID, &f.layout, &state).unwrap();
        assert_same(&full::load(&path, ID, &f.layout).unwrap(), &state);
    }
}

#[test]
fn names_sort_by_time_and_two_are_kept() {
    let f = Fixture::new();
    let names = |folder: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(f.latest().unwrap(), None);
    let mut saved = vec![];
    for (epoch, batch) in [(1, 0), (2, 0), (2, 78), (10, 0)] {
        saved.push(full::save(f.folder.path(), ID, &f.layout, &state(&f.layout, epoch, batch)).unwrap());
        assert_eq!(f.latest().unwrap().as_ref(), saved.last());
    }
    assert!(saved.is_sorted());
    assert_eq!(
        names(f.folder.path()),
        ["epoch-0002-step-00078.safetensors", "epoch-0010-step-00000.safetensors"]
    );
    // What a killed writer leaves is no checkpoint.
    fs::write(f.path(".epoch-0011-step-00000.safetensors.7.partial"), "half").unwrap();
    fs::write(f.path("notes.txt"), "mine").unwrap();
    assert_eq!(f.latest().unwrap().as_ref(), Some(&saved[3]));
}

#[test]
fn a_damaged_newest_checkpoint_is_named_with_the_older_and_never_passed_over() {
    let f = Fixture::new();
    let older = full::save(f.folder.path(), ID, &f.layout, &state(&f.layout, 1, 0)).unwrap();
    let newest = full::save(f.folder.path(), ID, &f.layout, &state(&f.layout, 2, 0)).unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&newest, bytes).unwrap();
    let text = f.latest().unwrap_err().to_string();
    assert!(text.contains(&format!("({}: damaged: its md5 should be", newest.display())), "{text}");
    assert!(text.ends_with(&format!("remove it to go on from {}", older.display())), "{text}");
    fs::write(&older, "gone too").unwrap();
    let text = f.latest().unwrap_err().to_string();
    assert!(text.ends_with("there is no older one that can"), "{text}");
}

#[test]
fn a_checkpoint_of_another_model_or_of_none_is_refused() {
    let f = Fixture::new();
    let path = full::save(f.folder.path(), ID, &f.layout, &state(&f.layout, 1, 0)).unwrap();
    let text = full::load(&path, ModelId::new(Model::Resnet34, 8), &f.layout).unwrap_err().to_string();
    assert!(text.ends_with("a checkpoint of resnet9 of width 4, not of resnet34 of width 8"), "{text}");
    let error = full::load(&f.weights(), ID, &f.layout).unwrap_err();
    assert!(matches!(error.problem(), Problem::NotCheckpoint { .. }), "{error}");
    // A later format is told apart from damage, whatever else its metadata holds.
    let map =
        std::collections::HashMap::from([("fishmask".to_string(), r#"{"format":2,"new":1}"#.to_string())]);
    let data = [0; 4];
    let view = TensorView::new(Dtype::F32, vec![1], &data).unwrap();
    let later = f.path("later");
    fs::write(&later, safetensors::serialize([("x", view)], Some(map)).unwrap()).unwrap();
    let text = full::load(&later, ID, &f.layout).unwrap_err().to_string();
    assert!(text.ends_with("its format is version 2; this program reads version 1"), "{text}");
}

/// Files as saved, made once: syncing them for every case would take most of the time.
static SAVED: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let f = Fixture::new();
    let checkpoint = full::save(f.folder.path(), ID, &f.layout, &state(&f.layout, 1, 2)).unwrap();
    [fs::read(f.weights()).unwrap(), fs::read(checkpoint).unwrap()]
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bytes change, loading does not panic, and what loads is what was saved.
    #[test]
    fn mutated_checkpoints_load_as_saved_or_not_at_all(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        in_header in any::<bool>(),
    ) {
        let f = Fixture::new();
        let saved = state(&f.layout, 1, 2);
        let path = f.path("f");
        let mut bytes = SAVED[1].clone();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let end = if in_header { header } else { bytes.len() };
        for (index, value) in changes {
            bytes[index.index(end)] = value;
        }
        fs::write(&path, bytes).unwrap();
        if let Ok(loaded) = full::load(&path, ID, &f.layout) {
            assert_same(&loaded, &saved);
        }
    }

    /// Likewise weights.
    #[test]
    fn mutated_weights_load_as_saved_or_not_at_all(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let f = Fixture::new();
        let path = f.path("f");
        let mut bytes = SAVED[0].clone();
        for (index, value) in changes {
            let i = index.index(bytes.len());
            bytes[i] = value;
        }
        fs::write(&path, &bytes).unwrap();
        if let Ok(loaded) = weights::load(&path, &f.layout) {
            prop_assert_eq!(bits(&loaded.weights), bits(&finite(29, 1)));
            prop_assert_eq!(bits(&loaded.running), bits(&finite(10, 2)));
        }
    }

    /// Bytes made up altogether.
    #[test]
    fn made_up_bytes_never_panic(header in ".{0,200}", data in prop::collection::vec(any::<u8>(), 0..200)) {
        let f = Fixture::new();
        let path = f.path("f");
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(&data);
        for bytes in [&bytes[..], &data] {
            fs::write(&path, bytes).unwrap();
            prop_assert!(weights::load(&path, &f.layout).is_err());
            prop_assert!(full::load(&path, ID, &f.layout).is_err());
        }
    }
}
