//! The driver for GPUs: against a fake libcuda (`fake_cuda/libcuda.c`), which child processes find instead of the real
//! one, and against a GPU where there is one.

mod common;

use common::gpu::gpu;
use fishmask::backend::cuda::args::counter::{ADVANCE, AdvanceArgs};
use fishmask::driver::emulated::Emulated;
use fishmask::driver::{Driver, Error, Launch};

/// A counter that launches move on, recorded and not.
fn counts<D: Driver>(device: &D) {
    let mut counter = device.allocate(4).unwrap();
    device.upload(&7_u32.to_le_bytes(), &mut counter, 0).unwrap();
    let address = device.address(&counter);
    let advance = |by| {
        let args = AdvanceArgs { counter: address as *mut u32, by };
        device.launch(&ADVANCE, Launch::new(1, 32), args)
    };
    let read = || {
        let mut bytes = [0; 4];
        device.download(&counter, 0, &mut bytes).unwrap();
        u32::from_le_bytes(bytes)
    };
    let from = device.event().unwrap();
    advance(2).unwrap();
    // More shared memory than a block has unasked, and no more than any GPU can give.
    let args = AdvanceArgs { counter: address as *mut u32, by: 3 };
    device.launch(&ADVANCE, Launch { grid: [1, 1, 1], block: 32, shared: 96 << 10 }, args).unwrap();
    let to = device.event().unwrap();
    assert_eq!(read(), 12);
    assert!(device.elapsed(&from, &to).unwrap() >= 0.0);

    device.begin_recording().unwrap();
    advance(100).unwrap();
    advance(1000).unwrap();
    let graph = device.end_recording().unwrap();
    assert_eq!(read(), 12, "recorded launches ran");
    for _ in 0..3 {
        device.replay(&graph).unwrap();
    }
    assert_eq!(read(), 3312);

    let args = AdvanceArgs { counter: address as *mut u32, by: 1 };
    let refused = device.launch(&ADVANCE, Launch::new(1, 64), args).unwrap_err().to_string();
    assert!(refused.contains("a block must be a multiple of 32 threads, at most 32"), "{refused}");
    device.synchronize().unwrap();
    assert!(device.free_bytes().unwrap() > 0);

    let mut halves = device.allocate(8).unwrap();
    device.upload(&[1, 2, 3, 4, 5, 6, 7, 8], &mut halves, 0).unwrap();
    device.upload(&[9, 9], &mut halves, 5).unwrap();
    let mut bytes = [0; 3];
    device.download(&halves, 4, &mut bytes).unwrap();
    assert_eq!(bytes, [5, 9, 9]);
    device.clear(&mut halves).unwrap();
    device.download(&halves, 0, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 3]);
}

#[test]
fn counts_emulated() {
    counts(&Emulated::new());
}

#[test]
fn counts_cuda() {
    if let Some(gpu) = gpu() {
        counts(&gpu);
    }
}

#[test]
fn has_no_room_cuda() {
    let Some(gpu) = gpu() else { return };
    let total = gpu.properties().memory;
    let refused = gpu.allocate(total + 1).map(|_| ()).unwrap_err();
    assert!(matches!(&refused, Error::OutOfMemory { wanted, .. } if *wanted == total + 1), "{refused}");
    counts(&gpu);
}

/// Opened twice, a GPU lends both the same context.
#[test]
fn opens_twice_cuda() {
    if let (Some(one), Some(two)) = (gpu(), gpu()) {
        counts(&two);
        drop(two);
        counts(&one);
    }
}

#[cfg(target_os = "linux")]
mod fake {
    use std::env;
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use fishmask::driver::Kernel;
    use fishmask::driver::cuda::Gpu;
    use fishmask::driver::kernels::FatBinary;

    use super::{ADVANCE, AdvanceArgs, Driver, Error, Launch, counts, gpu};

    const SOURCE: &str = include_str!("fake_cuda/libcuda.c");

    /// Images as the fake reads them: name, most threads, bytes of arguments, bytes of static shared memory.
    const BINARIES: &[FatBinary] = &[
        FatBinary { file: "counter", image: b"advance 32 16 0\nother 64 8 0\0" },
        FatBinary { file: "shapes", image: b"large 256 8 1024\0" },
    ];
    const LARGE: Kernel<[u32; 2]> = Kernel::new("shapes", "large");
    /// Room that the fake leaves `large`: 227 KB less 1 KB.
    const ROOM: u32 = 226 << 10;

    fn open() -> Result<Gpu, Error> {
        Gpu::open_with(0, BINARIES, Some("Cuda compilation tools, release 13.0, V13.0.88"))
    }

    fn advance(gpu: &Gpu, counter: u64, by: u32) -> Result<(), Error> {
        gpu.launch(&ADVANCE, Launch::new(1, 32), AdvanceArgs { counter: counter as *mut u32, by })
    }

    fn large(gpu: &Gpu, shared: u32) -> Result<(), Error> {
        gpu.launch(&LARGE, Launch { grid: [3, 2, 1], block: 128, shared }, [0x01020304, 0x05060708])
    }

    /// What a child process does, by name. Returns what it has to say.
    fn act(scenario: &str) -> Result<String, Error> {
        let number = |name| env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(0);
        match scenario {
            "open" => {
                let nvcc = env::var("NVCC").unwrap_or_else(|_| "13.0.88".into());
                let gpu = Gpu::open_with(number("ORDINAL"), BINARIES, Some(&nvcc))?;
                Ok(format!("{:?} {} {}", gpu.properties(), gpu.capability(), gpu.driver()))
            }
            "open without kernels" => Gpu::open_with(0, &[], None).map(|_| "opened".into()),
            "count" => Gpu::count().map(|count| count.to_string()),
            "the test's helper" => Ok(format!("a GPU: {}", gpu().is_some())),
            "everything" => {
                counts(&open()?);
                Ok("done".into())
            }
            "record" => {
                let gpu = open()?;
                let mut counter = gpu.allocate(4)?;
                gpu.clear(&mut counter)?;
                gpu.begin_recording()?;
                advance(&gpu, gpu.address(&counter), 1)?;
                advance(&gpu, gpu.address(&counter), 2)?;
                let graph = gpu.end_recording()?;
                gpu.replay(&graph)?;
                gpu.replay(&graph)?;
                let mut bytes = [0; 4];
                gpu.download(&counter, 0, &mut bytes)?;
                Ok(format!("{}", u32::from_le_bytes(bytes)))
            }
            "recording goes wrong" => {
                let gpu = open()?;
                let mut counter = gpu.allocate(4)?;
                gpu.begin_recording()?;
                let mut said = vec![];
                said.extend(gpu.begin_recording().err());
                said.extend(gpu.upload(&[1; 4], &mut counter, 0).err());
                said.extend(gpu.download(&counter, 0, &mut [0; 4]).err());
                said.extend(gpu.clear(&mut counter).err());
                said.extend(gpu.event().err());
                said.extend(gpu.synchronize().err());
                said.extend(large(&gpu, ROOM + 1).err());
                drop(gpu.end_recording()?);
                said.extend(gpu.end_recording().err());
                // The stream does as it is told again.
                gpu.clear(&mut counter)?;
                advance(&gpu, gpu.address(&counter), 4)?;
                gpu.synchronize()?;
                gpu.begin_recording()?;
                // Dropped while recording.
                Ok(said.iter().map(ToString::to_string).collect::<Vec<_>>().join("|"))
            }
            "shared memory" => {
                let gpu = open()?;
                for shared in [0, 47 << 10, (47 << 10) + 1, 100 << 10, ROOM] {
                    large(&gpu, shared)?;
                }
                large(&gpu, ROOM + 1).map(|()| "launched".into())
            }
            "bad launches" => {
                let gpu = open()?;
                let args = [0; 2];
                let launch = |grid, block| gpu.launch(&LARGE, Launch { grid, block, shared: 0 }, args).err();
                let mut said = vec![];
                said.extend(launch([1, 1, 1], 0));
                said.extend(launch([1, 1, 1], 33));
                said.extend(launch([1, 1, 1], 288));
                said.extend(launch([0, 1, 1], 32));
                said.extend(launch([1, 65536, 1], 32));
                said.extend(
                    gpu.launch(&Kernel::new("shapes", "large"), Launch::new(1, 32), [0_u32; 3]).err(),
                );
                said.extend(gpu.launch(&Kernel::new("shapes", "tiny"), Launch::new(1, 32), args).err());
                said.extend(gpu.launch(&Kernel::new("nothing", "none"), Launch::new(1, 32), args).err());
                Ok(said.iter().map(ToString::to_string).collect::<Vec<_>>().join("|"))
            }
            "launch" => large(&open()?, 4096).map(|()| "launched".into()),
            "memory" => {
                let gpu = open()?;
                let first = gpu.allocate(600)?;
                let empty = gpu.allocate(0)?;
                let refused = gpu.allocate(600).map(|_| ()).unwrap_err();
                let sizes = (gpu.bytes(&first), gpu.bytes(&empty), gpu.free_bytes()?);
                drop(first);
                drop(gpu.allocate(600)?);
                // The buffer outlives the device that it was made on.
                drop(gpu);
                Ok(format!("{refused}; {sizes:?}"))
            }
            "fault" => {
                let gpu = open()?;
                let mut buffer = gpu.allocate(64)?;
                gpu.begin_recording()?;
                advance(&gpu, gpu.address(&buffer), 1)?;
                let graph = gpu.end_recording()?;
                let event = gpu.event()?;
                large(&gpu, 64)?;
                let mut said = vec![];
                said.extend(gpu.synchronize().err());
                said.extend(large(&gpu, 64).err());
                said.extend(gpu.replay(&graph).err());
                said.extend(gpu.elapsed(&event, &event).err());
                said.extend(gpu.upload(&[1], &mut buffer, 0).err());
                said.extend(gpu.allocate(1).err());
                said.extend(gpu.free_bytes().err());
                // All of it is dropped.
                Ok(said.iter().map(ToString::to_string).collect::<Vec<_>>().join("|"))
            }
            "replay" => {
                let gpu = open()?;
                gpu.begin_recording()?;
                let graph = gpu.end_recording()?;
                gpu.replay(&graph).map(|()| "replayed".into())
            }
            _ => panic!("no scenario {scenario}"),
        }
    }

    /// A child process's part of the tests below.
    #[test]
    #[ignore = "the other tests run it in child processes"]
    fn in_child() {
        if let Ok(scenario) = env::var("SCENARIO") {
            let said = act(&scenario).unwrap_or_else(|error| error.to_string());
            println!("[said: {said}]");
        }
    }

    struct Played {
        /// The scenario's outcome or error; none if the child panicked.
        said: Option<String>,
        /// The calls of libcuda.
        calls: Vec<String>,
        output: String,
    }

    impl Played {
        fn said(&self) -> &str {
            self.said.as_deref().unwrap_or_else(|| panic!("{}", self.output))
        }

        /// The calls of one function, without its name.
        fn of(&self, function: &str) -> Vec<&str> {
            let calls = self.calls.iter().filter_map(|call| call.strip_prefix(function));
            calls.filter(|rest| rest.is_empty() || rest.starts_with(' ')).map(str::trim).collect()
        }
    }

    fn c_compiler() -> Command {
        Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()))
    }

    /// Whether the fake can be made; if not, says that the test is skipped.
    fn can_compile() -> bool {
        let can = c_compiler().arg("--version").output().is_ok_and(|o| o.status.success());
        if !can {
            let test = std::thread::current().name().unwrap_or("a test").to_string();
            eprintln!("skipped: {test}: no C compiler to make the fake libcuda with");
        }
        can
    }

    /// Makes `folder/libcuda.o`.
    fn compile(folder: &Path) {
        fs::write(folder.join("libcuda.c"), SOURCE).unwrap();
        let compiler =
            c_compiler().current_dir(folder).args(["-c", "-fPIC", "-Wall", "-Werror", "libcuda.c"]).output();
        let compiler = compiler.unwrap();
        assert!(compiler.status.success(), "{}", String::from_utf8_lossy(&compiler.stderr));
    }

    /// Makes `folder/libcuda.so`, without one of its functions if told so.
    fn link(folder: &Path, without: Option<&str>) {
        let local = without.map(|name| format!("local: {name};")).unwrap_or_default();
        fs::write(folder.join("exports"), format!("FAKE {{ global: cu*; {local} }};")).unwrap();
        let linker = c_compiler()
            .current_dir(folder)
            .args(["-shared", "-Wl,--version-script=exports", "-o", "libcuda.so", "libcuda.o"])
            .output()
            .unwrap();
        assert!(linker.status.success(), "{}", String::from_utf8_lossy(&linker.stderr));
    }

    /// Acts `scenario` in a child process that finds the libcuda of `folder`.
    fn run(folder: &Path, scenario: &str, settings: &[(&str, &str)]) -> Played {
        let log = folder.join("calls");
        let _ = fs::remove_file(&log);
        let child = Command::new(env::current_exe().unwrap())
            .args(["fake::in_child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env("LD_LIBRARY_PATH", folder)
            .env("SCENARIO", scenario)
            .env("FAKE_CUDA_LOG", &log)
            .env_remove("REQUIRE_CUDA")
            .envs(settings.iter().copied())
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&child.stdout);
        let said = stdout.split_once("[said: ").and_then(|(_, rest)| rest.rsplit_once(']'));
        // A child that crashes while it drops things has not said its last word well.
        let said = said.filter(|_| child.status.success()).map(|(said, _)| said.to_string());
        let calls = fs::read_to_string(&log).unwrap_or_default();
        Played {
            said,
            calls: calls.lines().map(|call| call.trim_end().to_string()).collect(),
            output: format!("{stdout}\n{}", String::from_utf8_lossy(&child.stderr)),
        }
    }

    /// The same with a fake that lacks nothing; nothing without a C compiler.
    fn play(scenario: &str, settings: &[(&str, &str)]) -> Option<Played> {
        can_compile().then(|| {
            let folder = tempfile::tempdir().unwrap();
            compile(folder.path());
            link(folder.path(), None);
            run(folder.path(), scenario, settings)
        })
    }

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
            "Properties { name: \"Fake GPU\", processors: 132, memory: 1073741824, shared: 232448 } 9.0 13.1",
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
        let expected = "no NVIDIA driver (libcuda.so cannot be loaded): install one for CUDA 13.0 or newer, or use the \
                        CPU";
        assert_eq!(played.said(), expected);
        assert_eq!(run(folder.path(), "count", &[]).said(), expected.replace("13.0", "12.4"));
    }

    #[test]
    fn stub_library() {
        opening_says(
            &[("FAKE_CUDA_FAIL", "cuDriverGetVersion=34")],
            "no NVIDIA driver (the libcuda.so found is the CUDA toolkit's stub): install one for CUDA 13.0 or newer, or \
             use the CPU",
        );
    }

    #[test]
    fn no_gpu() {
        let expected = "the NVIDIA driver finds no GPU: see that nvidia-smi lists one, that CUDA_VISIBLE_DEVICES does \
                        not hide it and that a container is started with it, or use the CPU";
        opening_says(&[("FAKE_CUDA_FAIL", "cuInit=100")], expected);
        opening_says(&[("FAKE_CUDA_COUNT", "0")], expected);
    }

    #[test]
    fn driver_does_not_start() {
        opening_says(
            &[("FAKE_CUDA_FAIL", "cuInit=803")],
            "CUDA: cannot start the driver: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: system has unsupported display driver / \
             cuda driver combination",
        );
        // A code that cudarc does not know, nor the driver's own table.
        opening_says(&[("FAKE_CUDA_FAIL", "cuInit=816")], "CUDA: cannot start the driver: CUDA error 816");
    }

    #[test]
    fn old_driver() {
        let text = |found, needed| {
            format!(
                "the NVIDIA driver supports CUDA {found}, and the kernels need a driver for CUDA {needed} or newer: \
                 update the driver"
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
            "cuda:0 (Fake GPU) has compute capability 7.5, and the kernels need 8.0 or newer: use another GPU or the CPU",
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
            "the kernels were not built for cuda:0 (Fake GPU), which has compute capability 12.1: build again with 121 \
             among FISHMASK_CUDA_ARCHS",
        );
        opening_says(
            &[("FAKE_CUDA_FAIL", "cuModuleLoadData=1")],
            "cuda:0 (Fake GPU): cannot load its kernels: kernels/counter.cu: CUDA_ERROR_INVALID_VALUE: invalid argument",
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
            "cuda:0 (Fake GPU): cannot load its kernels: kernels/counter.cu: CUDA_ERROR_OUT_OF_MEMORY: out of memory"
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
    fn records_and_replays() {
        let Some(played) = play("record", &[]) else { return };
        assert_eq!(played.said(), "6");
        let from = played.calls.iter().position(|call| call.starts_with("cuMemAlloc")).unwrap();
        let words = |call: &str| call.split(' ').take(5).collect::<Vec<_>>().join(" ");
        // Each of them chooses the context first.
        let calls = played.calls[from..].iter().filter(|call| *call != "cuCtxSetCurrent");
        let calls: Vec<_> = calls.map(|call| words(call)).collect();
        let launch = "cuLaunchKernel advance 1x1x1 32x1x1 0";
        let expected = [
            "cuMemAlloc_v2 4",
            "cuMemsetD8Async 0 4",
            "cuStreamBeginCapture_v2 2",
            "cuModuleGetFunction advance",
            "cuFuncGetAttribute advance 1",
            "cuFuncGetAttribute advance 8",
            "cuFuncGetParamInfo advance 0",
            "cuFuncGetAttribute advance 0",
            launch,
            launch,
            "cuStreamEndCapture 2 operations",
            "cuGraphInstantiateWithFlags 0",
            "cuGraphDestroy",
            "cuGraphLaunch 2 operations",
            "cuGraphLaunch 2 operations",
            "cuMemcpyDtoHAsync_v2 4",
            "cuStreamSynchronize",
            "cuStreamSynchronize",
            "cuGraphExecDestroy",
            "cuStreamSynchronize",
            "cuMemFree_v2",
            "cuStreamSynchronize",
            "cuModuleUnload",
            "cuModuleUnload",
            "cuStreamDestroy_v2",
            "cuDevicePrimaryCtxRelease_v2 0, 0 bytes and",
        ];
        assert_eq!(calls, expected);
    }

    #[test]
    fn recording_goes_wrong() {
        let Some(played) = play("recording goes wrong", &[]) else { return };
        let refused = |what: &str| format!("cuda:0 (Fake GPU): cannot {what}: only launches can be recorded");
        let mut expected: Vec<_> =
            ["record", "upload", "download", "clear memory", "mark a moment", "finish its work"]
                .map(refused)
                .into();
        expected.push(format!(
            "kernel large (grid [3, 2, 1], block 128, {} bytes of shared memory): a block of it has at most {ROOM} \
             bytes of dynamic shared memory",
            ROOM + 1
        ));
        expected.push("cuda:0 (Fake GPU): cannot end a recording: none was begun".into());
        assert_eq!(played.said().split('|').collect::<Vec<_>>(), expected);
        assert_eq!(played.of("cuStreamEndCapture"), ["0 operations"; 2]);
        assert_eq!(played.of("cuDevicePrimaryCtxRelease_v2"), ["0, 0 bytes and 0 streams left"]);
    }

    #[test]
    fn recording_fails() {
        let said = |failure: &str| play("replay", &[("FAKE_CUDA_FAIL", failure)]);
        let text =
            |what: &str| format!("cuda:0 (Fake GPU): cannot {what}: CUDA_ERROR_OUT_OF_MEMORY: out of memory");
        for call in ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"] {
            let Some(played) = said(&format!("{call}=2")) else { return };
            assert_eq!(played.said(), text("record"));
            let captured = usize::from(call == "cuGraphInstantiateWithFlags");
            assert_eq!(played.of("cuGraphDestroy").len(), captured);
        }
        let Some(played) = said("cuGraphLaunch=2") else { return };
        assert_eq!(played.said(), text("replay recorded work"));
        assert_eq!(played.of("cuGraphExecDestroy").len(), 1);
    }

    #[test]
    fn asks_for_shared_memory_once() {
        let Some(played) = play("shared memory", &[]) else { return };
        assert!(played.said().contains("at most 231424 bytes of dynamic shared memory"), "{}", played.said());
        let shapes = [0, 47 << 10, (47 << 10) + 1, 100 << 10, ROOM];
        let launch = |shared| format!("cuLaunchKernel large 3x2x1 128x1x1 {shared} 0403020108070605");
        let mut expected: Vec<_> = shapes.map(launch).into();
        expected.insert(2, format!("cuFuncSetAttribute large 8 {ROOM}"));
        let kinds = ["cuLaunchKernel", "cuFuncSetAttribute"];
        let found = played.calls.iter().filter(|call| kinds.iter().any(|kind| call.starts_with(kind)));
        assert_eq!(found.collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
        assert_eq!(played.of("cuModuleGetFunction"), ["large"]);
    }

    #[test]
    fn bad_launches() {
        let Some(played) = play("bad launches", &[]) else { return };
        let block = "a block must be a multiple of 32 threads, at most 256";
        let grid = "a grid has at least 1 block along each axis, at most 2147483647, 65535 and 65535";
        let reasons = [
            ("large (grid [1, 1, 1], block 0", block),
            ("large (grid [1, 1, 1], block 33", block),
            ("large (grid [1, 1, 1], block 288", block),
            ("large (grid [0, 1, 1], block 32", grid),
            ("large (grid [1, 65536, 1], block 32", grid),
            ("large (grid [1, 1, 1], block 32", "its arguments have 8 bytes, not 12"),
            ("tiny (grid [1, 1, 1], block 32", "there is no such kernel in kernels/shapes.cu"),
            ("none (grid [1, 1, 1], block 32", "there is no such kernel in kernels/nothing.cu"),
        ];
        let expected =
            reasons.map(|(launch, why)| format!("kernel {launch}, 0 bytes of shared memory): {why}"));
        assert_eq!(played.said().split('|').collect::<Vec<_>>(), expected);
        assert_eq!(played.of("cuLaunchKernel").len(), 0);
    }

    #[test]
    fn a_launch_fails() {
        let Some(played) = play("launch", &[("FAKE_CUDA_FAIL", "cuLaunchKernel=701")]) else { return };
        assert_eq!(
            played.said(),
            "kernel large (grid [3, 2, 1], block 128, 4096 bytes of shared memory): CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: \
             too many resources requested for launch"
        );
    }

    #[test]
    fn out_of_memory() {
        let Some(played) = play("memory", &[("FAKE_CUDA_MEMORY", "1001")]) else { return };
        assert_eq!(
            played.said(),
            "cuda:0 (Fake GPU) has no room for 600 bytes: 400 of its 1001 bytes are free; (600, 0, 400)"
        );
        assert_eq!(
            played.calls.last().unwrap(),
            "cuDevicePrimaryCtxRelease_v2 0, 0 bytes and 0 streams left"
        );
    }

    #[test]
    fn a_kernel_faults() {
        let Some(played) = play("fault", &[("FAKE_CUDA_FAIL", "cuStreamSynchronize=700*")]) else { return };
        let words = "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered";
        let blame = "; the last kernel started was large (grid [3, 2, 1], block 128, 64 bytes of shared memory), and \
                     CUDA_LAUNCH_BLOCKING=1 tells whether it is the one to blame";
        let device = |action: &str| format!("cuda:0 (Fake GPU): cannot {action}: {words}{blame}");
        let launch = format!("kernel large (grid [3, 2, 1], block 128, 64 bytes of shared memory): {words}");
        let expected = [
            device("finish its work"),
            launch + " (work before it may be to blame)",
            device("replay recorded work"),
            device("measure time"),
            device("upload"),
            device("allocate memory"),
            device("ask how much memory is free"),
        ];
        assert_eq!(played.said().split('|').collect::<Vec<_>>(), expected);
    }

    #[test]
    fn tests_that_need_a_gpu_say_so() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("libcuda.so"), "not a library").unwrap();
        fs::write(folder.path().join("libcuda.so.1"), "not a library").unwrap();
        let skipped = run(folder.path(), "the test's helper", &[]);
        assert_eq!(skipped.said(), "a GPU: false");
        let line = "skipped: fake::in_child: no NVIDIA driver (libcuda.so cannot be loaded)";
        assert!(skipped.output.lines().any(|l| l.starts_with(line)), "{}", skipped.output);
        let required = run(folder.path(), "the test's helper", &[("REQUIRE_CUDA", "1")]);
        assert_eq!(required.said, None);
        assert!(
            required.output.contains("fake::in_child needs a GPU: no NVIDIA driver"),
            "{}",
            required.output
        );
    }
}
