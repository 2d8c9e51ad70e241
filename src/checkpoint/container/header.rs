//! The JSON of a file's head, read in one pass that keeps only what is asked for: whatever a header says,
//! what is kept of it is small.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::KEY;
use super::bounded::{TEXT, Text, dtype, longest_text, shape};

/// Tensors of a file, at most: three for each of 5,000 workers, or fifty times those of a network.
const TENSORS: usize = 1 << 14;
/// Bytes of a tensor's name, at most.
const NAME: usize = 1 << 10;
/// Characters of a message of an error, which may quote the header.
const MESSAGE: usize = 300;

/// What a header says.
#[derive(Default)]
pub struct Header {
    /// The text of the metadata entry [`KEY`], if there is one.
    pub json: Option<String>,
    /// The tensors by their names.
    pub tensors: BTreeMap<String, TensorEntry>,
}

/// A tensor, as a file's head tells of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorEntry {
    /// The type of its values.
    #[serde(deserialize_with = "dtype")]
    pub dtype: Dtype,
    /// Its shape.
    #[serde(deserialize_with = "shape")]
    pub shape: Vec<usize>,
    /// Where it begins and ends in the file's data, in bytes.
    pub data_offsets: (u64, u64),
}

impl TensorEntry {
    /// The number of its values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The bytes that its shape and type take; none where that is no whole number, or does not fit.
    fn bytes(&self) -> Option<u64> {
        let elements = self.shape.iter().try_fold(1_usize, |all, &n| all.checked_mul(n))?;
        let bits = elements.checked_mul(self.dtype.bitsize())?;
        bits.is_multiple_of(8).then_some(bits as u64 / 8)
    }
}

impl Header {
    /// Reads a header's JSON. The error says why it cannot be used.
    pub fn parse(text: &[u8]) -> Result<Header, String> {
        let longest = longest_text(text);
        if longest > TEXT {
            return Err(format!("its header has a text of {longest} bytes, and {TEXT} are the most"));
        }
        serde_json::from_slice(text).map_err(|error| {
            let message = error.to_string();
            match message.char_indices().nth(MESSAGE) {
                Some((end, _)) => format!("{}...", &message[..end]),
                None => message,
            }
        })
    }

    /// The tensors' names by their places in the data, which the tensors must fill without gap or overlap;
    /// and the data's length.
    pub fn places(&self) -> Result<(Vec<String>, u64), String> {
        let mut sorted: Vec<(&String, &TensorEntry)> = self.tensors.iter().collect();
        sorted.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut end = 0;
        for (name, entry) in &sorted {
            let (begin, next) = entry.data_offsets;
            if begin != end {
                return Err(format!("tensor {name} begins at byte {begin} of the data, not at {end}"));
            }
            if next.checked_sub(begin) != entry.bytes() || next < begin {
                let TensorEntry { dtype, shape, .. } = entry;
                return Err(format!("tensor {name} of {dtype} and shape {shape:?} cannot end at {next}"));
            }
            end = next;
        }
        Ok((sorted.into_iter().map(|(name, _)| name.clone()).collect(), end))
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Header, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let (mut header, mut seen) = (Header::default(), false);
        while let Some(Text(name)) = map.next_key::<Text<NAME>>()? {
            if name == "__metadata__" {
                if std::mem::replace(&mut seen, true) {
                    return Err(A::Error::custom("__metadata__ is there twice"));
                }
                header.json = map.next_value::<Metadata>()?.0;
                continue;
            }
            let entry = map.next_value()?;
            if header.tensors.len() == TENSORS {
                return Err(A::Error::custom(format!("it tells of more than {TENSORS} tensors")));
            }
            if header.tensors.insert(name.clone(), entry).is_some() {
                return Err(A::Error::custom(format!("tensor {name} is there twice")));
            }
        }
        Ok(header)
    }
}

/// The text of the metadata entry [`KEY`]; what other programs keep beside it is passed over.
#[derive(Default)]
struct Metadata(Option<String>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
        deserializer.deserialize_any(Metadata(None))
    }
}

impl<'de> Visitor<'de> for Metadata {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_unit<E: Error>(self) -> Result<Metadata, E> {
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Metadata, A::Error> {
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Other => drop(map.next_value::<Text<TEXT>>()?),
                Key::Own if self.0.is_some() => {
                    return Err(A::Error::custom(format!("metadata entry `{KEY}` is there twice")));
                }
                Key::Own => self.0 = Some(map.next_value::<Text<TEXT>>()?.0),
            }
        }
        Ok(self)
    }
}

/// A key of the metadata, of whatever length.
enum Key {
    Own,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        struct IsOwn;
        impl Visitor<'_> for IsOwn {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Key, E> {
                Ok(if text == KEY { Key::Own } else { Key::Other })
            }
        }
        deserializer.deserialize_str(IsOwn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let places = |header: Header| header.places().map(drop);
        Header::parse(text.as_bytes()).and_then(places).unwrap_err()
    }

    fn tensor(dtype: &str, shape: &str, begin: u64, end: u64) -> String {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    }

    #[test]
    fn places_are_filled_without_gap_or_overlap() {
        let (a, b) = (tensor("F32", "[2,1]", 4, 12), tensor("F16", "[2]", 0, 4));
        let text = format!(r#"{{"a":{a},"__metadata__":{{"x":"y","fishmask":"z"}},"b":{b}}}  "#);
        let header = Header::parse(text.as_bytes()).unwrap();
        assert_eq!(header.json.as_deref(), Some("z"));
        assert_eq!(header.places().unwrap(), (vec!["b".into(), "a".into()], 12));
        assert_eq!(header.tensors["a"].elements(), 2);
        let one = |entry: String| refusal(&format!(r#"{{"a":{entry}}}"#));
        assert_eq!(one(tensor("F32", "[1]", 4, 8)), "tensor a begins at byte 4 of the data, not at 0");
        assert_eq!(one(tensor("F32", "[2]", 0, 4)), "tensor a of F32 and shape [2] cannot end at 4");
        let wide = format!("[{0},{0}]", u64::MAX);
        assert!(one(tensor("F32", &wide, 0, 4)).ends_with("cannot end at 4"));
        assert!(one(tensor("F32", "[0]", 0, u64::MAX)).contains("cannot end"));
        let both = format!(r#"{{"a":{},"b":{}}}"#, tensor("U8", "[4]", 0, 4), tensor("U8", "[2]", 2, 4));
        assert_eq!(refusal(&both), "tensor b begins at byte 2 of the data, not at 4");
    }

    #[test]
    fn what_is_more_than_a_file_can_hold_is_refused() {
        let t = tensor("F32", "[0]", 0, 0);
        assert!(refusal(&format!(r#"{{"a":{t},"a":{t}}}"#)).starts_with("tensor a is there twice"));
        assert!(refusal(&format!(r#"{{"{}":{t}}}"#, "a".repeat(1025))).contains("of 1025 bytes, over 1024"));
        let many: Vec<String> = (0..=TENSORS).map(|i| format!(r#""{i}":{t}"#)).collect();
        assert!(refusal(&format!("{{{}}}", many.join(","))).contains("more than 16384 tensors"));
        let shape = format!("[{}1]", "1,".repeat(16));
        assert!(refusal(&format!(r#"{{"a":{}}}"#, tensor("F32", &shape, 0, 4))).contains("16 dimensions"));
        assert!(refusal(&format!(r#"{{"a":{}}}"#, tensor("F31", "[]", 0, 4))).contains("`F31`"));
        let twice = r#"{"__metadata__":{"fishmask":"1","fishmask":"2"}}"#;
        assert!(refusal(twice).contains("`fishmask` is there twice"));
        let message = refusal(&format!(r#"{{"a":{{"shape":"{}"}}}}"#, "é".repeat(10_000)));
        assert!(message.chars().count() == MESSAGE + 3 && message.ends_with("..."), "{message}");
        let long = format!(r#"{{"__metadata__":{{"k":"\"{}"}}}}"#, "n".repeat(TEXT));
        assert!(refusal(&long).contains("a text of 1000002 bytes"));
        assert!(refusal(&long[..long.len() - 3]).contains("a text of 1000002 bytes"));
        assert!(Header::parse(b"{} x").is_err() && Header::parse(b"[]").is_err());
        assert!(Header::parse(br#"{"__metadata__":null}"#).is_ok());
    }
}
