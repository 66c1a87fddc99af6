//! Filters as a person gives them become filters as the kernel knows them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::cli::RecordArguments;
use crate::kernel::Filters;
use crate::kernel::abi::{COMM_LEN, CgroupKey, CommKey};
use crate::processes::proc::{read_text, start_ticks};

/// Inode number of the first pid namespace, fixed in the kernel (PROC_PID_INIT_INO).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Translates the filters of the command line.
pub(super) fn filters(arguments: &RecordArguments) -> Result<Filters> {
    let mut filters = Filters { processes: processes(&arguments.pids)?, ..Filters::default() };
    for path in &arguments.cgroups {
        filters.cgroups.extend(cgroup_keys(path)?);
    }
    for name in &arguments.comms {
        ensure!(
            !name.is_empty() && name.len() < COMM_LEN,
            "--comm {name:?}: the kernel keeps 1 to {} bytes of a name; give what `ps -o comm` shows",
            COMM_LEN - 1
        );
        filters.comms.push(CommKey::new(name));
    }
    Ok(filters)
}

/// Gives each process with the time of its start, by which it is told from a later one of its number.
pub(super) fn processes(pids: &[u32]) -> Result<Vec<(u32, u64)>> {
    let with_start = |pid: &u32| {
        let start = start_ticks(*pid)
            .with_context(|| format!("there is no process {pid}; `ps -e` lists those that run"))?;
        Ok((*pid, start))
    };
    pids.iter().map(with_start).collect()
}

/// Gives the inode number of our pid namespace when it is not the first. Then the kernel
/// side translates every pid, and what the namespace does not show is skipped.
pub(super) fn pid_namespace() -> Result<Option<u32>> {
    let shown = std::fs::read_link("/proc/self").context("/proc cannot be read; mount it there")?;
    ensure!(
        shown.to_str() == Some(&std::process::id().to_string()),
        "/proc shows another pid namespace than ours; run `mount -t proc proc /proc` in ours, \
         or start everytick in the host's (hostPID)"
    );
    let inode =
        std::fs::metadata("/proc/self/ns/pid").context("/proc/self/ns/pid cannot be read")?.ino();
    Ok((inode != FIRST_PID_NAMESPACE).then_some(inode as u32))
}

/// A mounted cgroup hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    number: u64,
}

/// Finds a cgroup: a directory of a hierarchy, or a path below the root of one or more.
fn cgroup_keys(path: &Path) -> Result<Vec<CgroupKey>> {
    let hierarchies = hierarchies();
    ensure!(!hierarchies.is_empty(), "no cgroup hierarchy is mounted here; --cgroup cannot filter");

    if let Ok(directory) = path.canonicalize() {
        let within = hierarchies.iter().filter(|h| directory.starts_with(&h.mount));
        if let Some(hierarchy) = within.max_by_key(|h| h.mount.as_os_str().len()) {
            return Ok(vec![key(&directory, hierarchy)?]);
        }
    }
    let below = path.strip_prefix("/").unwrap_or(path);
    let found =
        hierarchies.iter().map(|h| (h.mount.join(below), h)).filter(|(path, _)| path.is_dir());
    let keys: Vec<CgroupKey> =
        found.map(|(path, hierarchy)| key(&path, hierarchy)).collect::<Result<_>>()?;
    if keys.is_empty() {
        bail!(
            "{} is no cgroup; give a directory below {} or a path from /proc/PID/cgroup",
            path.display(),
            hierarchies[0].mount.display()
        );
    }
    Ok(keys)
}

fn key(directory: &Path, hierarchy: &Hierarchy) -> Result<CgroupKey> {
    let found = std::fs::metadata(directory);
    let found = found.with_context(|| format!("cannot read the cgroup {}", directory.display()))?;
    ensure!(found.is_dir(), "{} is a file; give the directory of a cgroup", directory.display());
    Ok(CgroupKey { id: found.ino(), hierarchy: hierarchy.number })
}

fn hierarchies() -> Vec<Hierarchy> {
    let mounts = read_text("/proc/self/mountinfo").unwrap_or_default();
    let numbers = read_text("/proc/self/cgroup").unwrap_or_default();
    mounts.lines().filter_map(|mount| hierarchy(mount, &numbers)).collect()
}

/// Reads a line of mountinfo if it is a cgroup hierarchy, and finds the hierarchy's number in
/// `numbers`, whose lines are `number:controllers:path`:
/// `31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory`.
fn hierarchy(mount: &str, numbers: &str) -> Option<Hierarchy> {
    let (place, file_system) = mount.split_once(" - ")?;
    let mount = place.split_whitespace().nth(4)?;
    let mut file_system = file_system.split_whitespace();
    let (kind, options) = (file_system.next()?, file_system.nth(1)?);
    let number = match kind {
        "cgroup2" => 0,
        "cgroup" => {
            let has = |controllers: &str| {
                controllers.split(',').all(|c| options.split(',').any(|o| o == c))
            };
            numbers.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':');
                let (number, controllers) = (fields.next()?, fields.next()?);
                if controllers.is_empty() || !has(controllers) {
                    return None;
                }
                number.parse().ok()
            })?
        }
        _ => return None,
    };
    Some(Hierarchy { mount: unescape(mount).into(), number })
}

/// mountinfo writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hierarchy_is_found_by_its_controllers() {
        let numbers = "5:cpu,cpuacct:/a\n4:memory:/b\n1:name=systemd:/\n0::/\n";
        let line =
            |path: &str, rest: &str| format!("31 30 0:27 / {path} rw,nosuid shared:9 - {rest}");
        let check = |line: String, expected: Option<(&str, u64)>| {
            let expected =
                expected.map(|(mount, number)| Hierarchy { mount: mount.into(), number });
            assert_eq!(hierarchy(&line, numbers), expected, "{line}");
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
