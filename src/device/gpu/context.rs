//! A GPU's context, stream and modules, which everything made on it keeps alive.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;
use std::ptr;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{
    self, CUcontext, CUdevice, CUfunction, CUfunction_attribute_enum as Attribute, CUgraph, CUmodule,
    CUresult, CUstream,
};

use super::probe::{self, Candidate, words};
use crate::device::driver::{Error, Launch, Version};
use crate::device::kernels::FatBinary;

/// Shared memory that a block may have unasked.
const SHARED_UNASKED: u32 = 48 << 10;

/// The device's primary context, bound in every call, and one stream, on which all work is done.
pub struct Context {
    /// `cuda:0 (its name)`.
    pub label: String,
    pub stream: CUstream,
    /// Whether the stream is being captured.
    pub recording: Cell<bool>,
    /// The last kernel started, for faults that show later.
    pub last: Cell<Option<(&'static str, Launch)>>,
    /// Most bytes of shared memory of a block.
    shared: u32,
    device: CUdevice,
    context: CUcontext,
    modules: Vec<Module>,
    functions: RefCell<HashMap<&'static str, Function>>,
}

/// A loaded kernel file.
struct Module {
    file: &'static str,
    handle: CUmodule,
}

/// A kernel.
#[derive(Clone, Copy)]
pub struct Function {
    pub handle: CUfunction,
    /// Most threads in a block.
    threads: u32,
    /// Bytes of its argument struct.
    arguments: usize,
    /// Bytes of shared memory that it always has.
    fixed: u32,
    /// Bytes of shared memory that a launch may add.
    dynamic: u32,
}

impl Context {
    /// Opens a GPU and loads the kernels.
    pub fn open(
        ordinal: usize,
        of: &Candidate,
        kernels: &[FatBinary],
        driver: Version,
        nvcc: Option<&str>,
    ) -> Result<Context, Error> {
        let label = format!("cuda:{ordinal} ({})", of.name);
        let failed = |error| Error::Device { device: label.clone(), action: "open it", reason: words(error) };
        // SAFETY: the device comes from the driver.
        let context = unsafe { result::primary_ctx::retain(of.device) }.map_err(failed)?;
        // From here on dropping gives back what there is.
        let mut opened = Context {
            label: label.clone(),
            stream: ptr::null_mut(),
            recording: Cell::new(false),
            last: Cell::new(None),
            shared: of.shared,
            device: of.device,
            context,
            modules: vec![],
            functions: RefCell::default(),
        };
        opened.bind().map_err(failed)?;
        opened.stream = result::stream::create(result::stream::StreamKind::NonBlocking).map_err(failed)?;
        for kernel in kernels {
            let module = Module::load(kernel).map_err(|error| match error.0 {
                CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU => {
                    Error::OtherArchitecture { device: label.clone(), capability: of.capability }
                }
                CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => Error::DriverTooOld {
                    found: driver,
                    needed: nvcc.and_then(probe::version).unwrap_or(driver),
                },
                _ => Error::Device {
                    device: label.clone(),
                    action: "load its kernels",
                    reason: format!("kernels/{}.cu: {}", kernel.file, words(error)),
                },
            })?;
            opened.modules.push(module);
        }
        Ok(opened)
    }

    /// Makes the calls that follow on this thread go to this GPU.
    pub fn bind(&self) -> Result<(), DriverError> {
        // SAFETY: the context is kept until dropped.
        unsafe { result::ctx::set_current(self.context) }
    }

    /// An error of the device.
    pub fn error(&self, action: &'static str, error: DriverError) -> Error {
        let mut reason = words(error);
        if let (true, Some((kernel, Launch { grid, block, shared }))) = (is_fault(error), self.last.get()) {
            reason += &format!(
                "; the last kernel started was {kernel} (grid {grid:?}, block {block}, {shared} bytes of \
                 shared memory), and CUDA_LAUNCH_BLOCKING=1 tells whether it is the one to blame"
            );
        }
        Error::Device { device: self.label.clone(), action, reason }
    }

    /// Refuses what cannot be recorded.
    pub fn not_recording(&self, action: &'static str) -> Result<(), Error> {
        if !self.recording.get() {
            return Ok(());
        }
        let reason = "only launches can be recorded".into();
        Err(Error::Device { device: self.label.clone(), action, reason })
    }

    /// Ends the capture of the stream, which is free again whatever comes of it.
    pub fn end_capture(&self) -> Result<Template, DriverError> {
        self.recording.set(false);
        self.bind()?;
        // SAFETY: the stream is being captured.
        unsafe { result::stream::end_capture(self.stream) }.map(Template)
    }

    /// Waits for all work.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        self.bind()?;
        // SAFETY: the stream is kept until dropped.
        unsafe { result::stream::synchronize(self.stream) }
    }

    /// Waits for all work, so that something can be freed. Work that is being recorded has not begun.
    pub fn settle(&self) {
        let _ = match self.recording.get() {
            true => self.bind(),
            false => self.synchronize(),
        };
    }

    /// The kernel, made ready for a launch with arguments of so many bytes, or why it will not run.
    pub fn function(
        &self,
        file: &str,
        name: &'static str,
        launch: Launch,
        arguments: usize,
    ) -> Result<CUfunction, String> {
        let Launch { grid: [x, y, z], block, shared } = launch;
        self.bind().map_err(refusal)?;
        let mut functions = self.functions.borrow_mut();
        let function = match functions.get_mut(name) {
            Some(known) => known,
            None => functions.entry(name).or_insert(self.find(file, name)?),
        };
        if x == 0 || y == 0 || z == 0 || x > i32::MAX as u32 || y > 65_535 || z > 65_535 {
            return Err(
                "a grid has at least 1 block along each axis, at most 2147483647, 65535 and 65535".into()
            );
        }
        let threads = function.threads;
        if block == 0 || !block.is_multiple_of(32) || block > threads {
            return Err(format!("a block must be a multiple of 32 threads, at most {threads}"));
        }
        if function.arguments != arguments {
            return Err(format!("its arguments have {} bytes, not {arguments}", function.arguments));
        }
        let most = self.shared.saturating_sub(function.fixed);
        if shared > most {
            return Err(format!("a block of it has at most {most} bytes of dynamic shared memory"));
        }
        if shared > function.dynamic {
            let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function's module is loaded.
            unsafe { result::function::set_function_attribute(function.handle, attribute, most as i32) }
                .map_err(refusal)?;
            function.dynamic = most;
        }
        Ok(function.handle)
    }

    fn find(&self, file: &str, name: &str) -> Result<Function, String> {
        let absent = || format!("there is no such kernel in kernels/{file}.cu");
        let module = self.modules.iter().find(|module| module.file == file).ok_or_else(absent)?;
        let symbol = CString::new(name).map_err(|_| absent())?;
        // SAFETY: the module is loaded.
        let handle = unsafe { result::module::get_function(module.handle, symbol) }.map_err(|error| {
            if error.0 == CUresult::CUDA_ERROR_NOT_FOUND { absent() } else { refusal(error) }
        })?;
        let ask = |what| {
            // SAFETY: the function's module is loaded.
            let value = unsafe { result::function::get_function_attribute(handle, what) };
            value.map(|v| v.max(0) as u32).map_err(refusal)
        };
        let fixed = ask(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?;
        let dynamic = ask(Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)?;
        let (mut offset, mut arguments) = (0, 0);
        // SAFETY: the pointers are good and the function's module is loaded.
        unsafe { sys::cuFuncGetParamInfo(handle, 0, &mut offset, &mut arguments) }
            .result()
            .map_err(refusal)?;
        Ok(Function {
            handle,
            threads: ask(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
            arguments,
            fixed,
            dynamic: dynamic.min(SHARED_UNASKED.saturating_sub(fixed)),
        })
    }
}

impl Drop for Context {
    /// Errors are passed over: after a fault each of these calls fails, and what they free is lost with the
    /// process.
    fn drop(&mut self) {
        if self.recording.get() {
            drop(self.end_capture());
        }
        self.settle();
        self.modules.clear();
        if !self.stream.is_null() {
            // SAFETY: made here; buffers, events and graphs, which use it, keep this context.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
        // SAFETY: retained once, in `open`.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

impl Module {
    fn load(kernel: &FatBinary) -> Result<Module, DriverError> {
        // SAFETY: a fat binary says how long it is. It is static, as the driver may read it again when a
        // kernel is first used.
        let handle = unsafe { result::module::load_data(kernel.image.as_ptr().cast()) }?;
        let module = Module { file: kernel.file, handle };
        module.finish()?;
        Ok(module)
    }

    /// Loads the code of each kernel now, for by default the driver waits until one is used, which would be
    /// in the midst of a recording.
    fn finish(&self) -> Result<(), DriverError> {
        let mut count = 0;
        // SAFETY: the pointer is good and the module loaded.
        unsafe { sys::cuModuleGetFunctionCount(&mut count, self.handle) }.result()?;
        let mut functions = vec![ptr::null_mut(); count as usize];
        // SAFETY: there is room for so many.
        unsafe { sys::cuModuleEnumerateFunctions(functions.as_mut_ptr(), count, self.handle) }.result()?;
        // SAFETY: the driver has just named them.
        functions.into_iter().try_for_each(|function| unsafe { sys::cuFuncLoad(function) }.result())
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded in `load`; the context is kept until its modules are gone. After a fault it fails.
        let _ = unsafe { result::module::unload(self.handle) };
    }
}

/// A graph as captured.
pub struct Template(pub CUgraph);

impl Drop for Template {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: captured in `end_capture`; what was instantiated from it does not need it.
            let _ = unsafe { result::graph::destroy(self.0) };
        }
    }
}

/// Why a launch was refused.
pub fn refusal(error: DriverError) -> String {
    let earlier = if is_fault(error) { " (work before it may be to blame)" } else { "" };
    words(error) + earlier
}

/// Whether a kernel made this error while it ran: any later call may report it, and the context is lost.
fn is_fault(error: DriverError) -> bool {
    // CUDA_ERROR_ILLEGAL_ADDRESS, _LAUNCH_TIMEOUT, _ASSERT, _HARDWARE_STACK_ERROR to _LAUNCH_FAILED. By
    // number, as a driver may know errors that cudarc does not.
    matches!(error.0 as u32, 700 | 702 | 710 | 714..=719)
}
