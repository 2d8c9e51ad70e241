//! Safetensors files as any program may write them, byte by byte.

use serde_json::json;

/// A tensor, which may be what no library would write.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

impl Entry {
    /// A tensor of one dimension with these words.
    pub fn words(name: &str, dtype: &'static str, words: impl IntoIterator<Item = u32>) -> Entry {
        let data: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        Entry { name: name.into(), dtype, shape: vec![data.len() / 4], data }
    }
}

/// A file of tensors in their order, with the text of the metadata entry `fishmask`.
pub fn file(entry: Option<&str>, tensors: &[Entry]) -> Vec<u8> {
    with(&entry.map(|text| ("fishmask", text)).into_iter().collect::<Vec<_>>(), tensors)
}

/// A file of tensors in their order, with metadata.
pub fn with(metadata: &[(&str, &str)], tensors: &[Entry]) -> Vec<u8> {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    if !metadata.is_empty() {
        let metadata = metadata.iter().map(|(key, text)| (key.to_string(), json!(text)));
        header.insert("__metadata__".into(), serde_json::Value::Object(metadata.collect()));
    }
    for Entry { name, dtype, shape, data } in tensors {
        let begin = end;
        end += data.len();
        header.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, end] }));
    }
    let data: Vec<u8> = tensors.iter().flat_map(|tensor| tensor.data.clone()).collect();
    raw(&serde_json::Value::Object(header).to_string(), &data)
}

/// A file of a header's text and data.
pub fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}
