//! torchvision's layout: `cifar-10-batches-py`, one pickled dictionary a batch.

use std::borrow::Cow;
use std::path::Path;

use super::binary;
use crate::data::pickle::{Id, Node, Pickle};
use crate::data::{Error, IMAGE};

/// A pickled batch of `records` images to official records. `file` names it in errors.
///
/// Reads `data`, a numpy array u8 [records, 3072] of colour planes, and `labels`, a list of integers, whether
/// written by Python 2 or 3, and by numpy before or after 2.0.
///
/// # Errors
/// [`Error::Malformed`], [`Error::Size`], [`Error::LabelCount`], [`Error::Label`].
pub fn records(file: &Path, bytes: &[u8], records: usize) -> Result<Vec<u8>, Error> {
    let malformed = |problem: String| Error::Malformed { file: file.into(), format: "pickle", problem };
    let pickle = Pickle::parse(bytes).map_err(malformed)?;
    let entry = |key| pickle.entry(key).ok_or_else(|| malformed(format!("it has no entry `{key}`")));

    let planes = array(&pickle, entry("data")?).map_err(|problem| malformed(format!("`data` {problem}")))?;
    let expected = records * IMAGE;
    if planes.len() != expected {
        return Err(malformed(format!("`data` holds {} bytes, expected {expected}", planes.len())));
    }
    let Node::List(labels) = entry("labels")? else {
        return Err(malformed("`labels` is not a list".into()));
    };
    if labels.len() != records {
        return Err(Error::LabelCount { file: file.into(), expected: records, found: labels.len() });
    }
    let mut out = Vec::with_capacity(records * binary::RECORD);
    for (record, (&label, planes)) in labels.iter().zip(planes.chunks_exact(IMAGE)).enumerate() {
        match *pickle.get(label) {
            Node::Int(label @ 0..=9) => out.push(label as u8),
            Node::Int(label) => return Err(Error::Label { file: file.into(), record, label }),
            _ => return Err(malformed(format!("label {record} is not an integer"))),
        }
        out.extend_from_slice(planes);
    }
    Ok(out)
}

/// The bytes of a C-ordered u8 array of rows of 3072, in either of the two forms numpy pickles one:
/// `_reconstruct(...)` with the state (version, shape, dtype, fortran, bytes), before protocol 5;
/// `_frombuffer(bytes, dtype, shape, order)` from it on.
fn array<'a>(pickle: &Pickle<'a>, node: &Node<'a>) -> Result<Cow<'a, [u8]>, String> {
    let Node::Call { function, arguments, state } = node else {
        return Err("is not a numpy array".into());
    };
    let (shape, dtype, fortran, content) = match (pickle.global(*function), state) {
        (Some((b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct")), Some(state)) => {
            match pickle.get(*state) {
                Node::Tuple(state) if state.len() == 5 => {
                    (state[1], state[2], *pickle.get(state[3]) != Node::Bool(false), state[4])
                }
                _ => return Err("is an array with an unknown state".into()),
            }
        }
        (Some((b"numpy.core.numeric" | b"numpy._core.numeric", b"_frombuffer")), _) => {
            match pickle.get(*arguments) {
                Node::Tuple(items) if items.len() == 4 => {
                    (items[2], items[1], !matches!(pickle.get(items[3]), Node::Text(b"C")), items[0])
                }
                _ => return Err("is an array with unknown arguments".into()),
            }
        }
        _ => return Err("is not a numpy array".into()),
    };
    if fortran {
        return Err("is stored column by column".into());
    }
    if !is_u8(pickle, dtype) {
        return Err("is not of type uint8".into());
    }
    let bytes = pickle.bytes(content).ok_or("has no bytes")?;
    let columns = match pickle.get(shape) {
        Node::Tuple(shape) if shape.len() == 2 => pickle.get(shape[1]),
        _ => return Err("has not two dimensions".into()),
    };
    match columns {
        Node::Int(columns) if *columns == IMAGE as i64 => Ok(bytes),
        Node::Int(columns) => Err(format!("has rows of {columns} bytes, expected {IMAGE}")),
        _ => Err("has no shape".into()),
    }
}

fn is_u8(pickle: &Pickle, id: Id) -> bool {
    let Node::Call { function, arguments, .. } = pickle.get(id) else { return false };
    let Node::Tuple(arguments) = pickle.get(*arguments) else { return false };
    let name = arguments.first().map(|&id| pickle.get(id));
    pickle.global(*function) == Some((b"numpy", b"dtype"))
        && matches!(name, Some(Node::Text(b"u1" | b"|u1") | Node::Bytes(b"u1" | b"|u1")))
}
