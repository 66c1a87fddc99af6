//! Cgroups on the command line, translated to the keys by which the kernel filters.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::kernel::abi::CgroupKey;
use crate::procfs::{CgroupVersion, Mount, parse_cgroups, parse_mounts, read_text};

/// A mounted cgroup hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    number: u64,
}

/// Returns the keys of a cgroup: of a directory in a hierarchy, or of a path as /proc/PID/cgroup
/// shows it, which may exist in several hierarchies.
pub(super) fn keys_of(path: &Path) -> Result<Vec<CgroupKey>> {
    let hierarchies = hierarchies();
    ensure!(!hierarchies.is_empty(), "no cgroup hierarchy is mounted here; --cgroup cannot filter");

    if let Ok(directory) = path.canonicalize() {
        let within = hierarchies.iter().filter(|h| directory.starts_with(&h.mount));
        if let Some(hierarchy) = within.max_by_key(|h| h.mount.as_os_str().len()) {
            return Ok(vec![key(&directory, hierarchy)?]);
        }
    }
    let below = path.strip_prefix("/").unwrap_or(path);
    let directories =
        hierarchies.iter().map(|h| (h.mount.join(below), h)).filter(|(path, _)| path.is_dir());
    let keys: Vec<CgroupKey> =
        directories.map(|(path, hierarchy)| key(&path, hierarchy)).collect::<Result<_>>()?;
    if keys.is_empty() {
        bail!(
            "{} is not a cgroup; give a directory below {} or a path from /proc/PID/cgroup",
            path.display(),
            hierarchies[0].mount.display()
        );
    }
    Ok(keys)
}

fn key(directory: &Path, hierarchy: &Hierarchy) -> Result<CgroupKey> {
    let metadata = std::fs::metadata(directory)
        .with_context(|| format!("cannot read the cgroup {}", directory.display()))?;
    ensure!(metadata.is_dir(), "{} is a file; give the directory of a cgroup", directory.display());
    Ok(CgroupKey { id: metadata.ino(), hierarchy: hierarchy.number })
}

fn hierarchies() -> Vec<Hierarchy> {
    let mounts = read_text("/proc/self/mountinfo").unwrap_or_default();
    let numbers = read_text("/proc/self/cgroup").unwrap_or_default();
    parse_mounts(&mounts).filter_map(|mount| hierarchy(mount, &numbers)).collect()
}

/// Returns the hierarchy that is mounted here, if it is one. `cgroups`: /proc/self/cgroup, which
/// has the numbers of hierarchies by their controllers.
fn hierarchy(mount: Mount<'_>, cgroups: &str) -> Option<Hierarchy> {
    let number = if mount.file_system == CgroupVersion::V2.file_system() {
        0
    } else if mount.file_system == CgroupVersion::V1.file_system() {
        let has = |controllers: &str| {
            let mut controllers = controllers.split(',');
            controllers.all(|controller| mount.options.split(',').any(|o| o == controller))
        };
        let mut entries = parse_cgroups(cgroups);
        entries.find(|entry| !entry.controllers.is_empty() && has(entry.controllers))?.hierarchy
    } else {
        return None;
    };
    Some(Hierarchy { mount: mount.mount_point, number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_by_their_controllers() {
        let numbers = "5:cpu,cpuacct:/a\n4:memory:/b\n1:name=systemd:/\n0::/\n";
        let line =
            |path: &str, rest: &str| format!("31 30 0:27 / {path} rw,nosuid shared:9 - {rest}");
        let check = |line: String, expected: Option<(&str, u64)>| {
            let expected =
                expected.map(|(mount, number)| Hierarchy { mount: mount.into(), number });
            let mount = parse_mounts(&line).next().expect("well-formed");
            assert_eq!(hierarchy(mount, numbers), expected, "{line}");
        };
        check(
            line("/sys/fs/cgroup/memory", "cgroup cgroup rw,memory"),
            Some(("/sys/fs/cgroup/memory", 4)),
        );
        check(line("/c/cpu", "cgroup cgroup rw,cpu,cpuacct"), Some(("/c/cpu", 5)));
        check(line("/c/systemd", "cgroup cgroup rw,xattr,name=systemd"), Some(("/c/systemd", 1)));
        check(line("/c/my\\040unified", "cgroup2 cgroup2 rw"), Some(("/c/my unified", 0)));
        check(line("/c/pids", "cgroup cgroup rw,pids"), None);
        check(line("/tmp", "tmpfs tmpfs rw"), None);
    }
}
