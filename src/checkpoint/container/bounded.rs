//! What a header's JSON may hold, bounded: the parser keeps a text that it reads, and quotes it when it is
//! not one that should be there.

use std::fmt;

use safetensors::Dtype;
use serde::de::value::{self, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error, IntoDeserializer, SeqAccess, Visitor};

/// Bytes of a text, at most.
pub const TEXT: usize = 1_000_000;
/// Dimensions of a tensor, at most.
const DIMENSIONS: usize = 16;

/// The bytes of the longest text in JSON, or in what is said to be JSON.
pub fn longest_text(json: &[u8]) -> usize {
    let (mut longest, mut begun, mut escaped) = (0, None, false);
    for (at, byte) in json.iter().enumerate() {
        match (byte, begun) {
            (_, Some(_)) if escaped => escaped = false,
            (b'\\', Some(_)) => escaped = true,
            (b'"', Some(begin)) => {
                longest = longest.max(at - begin - 1);
                begun = None;
            }
            (b'"', None) => begun = Some(at),
            _ => {}
        }
    }
    longest.max(begun.map_or(0, |begin| json.len() - begin - 1))
}

/// A text of at most `N` bytes.
pub struct Text<const N: usize>(pub String);

impl<'de, const N: usize> Deserialize<'de> for Text<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Limited<const N: usize>;
        impl<const N: usize> Visitor<'_> for Limited<N> {
            type Value = Text<N>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "a text of at most {N} bytes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<N>, E> {
                match text.len() {
                    length if length > N => Err(E::custom(format!("a text of {length} bytes, over {N}"))),
                    _ => Ok(Text(text.into())),
                }
            }
        }
        deserializer.deserialize_str(Limited)
    }
}

/// Reads the name of a type.
pub fn dtype<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Dtype, D::Error> {
    let Text(name) = Text::<16>::deserialize(deserializer)?;
    let name: StrDeserializer<value::Error> = name[..].into_deserializer();
    Dtype::deserialize(name).map_err(D::Error::custom)
}

/// Reads a tensor's shape.
pub fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    struct Shape;
    impl<'de> Visitor<'de> for Shape {
        type Value = Vec<usize>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a list of dimensions")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<usize>, A::Error> {
            let mut shape = vec![];
            while let Some(dimension) = list.next_element()? {
                if shape.len() == DIMENSIONS {
                    return Err(A::Error::custom(format!("a tensor of more than {DIMENSIONS} dimensions")));
                }
                shape.push(dimension);
            }
            Ok(shape)
        }
    }
    deserializer.deserialize_seq(Shape)
}
