//! Files of scores and masks that their writer never wrote: always a sentence, whatever they say.

use std::fs;
use std::path::PathBuf;

use crate::support::safetensors::{Entry, file, raw};
use fishmask::graph::{Model, ModelId};
use fishmask::mask::file::{About, Scores};
use fishmask::mask::{Mask, Order, file as scores};
use fishmask::ops::Power;
use tempfile::{TempDir, tempdir};

struct Fixture {
    folder: TempDir,
    /// Weights of the model.
    weights: usize,
}

impl Fixture {
    fn new() -> Fixture {
        let weights = Model::Resnet9.graph(1).unwrap().layout.weight_count();
        Fixture { folder: tempdir().unwrap(), weights }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("f.safetensors")
    }

    fn scores(&self) -> Entry {
        Entry::words("scores", "F32", (0..self.weights as u32).map(|i| (i as f32).to_bits()))
    }

    /// The error without the path before it.
    #[track_caller]
    fn refusal(&self, bytes: &[u8]) -> String {
        fs::write(self.path(), bytes).unwrap();
        let text = scores::load(&self.path()).unwrap_err().to_string();
        text.strip_prefix(&format!("{}: ", self.path().display())).unwrap().to_string()
    }
}

/// The entry of a file of before, which had no digest.
fn entry(width: &str, more: &str) -> String {
    let rest = r#""samples":2,"order":"shuffled","augment":true,"seed":0,"power":"square","expect":false"#;
    let net = format!(r#""kind":"scores","model":"resnet9","width":{width}"#);
    format!(r#"{{{net},"keep_ratio":0.02,{rest},"running":true{more}}}"#)
}

fn indices() -> Entry {
    Entry::words("indices", "U32", [0, 5])
}

#[test]
fn a_file_without_a_digest_is_read() {
    let f = Fixture::new();
    fs::write(f.path(), file(Some(&entry("1", "")), &[f.scores(), indices()])).unwrap();
    let (about, mask) = scores::load(&f.path()).unwrap();
    assert_eq!((about.id, mask.indices()), (ModelId::new(Model::Resnet9, 1), &[0, 5][..]));
}

#[test]
fn a_width_or_a_number_of_classes_that_cannot_be_is_refused() {
    let f = Fixture::new();
    let text =
        |width: &str, more: &str| f.refusal(&file(Some(&entry(width, more)), &[f.scores(), indices()]));
    for width in ["0", "513", "1000000", "4611686018427387904", "18446744073709551615"] {
        let expected = format!("not a file of scores: its width is {width}; it must be from 1 to 512");
        assert_eq!(text(width, ""), expected);
    }
    for classes in ["0", "257", "4611686018427387904"] {
        let expected =
            format!("not a file of scores: its number of classes is {classes}; it must be from 1 to 256");
        assert_eq!(text("1", &format!(r#","classes":{classes}"#)), expected);
    }
    assert!(text("-1", "").contains("invalid value"), "{}", text("-1", ""));
    assert!(text("2", "").contains("tensor scores: expected shape ["), "{}", text("2", ""));
}

#[test]
fn both_tensors_must_be_there_in_type_and_shape_and_no_other() {
    let f = Fixture::new();
    let (entry, n) = (entry("1", ""), f.weights);
    let text = |tensors: &[Entry]| f.refusal(&file(Some(&entry), tensors));
    assert_eq!(text(&[indices()]), format!("tensor scores of shape [{n}] is missing"));
    assert_eq!(text(&[f.scores()]), "tensor indices of shape [] is missing");
    let short = Entry::words("scores", "F32", [0; 7]);
    assert_eq!(text(&[short, indices()]), format!("tensor scores: expected shape [{n}], found [7]"));
    let table = Entry { shape: vec![1, n], ..f.scores() };
    assert_eq!(text(&[table, indices()]), format!("tensor scores: expected shape [{n}], found [1, {n}]"));
    let table = Entry { shape: vec![2, 1], ..indices() };
    assert_eq!(text(&[f.scores(), table]), "tensor indices: expected shape [2], found [2, 1]");
    let scalar = Entry { shape: vec![], ..Entry::words("indices", "U32", [0]) };
    assert_eq!(text(&[f.scores(), scalar]), "tensor indices: expected shape [1], found []");
    let whole = Entry { dtype: "I32", ..f.scores() };
    assert_eq!(text(&[whole, indices()]), "tensor scores: expected dtype F32, found I32");
    let signed = Entry { dtype: "I32", ..indices() };
    assert_eq!(text(&[f.scores(), signed]), "tensor indices: expected dtype U32, found I32");
    let more = Entry::words("velocity", "F32", [0]);
    assert_eq!(
        text(&[f.scores(), indices(), more]),
        "tensor velocity of shape [1] is not one of the model's"
    );
    for bad in [[5, 0], [5, 5], [0, n as u32], [0, u32::MAX]] {
        assert!(
            text(&[f.scores(), Entry::words("indices", "U32", bad)]).contains("must ascend and lie below")
        );
    }
    // None kept is a mask, if an odd one.
    fs::write(f.path(), file(Some(&entry), &[f.scores(), Entry::words("indices", "U32", [])])).unwrap();
    assert!(scores::load(&f.path()).unwrap().1.is_empty());
}

#[test]
fn places_that_cannot_be_are_refused() {
    let f = Fixture::new();
    let entry = serde_json::to_string(&entry("1", "")).unwrap();
    let header = |begin: u64, end: u64| {
        let length = end.wrapping_sub(begin) / 4;
        let indices = format!(r#"{{"dtype":"U32","shape":[{length}],"data_offsets":[{begin},{end}]}}"#);
        format!(r#"{{"__metadata__":{{"fishmask":{entry}}},"indices":{indices}}}"#)
    };
    for (begin, end) in [(0, u64::MAX - 3), (4, 8), (8, 4), (u64::MAX, 4), (0, 12), (1 << 62, 1 << 63)] {
        let text = f.refusal(&raw(&header(begin, end), &[0; 8]));
        assert!(text.starts_with("not a safetensors file, or cut short or damaged: "), "{text}");
    }
    assert!(f.refusal(b"PK\x03\x04 a zip archive").contains("a zip archive"));
    let text = f.refusal(&file(None, &[f.scores(), indices()]));
    assert_eq!(text, "not a file of scores: it has no metadata entry `fishmask`");
}

/// Each single bit of a file as it is written today: an error, or the mask that was written.
#[test]
fn every_flipped_bit_is_found() {
    let f = Fixture::new();
    let about = About {
        kind: Scores::Scores,
        id: ModelId::new(Model::Resnet9, 1),
        keep_ratio: 0.02,
        samples: 64,
        order: Order::Shuffled,
        augment: true,
        seed: 3,
        power: Power::Square,
        expect: false,
        running: true,
        made: None,
    };
    let mask = Mask::new(vec![0, 5, f.weights as u32 - 1], f.weights).unwrap();
    let values: Vec<f32> = (0..f.weights).map(|i| i as f32).collect();
    scores::save(&f.path(), &about, &values, &mask).unwrap();
    assert_eq!(scores::load(&f.path()).unwrap(), (about.clone(), mask.clone()));
    let good = fs::read(f.path()).unwrap();
    let begin = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    // All of the header and the mask, and some of the scores.
    let bytes = (0..begin + 40).chain(good.len() - 12..good.len());
    for bit in bytes.flat_map(|byte| 8 * byte..8 * byte + 8) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(f.path(), bad).unwrap();
        if let Ok(loaded) = scores::load(&f.path()) {
            assert!(bit / 8 < begin && loaded == (about.clone(), mask.clone()), "bit {bit}");
        }
    }
}
