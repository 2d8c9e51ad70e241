//! Reads `tests/fixtures/*.safetensors`; `scripts/make_fixtures.py` says what is in them.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::reference::{Named, Tensor};

/// One fixture file, all of it as f64.
pub struct Fixture {
    file: String,
    tensors: BTreeMap<String, Tensor>,
}

impl Fixture {
    /// Reads `tests/fixtures/<name>.safetensors` of the checkout, or of the folder a bundle of tests was
    /// unpacked in.
    pub fn open(name: &str) -> Fixture {
        let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
        let path = Path::new(&root).join(format!("tests/fixtures/{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let tensors = file.tensors().into_iter().map(|(key, view)| {
            let bytes = view.data();
            let data = match view.dtype() {
                Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
                Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
                Dtype::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
                other => panic!("{name}: {key} is {other:?}"),
            };
            (key, Tensor::new(view.shape(), data))
        });
        Fixture { file: name.to_owned(), tensors: tensors.collect() }
    }

    /// The tensor stored as `key`.
    pub fn tensor(&self, key: &str) -> &Tensor {
        self.tensors.get(key).unwrap_or_else(|| panic!("{}: no tensor {key}", self.file))
    }

    /// The only element of `key`.
    pub fn scalar(&self, key: &str) -> f64 {
        let t = self.tensor(key);
        assert_eq!(t.data.len(), 1, "{key} is no scalar");
        t.data[0]
    }

    /// Integers stored as `key`.
    pub fn labels(&self, key: &str) -> Vec<usize> {
        self.tensor(key).data.iter().map(|&v| v as usize).collect()
    }

    /// All tensors whose key begins with `prefix`, by the rest of the key.
    pub fn named(&self, prefix: &str) -> Named {
        let strip = |(k, t): (&String, &Tensor)| Some((k.strip_prefix(prefix)?.to_owned(), t.clone()));
        self.tensors.iter().filter_map(strip).collect()
    }
}
