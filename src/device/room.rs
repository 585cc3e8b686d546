//! Memory that this machine has left.
//!
//! Linux says: what is available without swapping, and what the control groups that the program runs in still allow.
//! Other systems, and memory of graphics cards, which WebGPU does not tell of, are unknown. Knows bytes; not what
//! they are for.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Bytes that can be taken; `None` where that is unknown.
pub fn left() -> Option<u64> {
    left_under(Path::new("/"))
}

/// The same of a system whose files lie under a folder.
fn left_under(root: &Path) -> Option<u64> {
    let info = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let kilobytes = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = 1024 * kilobytes.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(groups(root).iter().filter_map(|group| left_of(group)).fold(machine, u64::min))
}

/// The folders of the control groups that the program is in, those around them included: of the unified hierarchy, and
/// of the older one for memory.
fn groups(root: &Path) -> Vec<PathBuf> {
    let book = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut folders = Vec::new();
    for line in book.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let top = match controllers {
            "" => root.join("sys/fs/cgroup"),
            names if names.split(',').any(|name| name == "memory") => root.join("sys/fs/cgroup/memory"),
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        folders.extend(path.ancestors().map(|part| top.join(part)));
    }
    folders
}

/// What a group still allows; `None` without a limit. Pages of files that it holds can be given up.
fn left_of(group: &Path) -> Option<u64> {
    let number = |names: [&str; 2]| {
        let text = names.iter().find_map(|name| fs::read_to_string(group.join(name)).ok())?;
        text.trim().parse::<u64>().ok()
    };
    let most = number(["memory.max", "memory.limit_in_bytes"])?;
    let held = number(["memory.current", "memory.usage_in_bytes"])?;
    let book = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let of_files = |name: &str| book.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok());
    let files = of_files("total_inactive_file ").or_else(|| of_files("inactive_file ")).unwrap_or(0);
    Some(most.saturating_sub(held.saturating_sub(files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        root
    }

    const INFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:  9000 kB\nMemFree:  1 kB\nMemAvailable:   4000 kB\n");

    #[test]
    fn the_tightest_limit_counts() {
        let machine = Some(4000 * 1024);
        assert_eq!(left_under(system(&[]).path()), None);
        assert_eq!(left_under(system(&[INFO]).path()), machine);
        let group = ("proc/self/cgroup", "0::/a/b\n");
        let max = ("sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!(left_under(system(&[INFO, group, max]).path()), machine, "no limit");
        let around = [
            INFO,
            group,
            max,
            ("sys/fs/cgroup/a/memory.max", "1000000\n"),
            ("sys/fs/cgroup/a/memory.current", "400000\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 100000\n"),
        ];
        assert_eq!(left_under(system(&around).path()), Some(700_000));
        let older = [
            INFO,
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/x\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "5\n"),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "3000\n"),
            ("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "4000\n"),
        ];
        assert_eq!(left_under(system(&older).path()), Some(0));
    }

    #[test]
    fn this_machine_has_some() {
        if cfg!(target_os = "linux") {
            assert!(left().unwrap() > 0);
        }
    }
}
