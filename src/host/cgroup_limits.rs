//! Limits of our cgroup and of those above it.

use std::fs;
use std::path::{Path, PathBuf};

use super::limitation::{CheckResult, Limitation, LimitationReason};
use crate::kernel::online_cpus;
use crate::procfs::{CgroupVersion, parse_cgroups, parse_mounts, read_text};

/// Values of memory.limit_in_bytes from here on mean that there is no limit: it is the largest
/// number of whole pages in 63 bits.
const NO_LIMIT: u64 = 1 << 62;
/// The least memory of the agent, in bytes.
pub const AGENT_MEMORY_LEAST: u64 = 60 << 20;
/// CPUs below which windows come late and the stop is slow.
const CPUS_LEAST: f64 = 0.05;
/// Levels of a hierarchy that are looked at.
const DEPTH_MAX: usize = 64;

/// A limit, and the file that sets it.
#[derive(Clone, Debug, PartialEq)]
pub struct CgroupLimit<T> {
    /// The limit.
    pub value: T,
    /// The file of the cgroup.
    pub file: PathBuf,
}

/// Returns the memory limit of our cgroup: the lowest one up its hierarchy, in bytes.
pub fn memory_limit() -> Option<CgroupLimit<u64>> {
    Hierarchies::read().memory_limit()
}

/// Returns the agent's part of a memory limit: the rest is for files that the kernel caches, and
/// for kernel memory that is not in maps.
pub fn agent_memory(limit: u64) -> u64 {
    limit / 4 * 3
}

pub(super) fn check_memory() -> CheckResult {
    let Some(CgroupLimit { value, file }) = memory_limit() else {
        return CheckResult::ok("without a limit");
    };
    let (limit, part) = (value >> 20, agent_memory(value) >> 20);
    let limitation = || {
        let least = AGENT_MEMORY_LEAST >> 20;
        Limitation::degraded(
            LimitationReason::MemoryLimit,
            format!(
                "{} allows {limit} MiB, of which the agent takes {part}, and it needs {least}",
                file.display()
            ),
            format!("allow {} MiB or more", least * 4 / 3 + 1),
        )
    };
    let found = format!("{limit} MiB by {}", file.display());
    CheckResult::of(found, (agent_memory(value) < AGENT_MEMORY_LEAST).then(limitation))
}

pub(super) fn check_cpu() -> CheckResult {
    let Some(CgroupLimit { value, file }) = Hierarchies::read().cpu_limit() else {
        return CheckResult::ok("without a limit");
    };
    let cpus = online_cpus().map_or(1, |cpus| cpus.len());
    let limitation = || {
        Limitation::degraded(
            LimitationReason::CpuLimit,
            format!(
                "{} allows {value:.3} of {cpus} CPUs: windows come late, frames stay addresses, \
                 and the last window may wait in the spool",
                file.display()
            ),
            format!("allow {CPUS_LEAST} CPUs or more, and bound the overhead by agent.max_cpu"),
        )
    };
    let found = format!("{value:.2} of {cpus} CPUs by {}", file.display());
    CheckResult::of(found, (value < CPUS_LEAST).then(limitation))
}

/// The texts of /proc from which the directories of our cgroups follow.
struct Hierarchies {
    mounts: String,
    cgroups: String,
}

impl Hierarchies {
    fn read() -> Self {
        let read = |name: &str| read_text(&format!("/proc/self/{name}")).unwrap_or_default();
        Self { mounts: read("mountinfo"), cgroups: read("cgroup") }
    }

    fn memory_limit(&self) -> Option<CgroupLimit<u64>> {
        let limit =
            |file: &'static str| move |directory: PathBuf| read_limit(&directory.join(file));
        let v2 = self.directories(CgroupVersion::V2, "").filter_map(limit("memory.max"));
        let v1 = self.directories(CgroupVersion::V1, "memory");
        let v1 = v1.filter_map(limit("memory.limit_in_bytes"));
        v2.chain(v1).filter(|limit| limit.value < NO_LIMIT).min_by_key(|limit| limit.value)
    }

    /// Returns the limit in CPUs.
    fn cpu_limit(&self) -> Option<CgroupLimit<f64>> {
        let v2 = self.directories(CgroupVersion::V2, "").filter_map(|directory| {
            let file = directory.join("cpu.max");
            let text = fs::read_to_string(&file).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            let value = quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?;
            Some(CgroupLimit { value, file })
        });
        let v1 = self.directories(CgroupVersion::V1, "cpu").filter_map(|directory| {
            let file = directory.join("cpu.cfs_quota_us");
            let read = |file: &Path| fs::read_to_string(file).ok()?.trim().parse::<f64>().ok();
            let period = read(&directory.join("cpu.cfs_period_us"))?;
            let value = read(&file).filter(|quota| *quota > 0.0)? / period;
            Some(CgroupLimit { value, file })
        });
        v2.chain(v1).min_by(|a, b| a.value.total_cmp(&b.value))
    }

    /// Lists the directory of our cgroup in a hierarchy, and those above it that are mounted here.
    /// `controller`: of v1.
    fn directories(
        &self,
        version: CgroupVersion,
        controller: &str,
    ) -> impl Iterator<Item = PathBuf> {
        let has_controller = |list: &str| {
            version == CgroupVersion::V2 || list.split(',').any(|found| found == controller)
        };
        let mut cgroups = parse_cgroups(&self.cgroups);
        let cgroup =
            cgroups.find(|entry| entry.version() == version && has_controller(entry.controllers));
        let mut mounts = parse_mounts(&self.mounts);
        let mount = mounts.find(|mount| {
            mount.file_system == version.file_system() && has_controller(mount.options)
        });
        let found = cgroup.zip(mount).map(|(cgroup, mount)| {
            let top = mount.mount_point;
            // In a container, the mount may begin at our cgroup, and paths may be relative to it.
            let path = cgroup.path.strip_prefix(mount.root.trim_end_matches('/'));
            let below = path.unwrap_or_default().trim_start_matches('/');
            let is_inside = !below.split('/').any(|part| part == "..");
            let directory = if is_inside { top.join(below) } else { top.clone() };
            (directory, top)
        });
        let (directory, top) = found.unwrap_or_default();
        let all: Vec<PathBuf> = directory
            .ancestors()
            .take_while(|ancestor| ancestor.starts_with(&top) && !top.as_os_str().is_empty())
            .take(DEPTH_MAX)
            .map(PathBuf::from)
            .collect();
        all.into_iter()
    }
}

fn read_limit(file: &Path) -> Option<CgroupLimit<u64>> {
    let value = fs::read_to_string(file).ok()?.trim().parse().ok()?; // `max` is no limit
    Some(CgroupLimit { value, file: file.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hierarchy in a directory, as mounted with `root`.
    struct Fixture {
        directory: tempfile::TempDir,
    }

    impl Fixture {
        fn new(files: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            for (file, text) in files {
                let path = directory.path().join(file);
                fs::create_dir_all(path.parent().expect("below")).expect("created");
                fs::write(path, text).expect("written");
            }
            Self { directory }
        }

        fn hierarchies(&self, root: &str, kind: &str, cgroups: &str) -> Hierarchies {
            let place = self.directory.path().display();
            let mounts = format!("31 30 0:27 {root} {place} rw shared:9 - {kind}");
            Hierarchies { mounts, cgroups: cgroups.to_owned() }
        }

        fn memory(&self, root: &str, kind: &str, cgroups: &str) -> Option<(u64, String)> {
            let limit = self.hierarchies(root, kind, cgroups).memory_limit()?;
            let file = limit.file.strip_prefix(self.directory.path()).expect("below");
            Some((limit.value, file.display().to_string()))
        }
    }

    const V2: &str = "cgroup2 cgroup2 rw";
    const V1: &str = "cgroup cgroup rw,memory";

    #[test]
    fn the_lowest_limit_up_the_tree_counts() {
        let v2 = Fixture::new(&[
            ("a/memory.max", "300\n"),
            ("a/b/memory.max", "500\n"),
            ("a/b/c/memory.max", "max\n"),
            ("x/memory.max", "1\n"),
        ]);
        assert_eq!(v2.memory("/", V2, "0::/a/b/c\n"), Some((300, "a/memory.max".into())));
        assert_eq!(v2.memory("/", V2, "0::/other\n"), None);
        let v1 = Fixture::new(&[
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("a/memory.limit_in_bytes", "700\n"),
        ]);
        let cgroups = "5:cpu,cpuacct:/\n4:memory:/a\n0::/\n";
        assert_eq!(v1.memory("/", V1, cgroups), Some((700, "a/memory.limit_in_bytes".into())));
    }

    #[test]
    fn a_container_sees_its_own_cgroup_as_the_top() {
        let container = Fixture::new(&[("memory.max", "400\n"), ("sub/memory.max", "max\n")]);
        let expected = Some((400, "memory.max".to_owned()));
        // With a cgroup namespace, without one, and with a path outside of the namespace.
        assert_eq!(container.memory("/", V2, "0::/\n"), expected);
        assert_eq!(container.memory("/docker/x", V2, "0::/docker/x/sub\n"), expected);
        assert_eq!(container.memory("/", V2, "0::/../y\n"), expected);
    }

    #[test]
    fn malformed_files_are_no_limit() {
        for text in ["", "max", "-1", "x", "99999999999999999999999"] {
            let fixture = Fixture::new(&[("memory.max", text)]);
            assert_eq!(fixture.memory("/", V2, "0::/\n"), None, "{text:?}");
        }
        let none = Hierarchies { mounts: String::new(), cgroups: "0::/\n".into() };
        assert_eq!(none.memory_limit(), None);
        assert_eq!(none.cpu_limit(), None);
    }

    #[test]
    fn cpu_limits_are_in_cpus() {
        let v2 = Fixture::new(&[("cpu.max", "max 100000\n"), ("a/cpu.max", "1000 100000\n")]);
        let limit = v2.hierarchies("/", V2, "0::/a\n").cpu_limit().map(|limit| limit.value);
        assert_eq!(limit, Some(0.01));
        let v1 = Fixture::new(&[
            ("cpu.cfs_quota_us", "-1\n"),
            ("cpu.cfs_period_us", "100000\n"),
            ("a/cpu.cfs_quota_us", "150000\n"),
            ("a/cpu.cfs_period_us", "100000\n"),
        ]);
        let v1 = v1.hierarchies("/", "cgroup cgroup rw,cpu,cpuacct", "5:cpu,cpuacct:/a\n");
        assert_eq!(v1.cpu_limit().map(|limit| limit.value), Some(1.5));
    }
}
