//! Work on an opened GPU: what the driver is asked for, and what is said when it fails.

use super::fake::play;
use super::scenarios::ROOM;

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
        "kernel large (grid [3, 2, 1], block 128, {} bytes of shared memory): a block of it has at most \
         {ROOM} bytes of dynamic shared memory",
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
    let expected = reasons.map(|(launch, why)| format!("kernel {launch}, 0 bytes of shared memory): {why}"));
    assert_eq!(played.said().split('|').collect::<Vec<_>>(), expected);
    assert_eq!(played.of("cuLaunchKernel").len(), 0);
}

#[test]
fn a_launch_fails() {
    let Some(played) = play("launch", &[("FAKE_CUDA_FAIL", "cuLaunchKernel=701")]) else { return };
    assert_eq!(
        played.said(),
        "kernel large (grid [3, 2, 1], block 128, 4096 bytes of shared memory): \
         CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many resources requested for launch"
    );
}

#[test]
fn out_of_memory() {
    let Some(played) = play("memory", &[("FAKE_CUDA_MEMORY", "1001")]) else { return };
    assert_eq!(
        played.said(),
        "cuda:0 (Fake GPU) has no room for 600 bytes: 400 of its 1001 bytes are free; 400 bytes free"
    );
    assert_eq!(played.calls.last().unwrap(), "cuDevicePrimaryCtxRelease_v2 0, 0 bytes and 0 streams left");
}

#[test]
fn a_kernel_faults() {
    let Some(played) = play("fault", &[("FAKE_CUDA_FAIL", "cuStreamSynchronize=700*")]) else { return };
    let words = "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered";
    let blame = "; the last kernel started was large (grid [3, 2, 1], block 128, 64 bytes of shared memory), \
        and CUDA_LAUNCH_BLOCKING=1 tells whether it is the one to blame";
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
