//! Compiles `kernels/*.cu`: by nvcc for GPUs (`build/cuda.rs`), and by the host's C++ compiler for the
//! emulated device. What is missing is left out with a warning; what is there and fails, fails the build.

#[path = "build/cuda.rs"]
mod cuda;
#[path = "build/nvcc.rs"]
mod nvcc;
#[path = "build/ptxas.rs"]
mod ptxas;
#[path = "build/version.rs"]
mod version;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Where the kernels' argument structs are, in Rust: each folder's `args.rs`.
const SOURCES: &[&str] = &["src/device", "src/ops", "src/optim"];

/// The emulated device's part in C++.
const RUNTIME: &str = "src/device/emulated/runtime.cpp";

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

/// The checked kernels call `__tsan_*` of `src/device/emulated/hooks.rs` at each access as the source has it:
/// none merged with a neighbour's, nor turned into a call of memcpy or memset, which would not be seen.
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

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() {
    if let Err(why) = run() {
        why.to_string().lines().for_each(|line| println!("cargo::error={line}"));
        std::process::exit(1);
    }
}

fn run() -> Result<(), Failure> {
    version::pass();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-changed={RUNTIME}");
    let files = kernel_files()?;
    headers(&out.join("args"))?;
    emulated(&out, &files)?;
    cuda::compile(&out, &files)
}

/// The kernels' argument structs as C++ headers, `args/<folder>.h`, made from their only definition, in Rust.
fn headers(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    let mut sources = vec![];
    for source in SOURCES {
        find_args(Path::new(source), &mut sources)?;
    }
    for source in sources {
        println!("cargo::rerun-if-changed={}", source.display());
        let Some(stem) = source.parent().and_then(Path::file_name) else { continue };
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

/// Adds every `args.rs` under a folder. A new one comes with a new kernel, for which this runs again.
fn find_args(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_args(&path, found)?;
        } else if path.file_name().is_some_and(|name| name == "args.rs") {
            found.push(path);
        }
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

/// Compiles every variant of the kernels and writes `emulated_kernels.rs`, which src/device/emulated
/// includes.
fn emulated(out: &Path, files: &BTreeMap<String, PathBuf>) -> Result<(), Failure> {
    println!("cargo::rustc-check-cfg=cfg(fishmask_emulated)");
    if let Err(why) = cpp_compiler(out) {
        println!("cargo::warning=the emulated device is left out: no C++ compiler works here ({why})");
        return Ok(());
    }
    println!("cargo::rustc-cfg=fishmask_emulated");
    let mut files: Vec<PathBuf> = files.values().cloned().collect();
    for entry in fs::read_dir(TESTING)? {
        files.push(entry?.path());
    }
    files.sort();
    cpp(out).file(RUNTIME).try_compile("fishmask_runtime")?;
    let mut declarations = String::from("unsafe extern \"C\" {\n");
    let mut tables = String::new();
    for Variant { prefix, table, flags } in VARIANTS {
        let folder = out.join("emulated").join(prefix);
        fs::create_dir_all(&folder)?;
        let mut build = cpp(out);
        build.out_dir(folder).define("FISHMASK_PREFIX", *prefix).flags(*flags).files(&files);
        // The compiler's words are shown as warnings.
        let refused = |_| "the host's C++ compiler refuses a kernel, or cannot make a library of them";
        build.try_compile(&format!("{prefix}kernels")).map_err(refused)?;
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
    // A coroutine's stack has no guard page: STACK in src/device/emulated/stack.rs is twice this.
    build.flag("-fno-exceptions").flag("-Werror=frame-larger-than=16384");
    build
}

/// Whether a program that uses the standard library compiles, or why not.
fn cpp_compiler(out: &Path) -> Result<(), Failure> {
    let probe = out.join("probe.cpp");
    fs::write(&probe, "#include <cmath>\n")?;
    let tool = cc::Build::new().cpp(true).cargo_warnings(false).try_get_compiler()?;
    let mut command = tool.to_command();
    let shown = command.get_program().display().to_string();
    let output = command.arg("-fsyntax-only").arg(&probe).output().map_err(|e| format!("{shown}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(text.lines().next().unwrap_or(&shown).into()) }
}
