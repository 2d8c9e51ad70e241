//! Compiles the kernels by nvcc, for every architecture, into one fat binary a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{env, fs, thread};

use crate::Failure;
use crate::nvcc::{self, Architecture, Nvcc};
use crate::ptxas;

/// No fast-math: what may be contracted or approximated, the kernels spell out.
const FLAGS: &[&str] = &["-std=c++17", "-O3", "-Xptxas", "-v"];

/// Of the headers that kernels include, the one that nvcc never reads.
const EMULATED: &str = "emulated.cuh";

/// One file for one architecture.
struct Object {
    file: String,
    source: PathBuf,
    kind: Kind,
    /// Where it is put. The name tells everything it is made from, so one that is there is right.
    path: PathBuf,
    args: Vec<String>,
}

#[derive(Clone)]
enum Kind {
    Machine(Architecture),
    Ptx(Architecture),
}

/// Writes `cuda_kernels.rs`, which src/driver/kernels.rs includes.
pub fn compile(out: &Path, files: &BTreeMap<String, PathBuf>) -> Result<(), Failure> {
    let table = out.join("cuda_kernels.rs");
    let wanted = nvcc::architectures()?;
    if wanted.is_empty() {
        let why = "fishmask was built with FISHMASK_CUDA_ARCHS empty; build without it";
        return Ok(fs::write(table, Tables { absent: Some(why.into()), ..Default::default() }.text()?)?);
    }
    match Nvcc::find()? {
        Ok(nvcc) => {
            let (known, unknown) = wanted.into_iter().partition::<Vec<_>, _>(|wanted| nvcc.knows(wanted));
            let left_out: Vec<_> = unknown.iter().map(|unknown| format!("sm_{unknown}")).collect();
            if !left_out.is_empty() {
                let (line, left_out) = (nvcc.version_line(), left_out.join(", "));
                println!("cargo::warning=no machine code for {left_out}: nvcc does not know it ({line})");
            }
            Ok(fs::write(table, binaries(&nvcc, &known, left_out, out, files)?.text()?)?)
        }
        Err(why) => {
            println!("cargo::warning=the CUDA kernels are left out: {why}");
            let absent = Some(format!("when fishmask was built, {why}"));
            Ok(fs::write(table, Tables { absent, ..Default::default() }.text()?)?)
        }
    }
}

fn binaries(
    nvcc: &Nvcc,
    known: &[Architecture],
    left_out: Vec<String>,
    out: &Path,
    files: &BTreeMap<String, PathBuf>,
) -> Result<Tables, Failure> {
    let mut kinds: Vec<_> = known.iter().cloned().map(Kind::Machine).collect();
    let mut ptx = None;
    if nvcc.knows(&Architecture::PTX) {
        kinds.push(Kind::Ptx(Architecture::PTX));
        ptx = Some(format!("compute_{}", Architecture::PTX));
    }
    let folder = out.join("nvcc");
    fs::create_dir_all(&folder)?;
    let environment = environment();
    let mut objects = vec![];
    for (file, source) in files {
        let text = with_headers(source, &[Path::new("kernels/include"), out])?;
        for kind in &kinds {
            let (name, mut args) = kind.options();
            args.extend(FLAGS.iter().map(|flag| flag.to_string()));
            args.extend(
                ["kernels/include".into(), out.display().to_string()].map(|folder| format!("-I{folder}")),
            );
            let mut key = DefaultHasher::new();
            (&text, &args, &nvcc.version, &environment).hash(&mut key);
            let path = folder.join(format!("{file}.{name}.{:016x}", key.finish()));
            objects.push(Object {
                file: file.clone(),
                source: source.clone(),
                kind: kind.clone(),
                path,
                args,
            });
        }
    }
    remove_others(&folder, &objects)?;
    in_parallel(&objects, |object| object.make(nvcc))?;

    let fatbinary = nvcc.programs()?.join("fatbinary");
    let architectures = known.iter().map(|known| format!("sm_{known}")).collect();
    let version = Some(nvcc.version_line().to_string());
    let mut tables = Tables { version, architectures, left_out, ptx, ..Default::default() };
    for file in files.keys() {
        let objects: Vec<_> = objects.iter().filter(|object| object.file == *file).collect();
        let binary = folder.join(file).with_extension("fatbin");
        let mut command = Command::new(&fatbinary);
        command.arg("-64").arg("--compress-all").arg(format!("--create={}", binary.display()));
        if nvcc.has_compress_mode() {
            command.arg("--compress-mode=size");
        }
        run(command.args(objects.iter().map(|object| object.image())))?;
        tables.binaries.push((file.clone(), binary));
        for object in objects {
            let report = fs::read_to_string(object.report())?;
            // nvcc's warnings are shown by every build that has them, not by the first alone.
            report
                .lines()
                .filter(|line| line.contains("warning"))
                .for_each(|line| println!("cargo::warning={line}"));
            if let Kind::Machine(architecture) = &object.kind {
                let rows = ptxas::parse(&report).into_iter();
                tables.usage.extend(rows.map(|usage| (file.clone(), format!("sm_{architecture}"), usage)));
            }
        }
    }
    Ok(tables)
}

impl Kind {
    /// The name's end, and the options of nvcc.
    fn options(&self) -> (String, Vec<String>) {
        let (code, architecture, form) = match self {
            Self::Machine(architecture) => ("sm", architecture, "cubin"),
            Self::Ptx(architecture) => ("compute", architecture, "ptx"),
        };
        let generate = format!("-gencode=arch=compute_{architecture},code={code}_{architecture}");
        (format!("{code}_{architecture}"), vec![format!("-{form}"), generate])
    }
}

impl Object {
    fn report(&self) -> PathBuf {
        beside(&self.path, "log")
    }

    /// What nvcc says is kept beside the object.
    fn make(&self, nvcc: &Nvcc) -> Result<(), Failure> {
        if self.path.exists() {
            return Ok(());
        }
        let part = beside(&self.path, "part");
        let said = run(Command::new(&nvcc.path).args(&self.args).arg("-o").arg(&part).arg(&self.source))?;
        fs::write(self.report(), said)?;
        Ok(fs::rename(part, &self.path)?)
    }

    /// How fatbinary is told of it.
    fn image(&self) -> String {
        let (kind, architecture) = match &self.kind {
            Kind::Machine(architecture) => ("elf", architecture),
            Kind::Ptx(architecture) => ("ptx", architecture),
        };
        format!("--image3=kind={kind},sm={architecture},file={}", self.path.display())
    }
}

/// `path` with `.extension` after it; those it has tell objects apart.
fn beside(path: &Path, extension: &str) -> PathBuf {
    PathBuf::from(format!("{}.{extension}", path.display()))
}

/// The variables by which nvcc's flags may be added to.
fn environment() -> Vec<Option<String>> {
    let names = ["NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "NVCC_CCBIN"];
    names.iter().for_each(|name| println!("cargo::rerun-if-env-changed={name}"));
    names.iter().map(|name| env::var(name).ok()).collect()
}

/// The text of a source and of every header of ours that it includes, at any depth.
fn with_headers(source: &Path, folders: &[&Path]) -> Result<BTreeMap<PathBuf, String>, Failure> {
    let mut texts = BTreeMap::new();
    let mut left = vec![source.to_path_buf()];
    while let Some(path) = left.pop() {
        if texts.contains_key(&path) {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let names =
            text.lines().filter_map(|line| line.trim().strip_prefix("#include \"")?.split('"').next());
        for name in names.filter(|name| *name != EMULATED) {
            // One that is nowhere is left for nvcc to complain of.
            left.extend(folders.iter().map(|folder| folder.join(name)).find(|path| path.exists()));
        }
        texts.insert(path, text);
    }
    Ok(texts)
}

/// Objects of earlier builds pile up otherwise.
fn remove_others(folder: &Path, objects: &[Object]) -> Result<(), Failure> {
    let keep: BTreeSet<_> =
        objects.iter().flat_map(|object| [object.path.clone(), object.report()]).collect();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !keep.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Does each piece of work, as many at a time as cargo allows. After a failure nothing new is begun.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<(), Failure> + Sync) -> Result<(), Failure> {
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let (next, stop, failure) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
    thread::scope(|scope| {
        for _ in 0..jobs.min(items.len()) {
            scope.spawn(|| {
                while let Some(item) =
                    items.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !stop.load(Ordering::Relaxed))
                {
                    if let Err(why) = work(item) {
                        stop.store(true, Ordering::Relaxed);
                        failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(why);
                    }
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(Ok(()), Err)
}

/// What the command wrote to both streams, which is also the failure's text.
fn run(command: &mut Command) -> Result<String, Failure> {
    let output =
        command.output().map_err(|e| format!("cannot run {}: {e}", command.get_program().display()))?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{command:?} failed ({}):\n{text}", output.status).into());
    }
    Ok(text.into_owned())
}

/// What src/driver/kernels.rs shows.
#[derive(Default)]
struct Tables {
    version: Option<String>,
    absent: Option<String>,
    architectures: Vec<String>,
    left_out: Vec<String>,
    ptx: Option<String>,
    binaries: Vec<(String, PathBuf)>,
    usage: Vec<(String, String, ptxas::Usage)>,
}

impl Tables {
    fn text(&self) -> Result<String, Failure> {
        let Self { version, absent, architectures, left_out, ptx, binaries, usage } = self;
        let mut text = String::new();
        writeln!(text, "const VERSION: Option<&str> = {version:?};")?;
        writeln!(text, "const ABSENT: Option<&str> = {absent:?};")?;
        writeln!(text, "const CODES: &[&str] = &{architectures:?};")?;
        writeln!(text, "const UNKNOWN: &[&str] = &{left_out:?};")?;
        writeln!(text, "const VIRTUAL: Option<&str> = {ptx:?};")?;
        writeln!(text, "const BINARIES: &[FatBinary] = &[")?;
        for (file, path) in binaries {
            let path = path.display().to_string();
            writeln!(
                text,
                "    FatBinary {{ file: {file:?}, image: &Aligned(*include_bytes!({path:?})).0 }},"
            )?;
        }
        writeln!(text, "];\nconst REPORT: &[Usage] = &[")?;
        for (file, architecture, usage) in usage {
            let ptxas::Usage { function, registers, stack, spill_stores, spill_loads, shared } = usage;
            writeln!(
                text,
                "    Usage {{ file: {file:?}, architecture: {architecture:?}, function: {function:?},"
            )?;
            writeln!(
                text,
                "        registers: {registers:?}, stack: {stack}, spill_stores: {spill_stores},"
            )?;
            writeln!(text, "        spill_loads: {spill_loads}, shared: {shared} }},")?;
        }
        writeln!(text, "];")?;
        Ok(text)
    }
}
