//! The files of masks.

use std::path::Path;

use safetensors::Dtype;

use super::file::{self, Guarded};
use super::header::{Contents, Header, check_model};
use crate::checkpoint::container::Spec;
use crate::checkpoint::{Error, Hash, Problem};
use crate::graph::{Layout, ModelId};

/// Stores a mask by itself, as full checkpoints name it. Returns its hash.
///
/// # Errors
/// When the indices are no mask of the model, or the file cannot be written.
pub fn save_mask(folder: &Path, id: ModelId, layout: &Layout, indices: &[u32]) -> Result<Hash, Error> {
    let hash = Hash::of_indices(indices);
    let header = Header::new(id, Contents::Mask { mask: hash });
    check_indices(&folder.join(header.file_name()), indices, layout.weight_count())?;
    let spec = Spec::flat("indices", Dtype::U32, indices.len());
    file::write::<Error>(folder, &header, &[spec], |out| out.write(indices))?;
    Ok(hash)
}

/// Reads the canonical indices of a mask of the model.
pub fn read_mask(path: &Path, id: ModelId, layout: &Layout) -> Result<Vec<u32>, Error> {
    let Guarded { header, file, .. } = file::read(path)?;
    check_model(path, id, header.id)?;
    file.only(&["indices"])?;
    let bytes = file.flat("indices", &[Dtype::U32], None)?.bytes;
    let indices: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
    check_indices(path, &indices, layout.weight_count())?;
    let found = Hash::of_indices(&indices);
    match header.contents {
        Contents::Mask { mask } if mask == found => Ok(indices),
        Contents::Mask { mask } => {
            Err(Error::new(path, Problem::Damaged { expected: mask.to_string(), found }))
        }
        _ => Err(Error::new(path, Problem::NotChain { reason: "it is no mask".into() })),
    }
}

/// Whether indices are a mask of a vector of so many weights: in range, ascending, none twice.
pub fn check_indices(path: &Path, indices: &[u32], weights: usize) -> Result<(), Error> {
    let fail =
        |place, reason| Err(Error::new(path, Problem::Indices { place, index: indices[place], reason }));
    if let Some(place) = indices.iter().position(|&index| index as usize >= weights) {
        return fail(
            place,
            format!("out of range; the model has {weights} weights, so it is another model's mask"),
        );
    }
    match indices.windows(2).position(|pair| pair[0] >= pair[1]) {
        Some(before) if indices[before] == indices[before + 1] => {
            fail(before + 1, "it is there twice; a mask holds each index once".into())
        }
        Some(before) => fail(
            before + 1,
            format!("less than {} before it; a mask's indices are sorted ascending", indices[before]),
        ),
        None => Ok(()),
    }
}
