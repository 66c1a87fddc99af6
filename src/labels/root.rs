//! Where in the cgroup hierarchy the agent is, when it runs in a container with a cgroup namespace.
//!
//! There `/proc/PID/cgroup` shows paths from the root of the namespace, and `/..` leads up from it
//! without names. Where the host's hierarchy is mounted, one directory lists the agent's process,
//! and its path is the missing part.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use crate::procfs::{self, CgroupVersion, parse_cgroups, parse_mounts};

/// Directories searched for the one of the agent.
const DIRECTORIES_MAX: usize = 20_000;
/// How deep in the hierarchy it may be.
const DEPTH_MAX: usize = 32;
/// The initial cgroup namespace: PROC_CGROUP_INIT_INO of the kernel's linux/proc_ns.h.
const INITIAL_NAMESPACE: &str = "cgroup:[4026531835]";

/// The root of our cgroup namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Root {
    v1: NamespaceRoot,
    v2: NamespaceRoot,
}

/// Where the namespace begins in hierarchies of one version. Empty when that is their root or is
/// unknown. All v1 hierarchies have the same paths wherever containers have cgroup namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct NamespaceRoot(String);

impl Root {
    /// Searches the mounted hierarchies for the agent.
    pub fn find() -> Self {
        let namespace = fs::read_link("/proc/self/ns/cgroup").unwrap_or_default();
        if namespace == Path::new(INITIAL_NAMESPACE) {
            return Self::default();
        }
        let mounts = procfs::read_text("/proc/self/mountinfo").unwrap_or_default();
        let own = procfs::read_text("/proc/self/cgroup").unwrap_or_default();
        let root = |version| NamespaceRoot::find(version, &mounts, &own).unwrap_or_default();
        Self { v1: root(CgroupVersion::V1), v2: root(CgroupVersion::V2) }
    }

    /// Turns a path in the agent's namespace into one from the root of its hierarchy. Where the
    /// namespace is unknown, leading `/..` are left out.
    pub(super) fn absolute<'a>(&self, path: &'a str, version: CgroupVersion) -> Cow<'a, str> {
        match version {
            CgroupVersion::V1 => self.v1.absolute(path),
            CgroupVersion::V2 => self.v2.absolute(path),
        }
    }
}

impl NamespaceRoot {
    fn find(version: CgroupVersion, mountinfo: &str, own: &str) -> Option<Self> {
        let entries = parse_cgroups(own).filter(|entry| entry.version() == version);
        let mut paths = entries.map(|entry| entry.path);
        let below = paths.find(|path| *path != "/").unwrap_or("/");
        let own_pid = std::process::id().to_string();
        let mut mounts = host_mounts(version, mountinfo);
        mounts.find_map(|(mount, depth)| find_in(&mount, depth, below, &own_pid)).map(Self)
    }

    fn absolute<'a>(&self, path: &'a str) -> Cow<'a, str> {
        let (mut base, mut rest) = (self.0.as_str(), path);
        let is_name = |rest: &&str| rest.is_empty() || rest.starts_with('/');
        while let Some(further) = rest.strip_prefix("/..").filter(is_name) {
            rest = further;
            base = base.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        match (base, rest) {
            ("", "") => "/".into(),
            ("", rest) => rest.into(),
            (base, "" | "/") => base.to_owned().into(),
            (base, rest) => format!("{base}{rest}").into(),
        }
    }
}

/// Lists mounted hierarchies whose root is above that of the namespace, and how far above.
fn host_mounts(version: CgroupVersion, mountinfo: &str) -> impl Iterator<Item = (PathBuf, usize)> {
    parse_mounts(mountinfo).filter_map(move |mount| {
        let is_above = mount.root.strip_prefix('/')?.split('/').all(|name| name == "..");
        let is_cgroup = mount.file_system == version.file_system();
        let depth = mount.root.split('/').count() - 1;
        (is_above && is_cgroup && depth <= DEPTH_MAX).then_some((mount.mount_point, depth))
    })
}

/// Searches a mounted hierarchy for the cgroup at this depth that has the process `pid` in its
/// child `below`.
fn find_in(mount: &Path, depth: usize, below: &str, pid: &str) -> Option<String> {
    let mut level = vec![String::new()];
    let mut visited = 0;
    for _ in 0..depth {
        let mut next = Vec::new();
        for path in &level {
            visited += 1;
            if visited > DIRECTORIES_MAX {
                return None;
            }
            let entries = fs::read_dir(mount.join(path.trim_start_matches('/'))).ok();
            let entries = entries.into_iter().flatten().flatten();
            let directories =
                entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let names = directories.filter_map(|entry| entry.file_name().into_string().ok());
            next.extend(names.map(|name| format!("{path}/{name}")));
        }
        level = next;
    }
    let has_pid = |path: &String| {
        let list =
            format!("{}{}/cgroup.procs", path.trim_start_matches('/'), below.trim_end_matches('/'));
        fs::read_to_string(mount.join(list)).is_ok_and(|pids| pids.lines().any(|line| line == pid))
    };
    level.into_iter().take(DIRECTORIES_MAX).find(has_pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_the_namespace_become_absolute() {
        let root = NamespaceRoot("/kubepods/besteffort/pod1/us".into());
        for (path, expected) in [
            ("/", "/kubepods/besteffort/pod1/us"),
            ("/below", "/kubepods/besteffort/pod1/us/below"),
            ("/../sibling", "/kubepods/besteffort/pod1/sibling"),
            ("/../../../burstable/pod2/x", "/kubepods/burstable/pod2/x"),
            ("/../../../../system.slice/x.service", "/system.slice/x.service"),
            ("/../../../..", "/"),
            ("/../../../../../../x", "/x"),
            ("/..hidden", "/kubepods/besteffort/pod1/us/..hidden"),
        ] {
            assert_eq!(root.absolute(path), expected, "{path}");
        }
    }

    #[test]
    fn in_an_unknown_namespace_leading_dots_are_dropped() {
        let root = NamespaceRoot::default();
        for (path, expected) in
            [("/x/y", "/x/y"), ("/../../x", "/x"), ("/..", "/"), ("/", "/"), ("", "/")]
        {
            assert_eq!(root.absolute(path), expected, "{path}");
        }
    }

    #[test]
    fn the_hierarchy_of_the_host_is_recognized() {
        let mountinfo = "\
            40 30 0:29 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n\
            41 30 0:29 /../../../.. /host/cgroup ro - cgroup2 cgroup rw,nsdelegate\n\
            42 30 0:29 /../x /part ro - cgroup2 cgroup rw\n\
            43 30 8:1 /../.. /disk ro - ext4 /dev/sda1 rw\n\
            44 30 0:31 /.. /host/v1/cpu ro - cgroup cgroup rw,cpu\n\
            45 30\n";
        let found = |version| host_mounts(version, mountinfo).collect::<Vec<_>>();
        assert_eq!(found(CgroupVersion::V2), [("/host/cgroup".into(), 4)]);
        assert_eq!(found(CgroupVersion::V1), [("/host/v1/cpu".into(), 1)]);
    }

    #[test]
    fn the_own_cgroup_is_found_in_the_hierarchy_of_the_host() {
        let mount = tempfile::tempdir().expect("a directory");
        let cgroup = |path: &str, pids: &str| {
            let path = mount.path().join(path);
            fs::create_dir_all(&path).expect("a directory");
            fs::write(path.join("cgroup.procs"), pids).expect("a file");
        };
        cgroup("kubepods/pod1/other", "17\n18\n");
        cgroup("kubepods/pod1/us", "");
        cgroup("kubepods/pod1/us/below", "170\n1\n7\n");
        cgroup("system.slice", "99\n");
        let find = |depth, below, pid| find_in(mount.path(), depth, below, pid);
        assert_eq!(find(3, "/below", "7").as_deref(), Some("/kubepods/pod1/us"));
        assert_eq!(find(4, "/", "7").as_deref(), Some("/kubepods/pod1/us/below"));
        assert_eq!(find(1, "/", "99").as_deref(), Some("/system.slice"));
        assert_eq!((find(3, "/", "7"), find(1, "/", "17"), find(9, "/", "7")), (None, None, None));
    }

    #[test]
    fn in_the_initial_namespace_paths_stay_the_same() {
        let is_initial =
            fs::read_link("/proc/self/ns/cgroup").is_ok_and(|n| n == Path::new(INITIAL_NAMESPACE));
        assert!(!is_initial || Root::find() == Root::default());
    }
}
