//! Compiles `kernels/*.cu`: by the host's C++ compiler for the emulated device.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The kernels' argument structs, in Rust.
const ARGS: &str = "src/backend/cuda/args";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-changed={ARGS}");
    println!("cargo::rerun-if-changed=src/driver/emulated/runtime.cpp");
    headers(&out.join("args"))?;
    emulated(&out)
}

/// The kernels' argument structs as C++ headers, `args/<file>.h`, made from their only definition, in Rust.
fn headers(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(ARGS)? {
        let source = entry?.path();
        let Some(stem) = source.file_stem().filter(|stem| *stem != "mod") else { continue };
        // cbindgen writes what functions use; there are none, so each struct is named.
        let text = fs::read_to_string(&source)?;
        let names = text.lines().filter_map(|line| line.strip_prefix("pub struct ")?.split(' ').next());
        let include = names.map(str::to_string).collect();
        let config = cbindgen::Config {
            export: cbindgen::ExportConfig { include, ..Default::default() },
            language: cbindgen::Language::Cxx,
            no_includes: true,
            pragma_once: true,
            ..Default::default()
        };
        let path = folder.join(stem).with_extension("h");
        cbindgen::Builder::new().with_src(&source).with_config(config).generate()?.write_to_file(path);
    }
    Ok(())
}

/// `kernels/*.cu`, by name.
fn kernel_files() -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir("kernels")? {
        let path = entry?.path();
        if let (Some(stem), Some("cu")) = (path.file_stem(), path.extension().and_then(|e| e.to_str())) {
            files.insert(stem.to_string_lossy().into_owned(), path.clone());
        }
    }
    Ok(files)
}

/// The names in `KERNEL(name, ...)`.
fn kernels(source: &str) -> Vec<String> {
    let starts = source.lines().filter_map(|line| line.strip_prefix("KERNEL("));
    starts.filter_map(|rest| Some(rest.split_once(',')?.0.trim().to_string())).collect()
}

/// Kernels for the tests of the emulated device, in order and out of it; never compiled for a GPU.
const TESTING: &str = "kernels/testing";

/// A compilation of every kernel for the emulated device.
struct Variant {
    /// Of its symbols.
    prefix: &'static str,
    /// The Rust table of its kernels.
    table: &'static str,
    /// The compiler's flags that others lack.
    flags: &'static [&'static str],
}

/// The checked kernels call `__tsan_*` of `src/driver/emulated/hooks.rs` at each access as the source has it: none merged
/// with a neighbour's, nor turned into a call of memcpy or memset, which would not be seen.
const VARIANTS: &[Variant] = &[
    Variant { prefix: "fishmask_fast_", table: "KERNELS", flags: &[] },
    Variant {
        prefix: "fishmask_checked_",
        table: "CHECKED",
        flags: &[
            "-DFISHMASK_CHECKED",
            "-fsanitize=thread",
            "-fno-tree-loop-distribute-patterns",
            "-fno-tree-vectorize",
            "-fno-store-merging",
        ],
    },
];

/// Compiles every variant of the kernels and writes `emulated_kernels.rs`, which src/driver/emulated includes.
fn emulated(out: &Path) -> Result<(), Failure> {
    let mut files: Vec<PathBuf> = kernel_files()?.into_values().collect();
    for entry in fs::read_dir(TESTING)? {
        files.push(entry?.path());
    }
    files.sort();
    cpp(out).file("src/driver/emulated/runtime.cpp").try_compile("fishmask_runtime")?;
    let mut declarations = String::from("unsafe extern \"C\" {\n");
    let mut tables = String::new();
    for Variant { prefix, table, flags } in VARIANTS {
        let folder = out.join("emulated").join(prefix);
        fs::create_dir_all(&folder)?;
        let mut build = cpp(out);
        build.out_dir(folder).define("FISHMASK_PREFIX", *prefix).flags(*flags).files(&files);
        build.try_compile(&format!("{prefix}kernels"))?;
        writeln!(tables, "// SAFETY: constants of the kernels' objects.\nstatic {table}: &[Compiled] = &[")?;
        for source in &files {
            for name in kernels(&fs::read_to_string(source)?) {
                let entry = format!("{prefix}{name}");
                writeln!(declarations, "    fn {entry}(args: *const c_void);")?;
                writeln!(declarations, "    static {entry}_limits: [u32; 2];")?;
                let limits = format!("unsafe {{ &{entry}_limits }}");
                writeln!(tables, "    Compiled {{ name: \"{name}\", entry: {entry}, limits: {limits} }},")?;
            }
        }
        writeln!(tables, "];")?;
    }
    fs::write(out.join("emulated_kernels.rs"), declarations + "}\n" + &tables)?;
    Ok(())
}

/// What all of the emulated device's C++ is compiled with.
fn cpp(out: &Path) -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).warnings(true).extra_warnings(true);
    build.include("kernels/include").include(out).define("FISHMASK_EMULATED", None);
    // A product and a sum stay two roundings unless a kernel asks for one.
    build.flag("-ffp-contract=off").flag("-xc++").flag("-Wno-unused-function");
    // A coroutine's stack has no guard page: STACK in src/driver/emulated/stack.rs is twice this.
    build.flag("-fno-exceptions").flag("-Werror=frame-larger-than=16384");
    build
}
