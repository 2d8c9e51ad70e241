//! A libcuda without a GPU, and child processes that find it instead of the real one.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

pub const SOURCE: &str = include_str!("libcuda.c");

pub struct Played {
    /// The scenario's outcome or error; none if the child panicked.
    pub said: Option<String>,
    /// The calls of libcuda.
    pub calls: Vec<String>,
    pub output: String,
}

impl Played {
    pub fn said(&self) -> &str {
        self.said.as_deref().unwrap_or_else(|| panic!("{}", self.output))
    }

    /// The calls of one function, without its name.
    pub fn of(&self, function: &str) -> Vec<&str> {
        let calls = self.calls.iter().filter_map(|call| call.strip_prefix(function));
        calls.filter(|rest| rest.is_empty() || rest.starts_with(' ')).map(str::trim).collect()
    }
}

fn c_compiler() -> Command {
    Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()))
}

/// Whether the fake can be made; if not, says that the test is skipped.
pub fn can_compile() -> bool {
    let can = c_compiler().arg("--version").output().is_ok_and(|o| o.status.success());
    if !can {
        let test = std::thread::current().name().unwrap_or("a test").to_string();
        eprintln!("skipped: {test}: no C compiler to make the fake libcuda with");
    }
    can
}

/// Makes `folder/libcuda.o`.
pub fn compile(folder: &Path) {
    fs::write(folder.join("libcuda.c"), SOURCE).unwrap();
    let compiler =
        c_compiler().current_dir(folder).args(["-c", "-fPIC", "-Wall", "-Werror", "libcuda.c"]).output();
    let compiler = compiler.unwrap();
    assert!(compiler.status.success(), "{}", String::from_utf8_lossy(&compiler.stderr));
}

/// Makes `folder/libcuda.so`, without one of its functions if told so.
pub fn link(folder: &Path, without: Option<&str>) {
    let local = without.map(|name| format!("local: {name};")).unwrap_or_default();
    fs::write(folder.join("exports"), format!("FAKE {{ global: cu*; {local} }};")).unwrap();
    let linker = c_compiler()
        .current_dir(folder)
        .args(["-shared", "-Wl,--version-script=exports", "-o", "libcuda.so", "libcuda.o"])
        .output()
        .unwrap();
    assert!(linker.status.success(), "{}", String::from_utf8_lossy(&linker.stderr));
}

/// Acts `scenario` in a child process that finds the libcuda of `folder`.
pub fn run(folder: &Path, scenario: &str, settings: &[(&str, &str)]) -> Played {
    let log = folder.join("calls");
    let _ = fs::remove_file(&log);
    let child = Command::new(env::current_exe().unwrap())
        .args(["cuda::scenarios::in_child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env("LD_LIBRARY_PATH", folder)
        .env("SCENARIO", scenario)
        .env("FAKE_CUDA_LOG", &log)
        .env_remove("REQUIRE_CUDA")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&child.stdout);
    let said = stdout.split_once("[said: ").and_then(|(_, rest)| rest.rsplit_once(']'));
    // A child that crashes while it drops things has not said its last word well.
    let said = said.filter(|_| child.status.success()).map(|(said, _)| said.to_string());
    let calls = fs::read_to_string(&log).unwrap_or_default();
    Played {
        said,
        calls: calls.lines().map(|call| call.trim_end().to_string()).collect(),
        output: format!("{stdout}\n{}", String::from_utf8_lossy(&child.stderr)),
    }
}

/// The same with a fake that lacks nothing; nothing without a C compiler.
pub fn play(scenario: &str, settings: &[(&str, &str)]) -> Option<Played> {
    can_compile().then(|| {
        let folder = tempfile::tempdir().unwrap();
        compile(folder.path());
        link(folder.path(), None);
        run(folder.path(), scenario, settings)
    })
}
