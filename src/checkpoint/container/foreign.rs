//! Files of other kinds that are given for safetensors files, by how they begin.

use crate::checkpoint::Problem;

/// A kind of file, and what to do about it.
struct Kind {
    /// Beginnings of such files; letters in either case.
    starts: &'static [&'static [u8]],
    what: &'static str,
    advice: &'static str,
}

const SAVE: &str = "load it where it was made, and save its tensors with safetensors' save_file";
const FETCH: &str = "get the file itself, not the page about it";

const KINDS: &[Kind] = &[
    Kind {
        starts: &[b"version https://git-lfs"],
        what: "a Git LFS pointer",
        advice: "fetch the file that it stands for with `git lfs pull`",
    },
    Kind { starts: &[b"PK\x03\x04"], what: "a zip archive, as torch.save writes", advice: SAVE },
    Kind {
        starts: &[b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"],
        what: "a pickle, as torch.save wrote of old",
        advice: SAVE,
    },
    Kind { starts: &[b"\x93NUMPY"], what: "a NumPy array", advice: SAVE },
    Kind { starts: &[b"\x89HDF\r\n"], what: "an HDF5 file", advice: SAVE },
    Kind { starts: &[b"GGUF"], what: "a GGUF file", advice: SAVE },
    Kind { starts: &[b"\x1f\x8b"], what: "a file packed by gzip", advice: "unpack it with `gunzip`" },
    Kind { starts: &[b"<!doctype", b"<html", b"<?xml"], what: "a web page", advice: FETCH },
];

/// The number of bytes by which a file is recognised.
pub const ENOUGH: usize = 64;

/// Says what kind of file begins with these bytes, if it is a kind that people mistake for safetensors.
pub fn recognise(start: &[u8]) -> Option<Problem> {
    // A page may begin with blank lines, or with the mark of UTF-8.
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let begins = |with: &[u8]| {
        [start, text].iter().any(|s| s.get(..with.len()).is_some_and(|s| s.eq_ignore_ascii_case(with)))
    };
    let kind = KINDS.iter().find(|kind| kind.starts.iter().any(|with| begins(with)))?;
    Some(Problem::Foreign { what: kind.what, advice: kind.advice })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_their_beginnings() {
        for (start, what) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:0"[..], "Git LFS"),
            (b"PK\x03\x04\0\0", "zip"),
            (b"\x80\x02\x8a\nl\xfc\x9cF", "pickle"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"\x93NUMPY\x01\0", "NumPy"),
            (b"\xef\xbb\xbf\n<!DOCTYPE html><html>404", "web page"),
            (b"<HTML>", "web page"),
        ] {
            assert!(recognise(start).unwrap().to_string().contains(what), "{what}");
        }
        for other in [&b""[..], b"PK", b"{\"a\":1}", b"\x08\0\0\0\0\0\0\0{}      "] {
            assert!(recognise(other).is_none());
        }
    }
}
