//! What the checked kernels call before each access to memory.
//!
//! They are compiled with the host compiler's `-fsanitize=thread`; these functions stand in place of that
//! sanitizer's own. Outside checked blocks they do nothing.

use std::ffi::c_void;
use std::ptr;

use super::check::{Access, CHECK, REPORT};
use super::stack::STACK;

#[inline]
fn access(address: *const c_void, bytes: usize, access: Access) {
    let check = CHECK.get();
    if !check.is_null() {
        // SAFETY: set while a block runs; only the running coroutine uses it, and the scheduler while none
        // runs.
        unsafe { (*check).access(address as usize, bytes, access) };
    }
}

macro_rules! hooks {
    ($($name:ident($bytes:literal, $access:ident);)*) => {
        $(#[unsafe(no_mangle)]
        extern "C" fn $name(address: *const c_void) {
            access(address, $bytes, Access::$access);
        })*
    };
}

hooks! {
    __tsan_read1(1, Read);
    __tsan_read2(2, Read);
    __tsan_read4(4, Read);
    __tsan_read8(8, Read);
    __tsan_read16(16, Read);
    __tsan_write1(1, Write);
    __tsan_write2(2, Write);
    __tsan_write4(4, Write);
    __tsan_write8(8, Write);
    __tsan_write16(16, Write);
    __tsan_unaligned_read2(2, Read);
    __tsan_unaligned_read4(4, Read);
    __tsan_unaligned_read8(8, Read);
    __tsan_unaligned_read16(16, Read);
    __tsan_unaligned_write2(2, Write);
    __tsan_unaligned_write4(4, Write);
    __tsan_unaligned_write8(8, Write);
    __tsan_unaligned_write16(16, Write);
}

#[unsafe(no_mangle)]
extern "C" fn __tsan_read_range(address: *const c_void, bytes: usize) {
    access(address, bytes, Access::Read);
}

#[unsafe(no_mangle)]
extern "C" fn __tsan_write_range(address: *const c_void, bytes: usize) {
    access(address, bytes, Access::Write);
}

/// What clang makes of memcpy and memmove.
///
/// # Safety
/// As memmove's.
#[unsafe(no_mangle)]
unsafe extern "C" fn __tsan_memcpy(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void {
    access(from, bytes, Access::Read);
    access(to, bytes, Access::Write);
    // SAFETY: the caller's.
    unsafe { ptr::copy(from.cast::<u8>(), to.cast::<u8>(), bytes) };
    to
}

/// As above.
///
/// # Safety
/// As memmove's.
#[unsafe(no_mangle)]
unsafe extern "C" fn __tsan_memmove(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void {
    // SAFETY: the caller's.
    unsafe { __tsan_memcpy(to, from, bytes) }
}

/// What clang makes of memset.
///
/// # Safety
/// As memset's.
#[unsafe(no_mangle)]
unsafe extern "C" fn __tsan_memset(to: *mut c_void, value: i32, bytes: usize) -> *mut c_void {
    access(to, bytes, Access::Write);
    // SAFETY: the caller's.
    unsafe { to.cast::<u8>().write_bytes(value as u8, bytes) };
    to
}

/// Each object's constructor calls it.
#[unsafe(no_mangle)]
extern "C" fn __tsan_init() {}

/// At a function's start, where its frame has been laid out: it must be on the stack, and leave room for a
/// report.
#[unsafe(no_mangle)]
extern "C" fn __tsan_func_entry(_: *const c_void) {
    let here = 0_u8;
    let check = CHECK.get();
    if !check.is_null() {
        // SAFETY: as in `access`.
        let check = unsafe { &*check };
        if (&raw const here as usize) < check.stack.start + REPORT {
            check.stop(format!("a thread needs more than {STACK} bytes of stack"));
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn __tsan_func_exit() {}

/// An atomic access to `bytes` bytes.
#[unsafe(no_mangle)]
extern "C" fn fishmask_check_atomic(address: *const c_void, bytes: usize) {
    access(address, bytes, Access::Atomic);
}

/// An asynchronous copy of 16 bytes begins; it reads `from`, if that is not null.
#[unsafe(no_mangle)]
extern "C" fn fishmask_check_copy_begins(to: *const c_void, from: *const c_void) {
    if !from.is_null() {
        access(from, 16, Access::Read);
    }
    access(to, 16, Access::CopyBegins);
}

/// It ends.
#[unsafe(no_mangle)]
extern "C" fn fishmask_check_copy_ends(to: *const c_void) {
    access(to, 16, Access::CopyEnds);
}
