//! What nvcc made of the kernels: present for every architecture, and nothing spilled.

use std::collections::BTreeSet;
use std::path::Path;

use fishmask::device::kernels::{self, ARCHITECTURES, FAT_BINARIES, LEFT_OUT, USAGE};

#[path = "../../build/ptxas.rs"]
mod ptxas;

/// Whether the kernels were compiled; it says so, and by whose name, if they were not.
fn compiled(test: &str) -> bool {
    if let Some(why) = kernels::absent() {
        assert!(std::env::var_os("REQUIRE_NVCC").is_none(), "{why}");
        eprintln!("{test} did not run: {why}");
    }
    kernels::absent().is_none()
}

/// The names of `kernels/*.cu`, and (file, kernel) of each kernel in them.
fn sources() -> (BTreeSet<String>, BTreeSet<(String, String)>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let (mut files, mut found) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "cu") {
            let file = path.file_stem().unwrap().to_str().unwrap().to_string();
            let text = std::fs::read_to_string(&path).unwrap();
            for (at, _) in text.match_indices("KERNEL(") {
                let line = &text[text[..at].rfind('\n').map_or(0, |newline| newline + 1)..];
                // The emulated device's table is made of lines that begin so.
                assert!(line.starts_with("KERNEL("), "{file}.cu: KERNEL must begin a line");
                let name = text[at + 7..].split(',').next().unwrap().trim();
                found.insert((file.clone(), name.to_string()));
            }
            files.insert(file);
        }
    }
    (files, found)
}

#[test]
fn every_kernel_is_compiled_for_every_architecture() {
    if !compiled("every_kernel_is_compiled_for_every_architecture") {
        return;
    }
    assert!(kernels::nvcc().is_some_and(|line| line.contains("release ")));
    let (files, wanted) = sources();
    let binaries: BTreeSet<_> = FAT_BINARIES.iter().map(|binary| binary.file.to_string()).collect();
    assert_eq!(binaries, files);
    for binary in FAT_BINARIES {
        assert_eq!(binary.image[..4], 0xba55_ed50_u32.to_le_bytes(), "{}", binary.file);
        assert_eq!(binary.image.as_ptr() as usize % 64, 0, "{}", binary.file);
    }
    for architecture in ARCHITECTURES {
        let rows =
            USAGE.iter().filter(|usage| usage.architecture == *architecture && usage.registers.is_some());
        let found: BTreeSet<_> =
            rows.map(|usage| (usage.file.to_string(), usage.function.to_string())).collect();
        assert_eq!(found, wanted, "{architecture}");
    }
    if std::env::var_os("REQUIRE_NVCC").is_some() {
        assert!(LEFT_OUT.is_empty(), "nvcc does not know {LEFT_OUT:?}");
        assert!(kernels::PTX.is_some(), "there is no PTX for later GPUs");
    }
}

#[test]
fn no_kernel_spills_or_uses_a_stack_frame() {
    if !compiled("no_kernel_spills_or_uses_a_stack_frame") {
        return;
    }
    let in_memory = |usage: &&kernels::Usage| usage.stack + usage.spill_stores + usage.spill_loads > 0;
    let bad: Vec<_> = USAGE.iter().filter(in_memory).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn ptxas_report_is_read() {
    // nvcc 13.0.88, of a file with a large array, a function that is not inlined, and too few registers.
    let report = "ptxas info    : 24 bytes gmem
ptxas info    : Compiling entry function 'k2' for 'sm_90a'
ptxas info    : Function properties for k2
    224 bytes stack frame, 188 bytes spill stores, 552 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 224 bytes cumulative stack size
ptxas info    : Compile time = 42.232 ms
ptxas info    : Function properties for _Z3barf
    0 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Compiling entry function 'k1' for 'sm_90a'
ptxas info    : Function properties for k1
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 18 registers, used 1 barriers, 256 bytes smem, 364 bytes cmem[0]
ptxas info    : Compile time = 5.083 ms
";
    let row = |function: &str, registers, stack, spill_stores, spill_loads, shared| ptxas::Usage {
        function: function.into(),
        registers,
        stack,
        spill_stores,
        spill_loads,
        shared,
    };
    let expected = [
        row("k2", Some(32), 224, 188, 552, 0),
        row("_Z3barf", None, 0, 4, 4, 0),
        row("k1", Some(18), 0, 0, 0, 256),
    ];
    assert_eq!(ptxas::parse(report), expected);
}
