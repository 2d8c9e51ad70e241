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

fn emulated(out: &Path) -> Result<(), Failure> {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).warnings(true).extra_warnings(true);
    build.include("kernels/include").include(out);
    build.define("FISHMASK_EMULATED", None).define("FISHMASK_PREFIX", "fishmask_fast_");
    // A product and a sum stay two roundings unless a kernel asks for one.
    build.flag("-ffp-contract=off").flag("-xc++").flag_if_supported("-Wno-unused-function");
    build.file("src/driver/emulated/runtime.cpp");
    let mut table = String::from("unsafe extern \"C\" {\n");
    let mut rows = String::new();
    for (_, path) in kernel_files()? {
        for name in kernels(&fs::read_to_string(&path)?) {
            writeln!(table, "    fn fishmask_fast_{name}(args: *const c_void);")?;
            writeln!(table, "    static fishmask_fast_{name}_limits: [u32; 2];")?;
            writeln!(
                rows,
                "    Compiled {{ name: \"{name}\", entry: fishmask_fast_{name}, limits: unsafe {{ &fishmask_fast_{name}_limits }} }},"
            )?;
        }
        build.file(path);
    }
    writeln!(
        table,
        "}}\n// SAFETY: constants of the kernels' objects.\nstatic KERNELS: &[Compiled] = &[\n{rows}];"
    )?;
    fs::write(out.join("emulated_kernels.rs"), table)?;
    build.try_compile("fishmask_kernels")?;
    Ok(())
}
