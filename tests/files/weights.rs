//! Files of weights as other people have them, and ours with a bit of them changed.

use std::fs;
use std::path::PathBuf;

use crate::support::chain::{ID, bits, small};
use crate::support::safetensors::{Entry, file};
use fishmask::checkpoint::weights::{self, Loaded};
use fishmask::checkpoint::{Error, Problem};
use fishmask::graph::{Init, Layout};
use half::{bf16, f16};
use tempfile::{TempDir, tempdir};

struct Fixture {
    folder: TempDir,
    layout: Layout,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { folder: tempdir().unwrap(), layout: small() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("f.safetensors")
    }

    fn load(&self, bytes: &[u8]) -> Result<Loaded, Error> {
        fs::write(self.path(), bytes).unwrap();
        weights::load(&self.path(), &self.layout)
    }

    /// The error without the path before it.
    fn refusal(&self, bytes: &[u8]) -> String {
        let text = self.load(bytes).unwrap_err().to_string();
        text.strip_prefix(&format!("{}: ", self.path().display())).unwrap().to_string()
    }
}

/// Values that each of the types holds.
fn value(i: usize) -> f64 {
    i as f64 / 4.0 - 2.0
}

/// All tensors under names with a prefix, their values by `bytes`.
fn tensors(prefix: &str, dtype: &'static str, bytes: impl Fn(f64) -> Vec<u8>) -> Vec<Entry> {
    let shapes: [(&str, &[usize]); 4] = [
        ("conv.weight", &[2, 3, 2, 2]),
        ("bn.weight", &[5]),
        ("bn.running_mean", &[5]),
        ("bn.running_var", &[5]),
    ];
    let mut next = 0;
    let entry = |(name, shape): (&str, &[usize])| {
        let count = shape.iter().product::<usize>();
        let data = (next..next + count).flat_map(|i| bytes(value(i))).collect();
        next += count;
        Entry { name: format!("{prefix}{name}"), dtype, shape: shape.to_vec(), data }
    };
    shapes.map(entry).into_iter().collect()
}

fn f32s(v: f64) -> Vec<u8> {
    (v as f32).to_le_bytes().to_vec()
}

#[track_caller]
fn assert_values(f: &Fixture, loaded: &Loaded) {
    let values: Vec<f32> = (0..39).map(|i| value(i) as f32).collect();
    assert_eq!(f.layout.to_canonical(&loaded.weights), values[..29]);
    assert_eq!(loaded.running, values[29..]);
}

#[test]
fn names_of_modules_around_the_model_are_left_out_and_named() {
    let f = Fixture::new();
    for prefix in ["module.", "_orig_mod.", "model.", "module._orig_mod.", "state_dict.model.net.", "bn."] {
        let loaded = f.load(&file(None, &tensors(prefix, "F32", f32s))).unwrap();
        assert_values(&f, &loaded);
        let note = format!("{}: read without {prefix}, with which all its names begin", f.path().display());
        assert_eq!(loaded.notes, [note]);
    }
    // PyTorch's count goes with them.
    let mut all = tensors("module.", "F32", f32s);
    let name = "module.bn.num_batches_tracked".into();
    all.push(Entry { name, dtype: "I64", shape: vec![], data: vec![0; 8] });
    assert_values(&f, &f.load(&file(None, &all)).unwrap());
    // Not all of them: what is left over is named.
    let mut all = tensors("module.", "F32", f32s);
    all.push(Entry { name: "step".into(), dtype: "F32", shape: vec![1], data: vec![0; 4] });
    assert_eq!(f.refusal(&file(None, &all)), "tensor conv.weight of shape [2, 3, 2, 2] is missing");
    all[4].name = "module.step".into();
    assert_eq!(f.refusal(&file(None, &all)), "tensor step of shape [1] is not one of the model's");
    assert!(f.load(&file(None, &tensors("", "F32", f32s))).unwrap().notes.is_empty());
}

#[test]
fn other_types_of_float_are_converted_and_named() {
    let f = Fixture::new();
    let f16s = |v: f64| f16::from_f64(v).to_le_bytes().to_vec();
    let bf16s = |v: f64| bf16::from_f64(v).to_le_bytes().to_vec();
    let f64s = |v: f64| v.to_le_bytes().to_vec();
    let whole = [tensors("", "F16", f16s), tensors("", "BF16", bf16s), tensors("", "F64", f64s)];
    for (dtype, all) in ["F16", "BF16", "F64"].into_iter().zip(whole) {
        let loaded = f.load(&file(None, &all)).unwrap();
        assert_values(&f, &loaded);
        let note = format!("{}: its {dtype} values are converted to F32", f.path().display());
        assert_eq!(loaded.notes, [note]);
    }
    // One among others, as mixed precision leaves them.
    let mut mixed = tensors("", "F32", f32s);
    mixed[0] = tensors("", "F16", f16s).swap_remove(0);
    assert_values(&f, &f.load(&file(None, &mixed)).unwrap());
}

#[test]
fn what_is_no_number_is_named_with_its_place() {
    let f = Fixture::new();
    for (tensor, at, name) in [
        (0, 23, "conv.weight[1, 2, 1, 1]"),
        (1, 0, "bn.weight[0]"),
        (2, 4, "bn.running_mean[4]"),
        (3, 1, "bn.running_var[1]"),
    ] {
        for (bad, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
            let mut all = tensors("", "F32", f32s);
            all[tensor].data[4 * at..][..4].copy_from_slice(&bad.to_le_bytes());
            let expected =
                format!("tensor {name} is {shown}; weights and running statistics must be finite f32 values");
            assert_eq!(f.refusal(&file(None, &all)), expected);
        }
    }
    let wide = |bad: f64| {
        let mut all = tensors("", "F64", |v| v.to_le_bytes().to_vec());
        all[0].data[8..16].copy_from_slice(&bad.to_le_bytes());
        f.load(&file(None, &all))
    };
    let text = wide(-1e300).unwrap_err().to_string();
    assert!(text.contains("tensor conv.weight[0, 0, 0, 1] is -1e300; "), "{text}");
    // What is beyond f32 at its other end is 0, as everywhere.
    assert!(wide(1e-300).is_ok());
}

#[test]
fn files_of_other_kinds_are_recognised() {
    let f = Fixture::new();
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 109992\n";
    for (bytes, expected) in [
        (&pointer[..], "a Git LFS pointer; fetch the file that it stands for with `git lfs pull`"),
        (&[b"PK\x03\x04", &[0; 200][..]].concat(), "a zip archive, as torch.save writes; load it"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j", "a pickle, as torch.save wrote of old; load it"),
        (b"<!DOCTYPE html><html>404</html>", "a web page; get the file itself"),
        (b"\n<html>", "a web page; "),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "a file packed by gzip; unpack it with `gunzip`"),
        (b"\x93NUMPY\x01\0v\0{'descr': '<f4'", "a NumPy array; "),
    ] {
        let text = f.refusal(bytes);
        assert!(text.starts_with(&format!("not a safetensors file but {expected}")), "{text}");
        assert!(!text.contains('\n'));
    }
    for bytes in
        [&b""[..], b"1234567", &[0; 64], b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{", &[0xff; 90]]
    {
        let error = f.load(bytes).unwrap_err();
        assert!(matches!(error.problem(), Problem::NotSafetensors { .. }), "{error}");
    }
    let error = weights::load(&f.folder.path().join("absent"), &f.layout).unwrap_err().to_string();
    assert!(error.contains("absent: cannot read it: No such file"), "{error}");
    assert!(weights::load(f.folder.path(), &f.layout).is_err());
}

/// Each single bit of a file that this program wrote: an error, or the weights that were written.
#[test]
fn every_flipped_bit_is_found() {
    let f = Fixture::new();
    let values: Vec<f32> = (0..39).map(|i| value(i) as f32).collect();
    weights::save(&f.path(), ID, &f.layout, &values[..29], &values[29..]).unwrap();
    let good = fs::read(f.path()).unwrap();
    let begin = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let loaded = f.load(&good).unwrap();
    assert_eq!((&loaded.weights[..], &loaded.running[..]), (&values[..29], &values[29..]));
    for bit in 0..8 * good.len() {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        match f.load(&bad) {
            // The padding of the header, or the key by which the program knows its own: `fishmask`.
            Ok(loaded) => {
                assert!(bit / 8 < begin, "bit {bit} of the data");
                assert_eq!(
                    (bits(&loaded.weights), bits(&loaded.running)),
                    (bits(&values[..29]), bits(&values[29..]))
                );
            }
            Err(error) if bit / 8 >= begin => {
                assert!(matches!(error.problem(), Problem::Damaged { .. }), "bit {bit}: {error}");
            }
            Err(_) => {}
        }
    }
    let error = f.load(&[&good[..begin], &values[0].to_le_bytes(), &good[begin + 4..]].concat()).unwrap_err();
    assert!(error.to_string().contains("damaged: the BLAKE3 of its content should be "), "{error}");
}

#[test]
fn what_says_that_it_is_ours_must_be_whole() {
    let f = Fixture::new();
    let text = |json: &str| f.refusal(&file(Some(json), &tensors("", "F32", f32s)));
    assert_eq!(
        text("{}"),
        "not a file of weights: metadata entry `fishmask`: missing field `format` at line 1 column 2"
    );
    assert_eq!(
        text(r#"{"format":2}"#),
        "not a file of weights: its format is version 2; this program reads version 1"
    );
    assert_eq!(text(r#"{"format":1}"#), "not a file of weights: its metadata entry has no digest");
    assert!(text(r#"{"format":1,"check":""}"#).starts_with("damaged: "));
    // The entries of other programs are theirs.
    assert!(
        f.load(&crate::support::safetensors::with(&[("format", "pt")], &tensors("", "F32", f32s))).is_ok()
    );
}

#[test]
fn a_part_is_read_over_what_there_is() {
    let f = Fixture::new();
    let mut layout = small();
    layout.add_parameter("fc.weight".into(), vec![2, 5], Init::Constant(0.0));
    let start: Vec<f32> = (0..39).map(|i| 100.0 + i as f32).collect();
    let running = vec![-1.0; 10];
    fs::write(f.path(), file(None, &tensors("module.", "F32", f32s))).unwrap();
    let part = |wanted: &dyn Fn(&str) -> bool| {
        weights::load_part(&f.path(), &layout, wanted, &layout.to_memory(&start), running.clone())
    };
    let loaded = part(&|name| name.starts_with("bn.")).unwrap();
    let canonical = layout.to_canonical(&loaded.weights);
    assert_eq!(canonical[..24], start[..24]);
    assert_eq!(canonical[24..29], [24, 25, 26, 27, 28].map(|i| value(i) as f32));
    assert_eq!(canonical[29..], start[29..]);
    assert_eq!(loaded.running, (29..39).map(|i| value(i) as f32).collect::<Vec<_>>());
    assert_eq!(loaded.notes.len(), 1);
    let text = part(&|_| true).unwrap_err().to_string();
    assert!(text.ends_with("tensor fc.weight of shape [2, 5] is missing"), "{text}");
}
