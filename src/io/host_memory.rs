//! How much memory this process may still have: the host's, or that of the control group that it runs in.

use crate::types::HostMemory;
use std::fs;
use std::path::{Path, PathBuf};

const GROUPS: &str = "/sys/fs/cgroup";

/// What the files of a group are called, and where the groups lie: in the second version of them, and in the first.
struct Version {
    folders: &'static [&'static str],
    max: &'static str,
    used: &'static str,
    /// In `memory.stat`: pages of files, which the kernel takes back first.
    inactive: &'static str,
}

const SECOND: Version = Version {
    folders: &["", "unified"],
    max: "memory.max",
    used: "memory.current",
    inactive: "inactive_file",
};
const FIRST: Version = Version {
    folders: &["memory"],
    max: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    inactive: "total_inactive_file",
};

/// `None`: nobody says, as where `/proc` is not mounted.
pub(crate) fn host_memory() -> Option<HostMemory> {
    let host = of_host(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(folders(&groups).iter().filter_map(|(folder, version)| of_folder(folder, version)).fold(host, least))
}

fn least(a: HostMemory, b: HostMemory) -> HostMemory {
    HostMemory {
        total_bytes: a.total_bytes.min(b.total_bytes),
        available_bytes: a.available_bytes.min(b.available_bytes),
    }
}

fn of_host(meminfo: &str) -> Option<HostMemory> {
    let bytes = |name| Some(field(meminfo, name)? * 1024);
    Some(HostMemory { total_bytes: bytes("MemTotal:")?, available_bytes: bytes("MemAvailable:")? })
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The folders of the groups in `/proc/self/cgroup`, with those around them: each may have a limit. A container sees its own
/// at the top.
fn folders(groups: &str) -> Vec<(PathBuf, &'static Version)> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(group)) = (parts.next(), parts.next()) else { continue };
        let version = match kinds {
            "" => &SECOND,
            _ if kinds.split(',').any(|kind| kind == "memory") => &FIRST,
            _ => continue,
        };
        for folder in version.folders {
            let top = Path::new(GROUPS).join(folder);
            let own = top.join(group.trim_start_matches('/'));
            let around = own.ancestors().take_while(|around| around.starts_with(&top));
            found.extend(around.map(|around| (around.to_path_buf(), version)));
        }
    }
    found
}

fn of_folder(folder: &Path, version: &Version) -> Option<HostMemory> {
    let text = |name| fs::read_to_string(folder.join(name)).ok();
    of_group(&text(version.max)?, &text(version.used)?, &text("memory.stat")?, version.inactive)
}

/// `None`: it has no limit.
fn of_group(max: &str, used: &str, stat: &str, inactive: &str) -> Option<HostMemory> {
    let total_bytes: u64 = max.trim().parse().ok()?;
    let used: u64 = used.trim().parse().ok()?;
    let held = used.saturating_sub(field(stat, inactive).unwrap_or(0));
    Some(HostMemory { total_bytes, available_bytes: total_bytes.saturating_sub(held) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_and_each_group_around_have_a_word() {
        let memory = host_memory().expect("this host says it");
        assert!(memory.available_bytes > 0 && memory.available_bytes <= memory.total_bytes);
        let meminfo = "MemTotal:       24683712 kB\nMemFree:  1 kB\nMemAvailable:   100 kB\n";
        let host = HostMemory { total_bytes: 24_683_712 << 10, available_bytes: 100 << 10 };
        assert_eq!(of_host(meminfo), Some(host));
        assert_eq!(of_host("MemTotal: 5 kB\n"), None);
        let stat = "file 9000\ninactive_file 300\nactive_file 5\ntotal_inactive_file 400\n";
        let group = HostMemory { total_bytes: 1_000, available_bytes: 400 };
        assert_eq!(of_group("1000\n", "900\n", stat, "inactive_file"), Some(group));
        assert_eq!(of_group("max\n", "900\n", stat, "inactive_file"), None);
        let full = of_group("1000", "2000", stat, "total_inactive_file").expect("it has a limit");
        assert_eq!(full.available_bytes, 0);
        assert_eq!(least(host, group), group);
    }

    #[test]
    fn groups_of_both_versions_are_found_with_those_around_them() {
        let found = |text| folders(text).into_iter().map(|(path, _)| path.display().to_string()).collect();
        let second: Vec<String> = found("0::/a/b\n");
        assert_eq!(second[..3], ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"]);
        assert_eq!(second[3], "/sys/fs/cgroup/unified/a/b");
        let first: Vec<String> = found("9:cpu,memory:/c\n3:cpuset:/\nnothing\n");
        assert_eq!(first, ["/sys/fs/cgroup/memory/c", "/sys/fs/cgroup/memory"]);
    }
}
