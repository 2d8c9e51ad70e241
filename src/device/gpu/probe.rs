//! Is there a driver, a GPU, and do they suit the kernels? Everything here answers with a sentence that a
//! user can act on; after it, no call of cudarc's can panic.

use std::ffi::{c_int, c_void};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice, CUdevice_attribute_enum as Attribute, CUresult};

use crate::device::driver::{Error, Version};

/// The oldest driver that has every function used here.
const OLDEST: Version = Version { major: 12, minor: 4 };

/// `mma.sync` on f16 with f32 sums in the 16x8x16 shape, and `cp.async`.
const CAPABILITY: Version = Version { major: 8, minor: 0 };

/// Functions of any libcuda, with which a refusal can be explained.
const FIRST: [&str; 4] = ["cuInit", "cuDriverGetVersion", "cuGetErrorName", "cuGetErrorString"];

/// The others that this module and its neighbours call. cudarc looks a function up when it is first called
/// and panics where it is missing, so all of them are looked up here.
const OTHERS: [&str; 38] = [
    "cuCtxSetCurrent",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuFuncGetAttribute",
    "cuFuncGetParamInfo",
    "cuFuncLoad",
    "cuFuncSetAttribute",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleEnumerateFunctions",
    "cuModuleGetFunction",
    "cuModuleGetFunctionCount",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamSynchronize",
];

/// A GPU that suits, not yet opened.
pub struct Candidate {
    pub device: CUdevice,
    pub name: String,
    pub capability: Version,
    /// Multiprocessors.
    pub processors: u32,
    /// Bytes of memory.
    pub memory: usize,
    /// Most bytes of shared memory of a block.
    pub shared: u32,
}

/// The driver's name for an error and its explanation.
pub fn words(error: DriverError) -> String {
    match (error.error_name(), error.error_string()) {
        (Ok(name), Ok(text)) => format!("{}: {}", name.to_string_lossy(), text.to_string_lossy()),
        _ => format!("CUDA error {}", error.0 as u32),
    }
}

/// What CUDA version a driver must support to run the machine code of `nvcc` ("13.0.88"): one of the same
/// major version.
pub fn needed(nvcc: Option<&str>) -> Version {
    let major = nvcc.and_then(version).map_or(0, |v| v.major);
    OLDEST.max(Version { major, minor: 0 })
}

/// The first `number.number` in a text.
pub fn version(text: &str) -> Option<Version> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let mut numbers = word.split('.').map(str::parse);
        Some(Version { major: numbers.next()?.ok()?, minor: numbers.next()?.ok()? })
    })
}

/// Starts the driver. Returns the newest CUDA version that it supports, at least `needed`.
pub fn start(needed: Version) -> Result<Version, Error> {
    let missing = |reason: &str| Error::NoDriver { reason: reason.into(), needed };
    // SAFETY: loading libcuda runs its initialisers, which is what it is there for.
    if !unsafe { sys::is_culib_present() } {
        return Err(missing("libcuda.so cannot be loaded"));
    }
    if !FIRST.iter().all(|name| has(name)) {
        return Err(missing("libcuda.so lacks CUDA's functions"));
    }
    let mut version: c_int = 0;
    // SAFETY: the pointer is good; this call needs no initialisation.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(|error| refusal(error, needed))?;
    // 1000 * major + 10 * minor.
    let version = version.max(0) as u32;
    let found = Version { major: version / 1000, minor: version % 1000 / 10 };
    if found < needed {
        return Err(Error::DriverTooOld { found, needed });
    }
    if let Some(name) = OTHERS.iter().find(|name| !has(name)) {
        return Err(missing(&format!("libcuda.so lacks {name}")));
    }
    result::init().map_err(|error| refusal(error, needed))?;
    Ok(found)
}

/// GPUs, at least one. The driver must have been started.
pub fn count() -> Result<usize, Error> {
    match result::device::get_count() {
        Ok(count) if count > 0 => Ok(count as usize),
        Ok(_) => Err(Error::NoGpu),
        Err(error) => Err(refusal(error, OLDEST)),
    }
}

/// Looks at a GPU. The driver must have been started.
pub fn candidate(ordinal: usize) -> Result<Candidate, Error> {
    let count = count()?;
    if ordinal >= count {
        return Err(Error::NoSuchGpu { asked: ordinal, count });
    }
    let failed = |error| Error::Device {
        device: format!("cuda:{ordinal}"),
        action: "ask what it is",
        reason: words(error),
    };
    let device = result::device::get(ordinal as c_int).map_err(failed)?;
    // SAFETY: the device comes from the driver.
    let ask = |what| unsafe { result::device::get_attribute(device, what) }.map(|v| v.max(0) as u32);
    let major = ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR).map_err(failed)?;
    let minor = ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR).map_err(failed)?;
    let capability = Version { major, minor };
    let name = result::device::get_name(device).map_err(failed)?;
    if capability < CAPABILITY {
        return Err(Error::GpuTooOld { ordinal, name, found: capability, needed: CAPABILITY });
    }
    let processors = ask(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).map_err(failed)?;
    let shared = ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN).map_err(failed)?;
    // SAFETY: the device comes from the driver.
    let memory = unsafe { result::device::total_mem(device) }.map_err(failed)?;
    Ok(Candidate { device, name, capability, processors, memory, shared })
}

/// Whether libcuda, which is there, has a function.
fn has(name: &str) -> bool {
    // SAFETY: the address is not used.
    unsafe { sys::culib().get::<*const c_void>(name.as_bytes()) }.is_ok()
}

/// Why the driver does not start.
fn refusal(error: DriverError, needed: Version) -> Error {
    match error.0 {
        CUresult::CUDA_ERROR_NO_DEVICE => Error::NoGpu,
        CUresult::CUDA_ERROR_STUB_LIBRARY => {
            Error::NoDriver { reason: "the libcuda.so found is the CUDA toolkit's stub".into(), needed }
        }
        _ => Error::Device { device: "CUDA".into(), action: "start the driver", reason: words(error) },
    }
}
