//! What child processes do with the fake libcuda.

use std::env;

use fishmask::device::cuda::args::{ADVANCE, AdvanceArgs};
use fishmask::device::driver::{Driver, Error, Kernel, Launch};
use fishmask::device::gpu::Gpu;
use fishmask::device::kernels::FatBinary;

use super::counts;
use crate::support::gpu::gpu;

/// Images as the fake reads them: name, most threads, bytes of arguments, bytes of static shared memory.
const BINARIES: &[FatBinary] = &[
    FatBinary { file: "counter", image: b"advance 32 16 0\nother 64 8 0\0" },
    FatBinary { file: "shapes", image: b"large 256 8 1024\0" },
];
const LARGE: Kernel<[u32; 2]> = Kernel::new("shapes", "large");
/// Room that the fake leaves `large`: 227 KB less 1 KB.
pub const ROOM: u32 = 226 << 10;

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
            said.extend(gpu.launch(&Kernel::new("shapes", "large"), Launch::new(1, 32), [0_u32; 3]).err());
            said.extend(gpu.launch(&Kernel::new("shapes", "tiny"), Launch::new(1, 32), args).err());
            said.extend(gpu.launch(&Kernel::new("nothing", "none"), Launch::new(1, 32), args).err());
            Ok(said.iter().map(ToString::to_string).collect::<Vec<_>>().join("|"))
        }
        "launch" => large(&open()?, 4096).map(|()| "launched".into()),
        "memory" => {
            let gpu = open()?;
            let first = gpu.allocate(600)?;
            let _empty = gpu.allocate(0)?;
            let refused = gpu.allocate(600).map(|_| ()).unwrap_err();
            let free = gpu.free_bytes()?;
            drop(first);
            drop(gpu.allocate(600)?);
            // The buffer outlives the device that it was made on.
            drop(gpu);
            Ok(format!("{refused}; {free} bytes free"))
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
