//! Files of a chain that say what their writer never would, and whose guard fits all the same.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::{Map, Value, json};

/// Name, type, shape and bytes of a tensor.
pub type Named = (String, Dtype, Vec<usize>, Vec<u8>);

/// The bytes of the file at `path` with its metadata and tensors changed, and the guard put right.
pub fn forged(path: &Path, change: impl FnOnce(&mut Value, &mut Vec<Named>)) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut json = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["fishmask"]).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let named = |name: String| {
        let view = file.tensor(&name).unwrap();
        (name, view.dtype(), view.shape().to_vec(), view.data().to_vec())
    };
    let mut tensors: Vec<Named> = metadata.offset_keys().into_iter().map(named).collect();
    change(&mut json, &mut tensors);
    // By hand: the library would sort them by name, and refuse shapes that cannot be.
    let (mut entries, mut end) = (Map::new(), 0);
    for (name, dtype, shape, data) in &tensors {
        let begin = end;
        end += data.len();
        let entry = json!({ "dtype": dtype.to_string(), "shape": shape, "data_offsets": [begin, end] });
        entries.insert(name.clone(), entry);
    }
    let data: Vec<u8> = tensors.into_iter().flat_map(|tensor| tensor.3).collect();
    json["check"] = json!("");
    let mut hasher = blake3::Hasher::new();
    hasher.update(&data).update(json.to_string().as_bytes());
    json["check"] = json!(hasher.finalize().to_hex().as_str());
    entries.insert("__metadata__".into(), json!({ "fishmask": json.to_string() }));
    let head = Value::from(entries).to_string();
    [&(head.len() as u64).to_le_bytes(), head.as_bytes(), &data].concat()
}
