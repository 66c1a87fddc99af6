//! The cgroup of a process, and the pod and container in its name.
//!
//! ```text
//! cgroupfs   /kubepods/burstable/pod<uid>/<id>
//! systemd    /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid_>.slice/
//!            cri-containerd-<id>.scope
//! mixed      /system.slice/containerd.service/
//!            kubepods-burstable-pod<uid_>.slice:cri-containerd:<id>
//! kind       /docker/<id>/kubelet.slice/.../kubelet-kubepods-pod<uid_>.slice/
//!            cri-containerd-<id>.scope
//! Docker     /docker/<id>, /system.slice/docker-<id>.scope, each inside another
//! CRI-O      .../crio-<id>.scope, its monitor crio-conmon-<id>.scope
//! Podman     /machine.slice/libpod-<id>.scope/container, its monitor libpod-conmon-<id>.scope
//! ```
//! Sources: kubelet `pkg/kubelet/cm`, runc `libcontainer/cgroups`, Podman
//! `libpod/container_internal_linux.go`, cgroups(7).

use profile::labels::LABEL_BYTES_MAX;

use super::root::Root;
use crate::procfs::{CgroupEntry, parse_cgroups, without_deleted};

/// Names read of one path.
const NAMES_MAX: usize = 128;
/// Hexadecimal digits of a container ID.
const ID_DIGITS: usize = 64;
/// Hexadecimal digits of a pod UID.
const UID_DIGITS: usize = 32;
/// Characters of a pod UID with dashes, and where the dashes are.
const UID_LEN: usize = 36;
const UID_DASHES: [usize; 4] = [8, 13, 18, 23];

/// The cgroup of a process, and the pod and container that its name contains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cgroup {
    /// Path in its hierarchy.
    pub path: Box<str>,
    /// UID of the pod, as Kubernetes shows it.
    pub pod_uid: Option<Box<str>>,
    /// ID of the pod's container; without a pod, of the innermost container.
    pub container_id: Option<Box<str>>,
}

impl Cgroup {
    /// Parses `/proc/PID/cgroup` and takes the most informative line: with a container, else with a
    /// pod, else of v2, of systemd, of any v1 hierarchy; the root of a hierarchy comes last. `None`
    /// when all lines are malformed.
    pub fn parse(text: &str, root: &Root) -> Option<Self> {
        let found = parse_cgroups(text).map(|entry| {
            let path = without_deleted(entry.path);
            (rank(&entry), Self::of_path(&root.absolute(path, entry.version())))
        });
        let best = found.min_by_key(|(rank, cgroup)| {
            let is_root = &*cgroup.path == "/";
            (cgroup.container_id.is_none(), cgroup.pod_uid.is_none(), is_root, *rank)
        });
        best.map(|(_, cgroup)| cgroup)
    }

    /// Finds pod and container among the names of a path.
    fn of_path(path: &str) -> Self {
        let names: Vec<&str> = path.split(['/', ':']).take(NAMES_MAX).collect();
        let pod = names.iter().rposition(|name| pod_uid(name).is_some());
        let container_id = match pod {
            Some(pod) => names[pod..].iter().find_map(|name| container_id(name)),
            None => names.iter().rev().find_map(|name| container_id(name)),
        };
        Self {
            path: path[..path.floor_char_boundary(LABEL_BYTES_MAX)].into(),
            pod_uid: pod.and_then(|pod| pod_uid(names[pod])).map(Into::into),
            container_id: container_id.map(Into::into),
        }
    }
}

/// Ranks hierarchies: v2, systemd's, any other.
fn rank(entry: &CgroupEntry<'_>) -> u8 {
    match (entry.hierarchy, entry.controllers) {
        (0, "") => 0,
        (_, "name=systemd") => 1,
        _ => 2,
    }
}

/// Returns the UID in a pod's name: `pod<uid>`, or `...-pod<uid_with_underscores>.slice`. The UID
/// of a static pod is a hash.
fn pod_uid(name: &str) -> Option<String> {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match name.strip_prefix("pod") {
        Some(uid) => uid,
        None => name.rsplit_once("-pod")?.1,
    };
    let is_hash = uid.len() == UID_DIGITS && uid.bytes().all(is_digit);
    (is_hash || is_uid(uid)).then(|| uid.replace('_', "-"))
}

fn is_uid(text: &str) -> bool {
    let is_valid = |(index, byte): (usize, u8)| match UID_DASHES.contains(&index) {
        true => matches!(byte, b'-' | b'_'),
        false => is_digit(byte),
    };
    text.len() == UID_LEN && text.bytes().enumerate().all(is_valid)
}

/// Returns the ID in a container's name: `<id>`, or `RUNTIME-<id>.scope`; none for the monitor that
/// runs beside a container.
fn container_id(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (runtime, id) = name.rsplit_once('-').unwrap_or(("", name));
    let is_id = id.len() == ID_DIGITS && id.bytes().all(is_digit);
    (is_id && !runtime.ends_with("conmon")).then_some(id)
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::expect_file;

    use super::*;

    /// Recorded files, each after a line that says where; `a*64` stands for 64 digits of an ID.
    const SHAPES: &str = include_str!("shapes.txt");

    /// Lists the title and the text of each.
    fn shapes() -> impl Iterator<Item = (&'static str, String)> {
        let long = |text: &str| {
            let digits = |digit: &str| digit.repeat(ID_DIGITS);
            ["a", "b", "c"].iter().fold(text.to_owned(), |text, digit| {
                text.replace(&format!("{digit}*64"), &digits(digit))
            })
        };
        SHAPES
            .split("\n# ")
            .filter_map(|part| part.split_once('\n'))
            .map(move |(title, text)| (title.trim_start_matches("# "), long(text)))
    }

    fn describe(cgroup: &Cgroup) -> String {
        let short = |text: &str| match text.len() {
            ID_DIGITS => format!("{}*64", &text[..1]),
            _ => text.to_owned(),
        };
        let or_none = |text: &Option<Box<str>>| text.as_deref().map_or("-".into(), short);
        let path = ["a", "b", "c"].iter().fold(cgroup.path.to_string(), |path, digit| {
            path.replace(&digit.repeat(ID_DIGITS), &format!("{digit}*64"))
        });
        format!(
            "pod {}, container {}, {path}",
            or_none(&cgroup.pod_uid),
            or_none(&cgroup.container_id)
        )
    }

    #[test]
    fn pod_and_container_are_found_in_every_shape() {
        let mut table = String::new();
        for (title, text) in shapes() {
            let cgroup = Cgroup::parse(&text, &Root::default());
            let _ =
                writeln!(table, "{title}\n  {}", cgroup.as_ref().map_or("none".into(), describe));
        }
        expect_file!["shapes.golden.txt"].assert_eq(&table);
    }

    #[test]
    fn hostile_text_is_rejected_or_bounded() {
        let mut random = Random(1);
        for (_, text) in shapes() {
            for _ in 0..500 {
                let mut bytes = text.clone().into_bytes();
                for _ in 0..random.below(8) {
                    if bytes.is_empty() {
                        break;
                    }
                    let at = random.below(bytes.len());
                    match random.below(3) {
                        0 => bytes[at] = b"/:-_.0afpod\n \xff"[random.below(14)],
                        1 => {
                            bytes.remove(at);
                        }
                        _ => bytes.insert(at, b"/:-_.0afpod\n \xff"[random.below(14)]),
                    }
                }
                let text = String::from_utf8_lossy(&bytes);
                let Some(cgroup) = Cgroup::parse(&text, &Root::default()) else { continue };
                assert!(cgroup.path.len() <= text.len());
                assert!(
                    cgroup.pod_uid.is_none_or(|uid| [UID_LEN, UID_DIGITS].contains(&uid.len()))
                );
                assert!(cgroup.container_id.is_none_or(|id| id.len() == ID_DIGITS));
            }
        }
        for text in ["", "\n", ":", "::", "0::", "0::x", "0::/", &"0::/\n".repeat(100_000)] {
            Cgroup::parse(text, &Root::default());
        }
        let deep = format!("0::{}", "/x".repeat(100_000));
        assert_eq!(
            Cgroup::parse(&deep, &Root::default()).map(|cgroup| cgroup.path.len()),
            Some(LABEL_BYTES_MAX)
        );
    }

    /// A generator of pseudo-random numbers with a fixed seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % end
        }
    }
}
