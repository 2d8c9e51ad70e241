//! The kernels as the build left them: one fat binary for each `kernels/*.cu`.

/// The compiled form of one kernel file: machine code for some GPUs and PTX for the rest.
#[derive(Clone, Copy)]
pub struct FatBinary {
    /// `kernels/<file>.cu`.
    pub file: &'static str,
    /// What nvcc made of it.
    pub image: &'static [u8],
}

/// All of them; none where the build found no nvcc.
pub static FAT_BINARIES: &[FatBinary] = &[];

/// What they hold code for.
pub const ARCHITECTURES: &[&str] = &[];

/// The nvcc that made them.
pub const fn nvcc() -> Option<&'static str> {
    None
}

/// Why there are no kernels and what to do about it, or nothing if there are.
pub const fn absent() -> Option<&'static str> {
    Some("this build does not compile them yet")
}
