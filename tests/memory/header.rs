//! What a header of 100 MB takes, whatever it holds.

use std::fs::File;
use std::io::Write;

use fishmask::checkpoint::weights;
use fishmask::graph::{Init, Layout};

use super::chain;

/// The longest header that is read.
const LONGEST: usize = 100_000_000;

/// Reading as weights takes less than three times the header.
pub fn headers_take_less_than_three_times_their_length() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("f");
    let mut layout = Layout::default();
    layout.add_parameter("a".into(), vec![1], Init::Constant(0.0));
    let entry = |name: &str, shape: &str| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}"#)
    };
    let room = LONGEST - 200;
    let many = (0..).map(|i| entry(&format!("{i:07}"), "[0]") + ",").take(room / 60);
    for (what, header) in [
        ("many tensors", format!("{{{}{}}}", many.collect::<String>(), entry("z", "[0]"))),
        ("a long name", format!("{{{}}}", entry(&"n".repeat(room), "[0]"))),
        ("a long name with an escape", format!("{{{}}}", entry(&format!("\\n{}", "n".repeat(room)), "[0]"))),
        ("a long shape", format!("{{{}}}", entry("a", &format!("[{}0]", "1,".repeat(room / 2))))),
        ("a text for a shape", format!("{{{}}}", entry("a", &format!("\"\\n{}\"", "n".repeat(room))))),
        ("a long dtype", format!(r#"{{"a":{{"dtype":"{}"}}}}"#, "n".repeat(room))),
        ("long metadata", format!(r#"{{"__metadata__":{{"k":"\n{}"}}}}"#, "n".repeat(room))),
        ("a long entry", format!(r#"{{"__metadata__":{{"fishmask":"\n{}"}}}}"#, "n".repeat(room))),
        ("nested lists", format!(r#"{{"__metadata__":{{"k":{}}}}}"#, "[".repeat(room))),
        ("nested lists in a tensor", format!(r#"{{"a":{{"k":{}}}}}"#, "[".repeat(room))),
        ("an unknown field", format!(r#"{{"a":{{"{}":1}}}}"#, "n".repeat(room))),
    ] {
        let length = header.len();
        assert!((LONGEST / 2..=LONGEST).contains(&length), "{what}: {length}");
        let mut file = File::create(&path).unwrap();
        file.write_all(&(length as u64).to_le_bytes()).unwrap();
        file.write_all(header.as_bytes()).unwrap();
        drop((file, header));
        let mut message = String::new();
        let peak = chain::peak(|| message = weights::load(&path, &layout).unwrap_err().to_string());
        assert!(message.len() < 1_000, "{what}: {} bytes of message", message.len());
        assert!(peak < 3 * length, "{what}: {peak} bytes for {length}");
    }
}
