//! Finds nvcc and asks it what it can do.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fmt, fs};

use crate::Failure;

/// The oldest that will do.
const OLDEST: (u32, u32) = (12, 4);

/// Machine code for each of these unless `FISHMASK_CUDA_ARCHS` says otherwise.
const ARCHITECTURES: &str = "80,86,89,90a,100,120";

/// The first GPUs with `cp.async` and `mma.m16n8k16`; PTX for them runs on every later one.
const LOWEST: u32 = 80;

/// An architecture of NVIDIA's GPUs, such as 80, 90a or 100f.
#[derive(Clone, PartialEq)]
pub struct Architecture {
    number: u32,
    suffix: Option<char>,
}

impl Architecture {
    /// That of the PTX.
    pub const PTX: Self = Self { number: LOWEST, suffix: None };

    fn parse(word: &str) -> Result<Self, Failure> {
        let text = word.strip_prefix("sm_").unwrap_or(word);
        let digits = text.trim_end_matches(['a', 'f']);
        let suffix = text[digits.len()..].chars().next();
        let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
        match number {
            Some(number) if text.len() <= digits.len() + 1 && number >= LOWEST => Ok(Self { number, suffix }),
            Some(number) if number < LOWEST => {
                let need = format!("the kernels need an architecture from {LOWEST} on, not {word}");
                Err(format!("FISHMASK_CUDA_ARCHS: {need}").into())
            }
            _ => {
                let need = format!("it takes a list such as {ARCHITECTURES}");
                Err(format!("FISHMASK_CUDA_ARCHS: `{word}` is not an architecture; {need}").into())
            }
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}{}", self.number, self.suffix.map(String::from).unwrap_or_default())
    }
}

/// The architectures asked for. None at all means no CUDA kernels.
pub fn architectures() -> Result<Vec<Architecture>, Failure> {
    println!("cargo::rerun-if-env-changed=FISHMASK_CUDA_ARCHS");
    let list = env::var("FISHMASK_CUDA_ARCHS").unwrap_or_else(|_| ARCHITECTURES.into());
    let mut architectures = vec![];
    for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let architecture = Architecture::parse(word)?;
        if !architectures.contains(&architecture) {
            architectures.push(architecture);
        }
    }
    Ok(architectures)
}

/// An nvcc that runs.
pub struct Nvcc {
    pub path: PathBuf,
    /// All of what `--version` prints; it tells builds apart.
    pub version: String,
    release: (u32, u32),
    codes: Vec<String>,
}

impl Nvcc {
    /// The nvcc to use, or why there is none and what to do about it.
    pub fn find() -> Result<Result<Self, String>, Failure> {
        if let Some(path) = variable("NVCC") {
            let shown = path.display();
            let nvcc = Self::new(&path).map_err(|why| format!("NVCC is set to {shown}, {why}"))?;
            return Ok(nvcc
                .checked()
                .map_err(|why| format!("NVCC is set to {shown}, {why}; name another or unset it")));
        }
        let mut unfit = vec![];
        // A PATH that does not matter must not build everything anew: it is looked at last.
        for folders in [folders, folders_of_path] {
            for path in folders().into_iter().map(|folder| folder.join("nvcc")).filter(|path| path.is_file())
            {
                match Self::new(&path).and_then(Self::checked) {
                    Ok(nvcc) => return Ok(Ok(nvcc)),
                    Err(why) => unfit.push(format!("{}, {why}", path.display())),
                }
            }
        }
        let passed_over =
            if unfit.is_empty() { String::new() } else { format!(" (not {})", unfit.join("; nor ")) };
        Ok(Err(format!(
            "no nvcc was found{passed_over}; run scripts/install-nvcc.sh (no GPU needed) and build again"
        )))
    }

    fn new(path: &Path) -> Result<Self, String> {
        // Cargo takes a file that is not there for one that has changed; $NVCC may be a bare name.
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
        // By a link nvcc does not find its own parts; a link to something else (ccache) is used as it is.
        let target = fs::canonicalize(path).ok().filter(|target| target.ends_with("nvcc"));
        let path = target.as_deref().unwrap_or(path);
        let version = run(path, &["--version"])?;
        let release = release(&version).ok_or("whose --version names no release")?;
        let codes = run(path, &["--list-gpu-code"])?.split_whitespace().map(str::to_string).collect();
        Ok(Self { path: path.to_path_buf(), version, release, codes })
    }

    /// This nvcc if it is new enough and has what it needs itself: its headers, and the host's C++ compiler.
    fn checked(self) -> Result<Self, String> {
        let ((major, minor), (oldest, least)) = (self.release, OLDEST);
        if self.release < OLDEST {
            return Err(format!("which is of CUDA {major}.{minor}, older than {oldest}.{least}"));
        }
        run(&self.path, &["-std=c++17", "-E", "-x", "cu", "/dev/null"])
            .map_err(|why| format!("which needs its headers and a C++ compiler, {why}"))?;
        Ok(self)
    }

    /// Whether it compiles for this architecture.
    pub fn knows(&self, architecture: &Architecture) -> bool {
        // Of 90 and 90a it lists the first alone; families (100f) came with 12.9.
        let suffixed = match architecture.suffix {
            None => true,
            Some('a') => architecture.number >= 90,
            Some(_) => architecture.number >= 100 && self.release >= (12, 9),
        };
        suffixed && self.codes.contains(&format!("sm_{}", architecture.number))
    }

    /// The line of `--version` that names the release.
    pub fn version_line(&self) -> &str {
        self.version.lines().find(|line| line.contains("release ")).unwrap_or_default()
    }

    /// The folder of nvcc's own programs; nvcc itself may be a link to elsewhere, or a script.
    pub fn programs(&self) -> Result<PathBuf, Failure> {
        let said = Command::new(&self.path).args(["--dryrun", "-cubin", "-x", "cu", "/dev/null"]).output()?;
        let text = String::from_utf8_lossy(&said.stderr);
        let folder = text.lines().find_map(|line| line.strip_prefix("#$ _HERE_="));
        Ok(folder.ok_or_else(|| format!("{} --dryrun names no folder", self.path.display()))?.trim().into())
    }

    /// Whether its `fatbinary` has `--compress-mode`.
    pub fn has_compress_mode(&self) -> bool {
        self.release >= (13, 0)
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where to look for nvcc, the first choice first.
fn folders() -> Vec<PathBuf> {
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable).map(|home| home.join("bin"));
    let root = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    homes.chain([root.join(".cuda/bin")]).collect()
}

/// Where else.
fn folders_of_path() -> Vec<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    env::split_paths(&path).chain([PathBuf::from("/usr/local/cuda/bin")]).collect()
}

/// What it prints, or why not.
fn run(program: &Path, args: &[&str]) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        Command::new(program).args(args).output().map_err(|e| format!("which does not run: {e}"))?;
    if !status.success() {
        let text = String::from_utf8_lossy(&stderr);
        let text: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let said = if text.is_empty() { String::new() } else { format!(": {}", text.join("; ")) };
        return Err(format!("which fails at {} ({status}){said}", args.join(" ")));
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// (13, 0) of "release 13.0, V13.0.88".
fn release(version: &str) -> Option<(u32, u32)> {
    let (_, rest) = version.split_once("release ")?;
    let (major, minor) = rest.split(',').next()?.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
