//! The machine's processor and memory, as Linux tells of them; elsewhere nothing is known.

use std::fs;
use std::path::Path;

/// Returns the processor's name, where the system tells it.
pub fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start().trim_start_matches(':').trim().to_string())
}

/// Returns the bytes that this process can still take: what the system has left, the rest of each control
/// group's limit that it is under, and the rest of its own address space. The largest number where nothing is
/// known.
pub fn available_bytes() -> usize {
    available_below(Path::new("/")).unwrap_or(usize::MAX)
}

/// As [`available_bytes`], by the `proc` and `sys` that lie in this folder.
fn available_below(root: &Path) -> Option<usize> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let of_system = read("proc/meminfo").and_then(|text| kilobytes(&text, "MemAvailable:"));
    let groups = read("proc/self/cgroup").unwrap_or_default();
    let of_groups = groups.lines().filter_map(|line| of_group(&root.join("sys/fs/cgroup"), line)).min();
    let limits = read("proc/self/limits").unwrap_or_default();
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max address space"));
    let limit = limit.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
    let used = read("proc/self/status").and_then(|text| kilobytes(&text, "VmSize:"));
    let of_process = limit.map(|limit| limit.saturating_sub(used.unwrap_or(0)));
    [of_system, of_groups, of_process].into_iter().flatten().min()
}

/// The value of a line such as `MemAvailable:  123 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<usize> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// What the control group of a line of `/proc/self/cgroup`, and those that it lies in, leave to it.
fn of_group(mounted: &Path, line: &str) -> Option<usize> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    // Version 2 has one tree and names no controllers; version 1 has a tree for memory.
    let (tree, limit, usage) = match controllers.split(',').any(|name| name == "memory") {
        true => (mounted.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
        false if controllers.is_empty() => (mounted.to_path_buf(), "memory.max", "memory.current"),
        false => return None,
    };
    let number = |folder: &Path, name: &str| -> Option<usize> {
        fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
    };
    // In a container the path may be the host's, and only its root be there.
    let group = tree.join(path.trim_start_matches('/'));
    let folders = group.ancestors().take_while(|folder| folder.starts_with(&tree));
    let left = folders.filter_map(|folder| {
        let (limit, used) = (number(folder, limit)?, number(folder, usage)?);
        // Files that are cached are given up when memory is needed.
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let cached = stat.lines().find_map(|line| {
            let rest = line.strip_prefix("total_inactive_file ").or(line.strip_prefix("inactive_file "))?;
            rest.trim().parse::<usize>().ok()
        });
        Some(limit.saturating_sub(used.saturating_sub(cached.unwrap_or(0))))
    });
    left.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine's files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const MEMORY: (&str, &str) = ("proc/meminfo", "MemTotal: 900 kB\nMemAvailable:    500 kB\n");

    #[test]
    fn the_least_of_all_limits_counts() {
        assert_eq!(available_below(machine(&[]).path()), None);
        assert_eq!(available_below(machine(&[MEMORY]).path()), Some(500 << 10));
        let second = [
            MEMORY,
            ("proc/self/cgroup", "0::/job/step\n"),
            ("sys/fs/cgroup/job/memory.max", "300000\n"),
            ("sys/fs/cgroup/job/memory.current", "250000\n"),
            ("sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 50000\n"),
            ("sys/fs/cgroup/job/step/memory.max", "max\n"),
            ("sys/fs/cgroup/job/step/memory.current", "250000\n"),
        ];
        assert_eq!(available_below(machine(&second).path()), Some(100_000));
        // In a container, with a path that is the host's.
        let first = [
            MEMORY,
            ("proc/self/cgroup", "5:cpu,cpuacct:/\n4:memory:/docker/0123\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "400000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "150000\n"),
        ];
        assert_eq!(available_below(machine(&first).path()), Some(250_000));
        let limited = [
            MEMORY,
            ("proc/self/limits", "Limit   Soft  Hard  Units\nMax address space   200000  unlimited  bytes\n"),
            ("proc/self/status", "VmPeak: 90 kB\nVmSize: 100 kB\n"),
        ];
        assert_eq!(available_below(machine(&limited).path()), Some(200_000 - (100 << 10)));
        let unlimited = [MEMORY, ("proc/self/limits", "Max address space   unlimited  unlimited  bytes\n")];
        assert_eq!(available_below(machine(&unlimited).path()), Some(500 << 10));
    }
}
