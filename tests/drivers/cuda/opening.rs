//! Opening a GPU: what it finds, and one clear sentence for each thing that is not there.

use std::fs;

use super::fake::{SOURCE, can_compile, compile, link, play, run};

/// What opening a GPU says.
#[track_caller]
fn opening_says(settings: &[(&str, &str)], expected: &str) {
    if let Some(played) = play("open", settings) {
        assert_eq!(played.said(), expected);
        let (retained, released) =
            (played.of("cuDevicePrimaryCtxRetain"), played.of("cuDevicePrimaryCtxRelease_v2"));
        assert_eq!(retained.len(), released.len(), "{:?}", played.calls);
    }
}

#[test]
fn opens() {
    opening_says(
        &[("FAKE_CUDA_VERSION", "13010")],
        "Properties { name: \"Fake GPU (driver for CUDA 13.1)\", processors: 132, memory: 1073741824, \
         shared: 232448 } 9.0 13.1",
    );
}

#[test]
fn no_library() {
    let folder = tempfile::tempdir().unwrap();
    // Found before a real one, and no libraries.
    for name in ["libcuda.so", "libcuda.so.1"] {
        fs::write(folder.path().join(name), "not a library").unwrap();
    }
    let played = run(folder.path(), "open", &[]);
    let expected = "no NVIDIA driver (libcuda.so cannot be loaded): install one for CUDA 13.0 or newer, or \
        use the CPU";
    assert_eq!(played.said(), expected);
    assert_eq!(run(folder.path(), "count", &[]).said(), expected.replace("13.0", "12.4"));
}

#[test]
fn stub_library() {
    opening_says(
        &[("FAKE_CUDA_FAIL", "cuDriverGetVersion=34")],
        "no NVIDIA driver (the libcuda.so found is the CUDA toolkit's stub): install one for CUDA 13.0 or \
         newer, or use the CPU",
    );
}

#[test]
fn no_gpu() {
    let expected = "the NVIDIA driver finds no GPU: see that nvidia-smi lists one, that CUDA_VISIBLE_DEVICES \
        does not hide it and that a container is started with it, or use the CPU";
    opening_says(&[("FAKE_CUDA_FAIL", "cuInit=100")], expected);
    opening_says(&[("FAKE_CUDA_COUNT", "0")], expected);
}

#[test]
fn driver_does_not_start() {
    opening_says(
        &[("FAKE_CUDA_FAIL", "cuInit=803")],
        "CUDA: cannot start the driver: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: system has unsupported display \
         driver / cuda driver combination",
    );
    // A code that cudarc does not know, nor the driver's own table.
    opening_says(&[("FAKE_CUDA_FAIL", "cuInit=816")], "CUDA: cannot start the driver: CUDA error 816");
}

#[test]
fn old_driver() {
    let text = |found, needed| {
        format!(
            "the NVIDIA driver supports CUDA {found}, and the kernels need a driver for CUDA {needed} or \
             newer: update the driver"
        )
    };
    let version = |version| ("FAKE_CUDA_VERSION", version);
    opening_says(&[version("12080")], &text("12.8", "13.0 (r580)"));
    opening_says(&[version("12020"), ("NVCC", "12.6.20")], &text("12.2", "12.4 (r550)"));
    // Machine code runs on any driver of its major version; PTX may not.
    let newer = ("NVCC", "Cuda compilation tools, release 13.1, V13.1.80");
    let played = play("open", &[version("13000"), newer]);
    assert!(played.is_none_or(|played| played.said().starts_with("Properties")));
    opening_says(
        &[version("13000"), newer, ("FAKE_CUDA_FAIL", "cuModuleLoadData=222")],
        &text("13.0", "13.1"),
    );
}

#[test]
fn old_gpu() {
    opening_says(
        &[("FAKE_CUDA_CAPABILITY", "75")],
        "cuda:0 (Fake GPU) has compute capability 7.5, and the kernels need 8.0 or newer: use another GPU or \
         the CPU",
    );
}

#[test]
fn number_beyond_the_last() {
    opening_says(&[("ORDINAL", "7")], "cuda:7: this machine has 1 GPU, cuda:0");
    opening_says(
        &[("ORDINAL", "4"), ("FAKE_CUDA_COUNT", "4")],
        "cuda:4: this machine has 4 GPUs, cuda:0 to cuda:3",
    );
    let played = play("count", &[("FAKE_CUDA_COUNT", "4")]);
    assert!(played.is_none_or(|played| played.said() == "4"));
}

#[test]
fn no_kernels() {
    if let Some(played) = play("open without kernels", &[]) {
        assert!(played.said().starts_with("there are no CUDA kernels: "), "{}", played.said());
    }
}

#[test]
fn kernels_for_other_gpus() {
    opening_says(
        &[("FAKE_CUDA_FAIL", "cuModuleLoadData=209"), ("FAKE_CUDA_CAPABILITY", "121")],
        "the kernels were not built for cuda:0 (Fake GPU), which has compute capability 12.1: build again \
         with 121 among FISHMASK_CUDA_ARCHS",
    );
    opening_says(
        &[("FAKE_CUDA_FAIL", "cuModuleLoadData=1")],
        "cuda:0 (Fake GPU): cannot load its kernels: kernels/counter.cu: CUDA_ERROR_INVALID_VALUE: invalid \
         argument",
    );
}

/// All code is on the device before anything can be recorded.
#[test]
fn loads_every_kernel() {
    let Some(played) = play("open", &[]) else { return };
    assert_eq!(played.of("cuFuncLoad"), ["advance", "other", "large"]);
    let Some(played) = play("open", &[("FAKE_CUDA_FAIL", "cuFuncLoad=2")]) else { return };
    assert_eq!(
        played.said(),
        "cuda:0 (Fake GPU): cannot load its kernels: kernels/counter.cu: CUDA_ERROR_OUT_OF_MEMORY: out of \
         memory"
    );
    assert_eq!(played.of("cuModuleUnload").len(), 1);
}

#[test]
fn no_room_to_open() {
    for call in ["cuDevicePrimaryCtxRetain", "cuStreamCreate"] {
        if let Some(played) = play("open", &[("FAKE_CUDA_FAIL", &format!("{call}=2"))]) {
            let expected = "cuda:0 (Fake GPU): cannot open it: CUDA_ERROR_OUT_OF_MEMORY: out of memory";
            assert_eq!(played.said(), expected);
            let released = usize::from(call != "cuDevicePrimaryCtxRetain");
            assert_eq!(played.of("cuDevicePrimaryCtxRelease_v2").len(), released);
        }
    }
}

/// cudarc panics when it is to call a function that the library lacks: none may get so far.
#[test]
fn missing_functions() {
    if !can_compile() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    compile(folder.path());
    let names = SOURCE.lines().filter_map(|line| line.strip_prefix("int cu")?.split_once('('));
    let names: Vec<_> = names.map(|(name, _)| format!("cu{name}")).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in &names {
        link(folder.path(), Some(name));
        let played = run(folder.path(), "everything", &[]);
        let reason = match name.as_str() {
            "cuInit" | "cuDriverGetVersion" | "cuGetErrorName" | "cuGetErrorString" => {
                "libcuda.so lacks CUDA's functions".to_string()
            }
            _ => format!("libcuda.so lacks {name}"),
        };
        assert!(played.said().contains(&reason), "{name}: {}", played.said());
    }
    // All of them are there for a reason.
    link(folder.path(), None);
    let played = run(folder.path(), "everything", &[]);
    assert_eq!(played.said(), "done");
    for name in names.iter().filter(|name| !name.starts_with("cuGetError")) {
        assert!(!played.of(name).is_empty(), "{name} is not called");
    }
}

#[test]
fn tests_that_need_a_gpu_say_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("libcuda.so"), "not a library").unwrap();
    fs::write(folder.path().join("libcuda.so.1"), "not a library").unwrap();
    let skipped = run(folder.path(), "the test's helper", &[]);
    assert_eq!(skipped.said(), "a GPU: false");
    let line = "skipped: cuda::scenarios::in_child: no NVIDIA driver (libcuda.so cannot be loaded)";
    assert!(skipped.output.lines().any(|l| l.starts_with(line)), "{}", skipped.output);
    let required = run(folder.path(), "the test's helper", &[("REQUIRE_CUDA", "1")]);
    assert_eq!(required.said, None);
    assert!(
        required.output.contains("scenarios::in_child needs a GPU: no NVIDIA driver"),
        "{}",
        required.output
    );
}
