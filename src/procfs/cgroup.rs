//! `/proc/PID/cgroup`: see cgroups(7).

/// Lines read: Linux has 14 controllers, and hierarchies may have names.
const ENTRIES_MAX: usize = 64;

/// The cgroup of a process in one hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupEntry<'a> {
    /// Number of the hierarchy; 0 for v2.
    pub hierarchy: u64,
    /// Controllers of a v1 hierarchy, separated by commas, or its name: `name=systemd`.
    pub controllers: &'a str,
    /// Path from the root of the reader's cgroup namespace.
    pub path: &'a str,
}

/// Version of the cgroup interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy per set of controllers.
    V1,
    /// The unified hierarchy.
    V2,
}

impl CgroupVersion {
    /// Returns the type of the file system that such a hierarchy is mounted as.
    pub fn file_system(self) -> &'static str {
        match self {
            Self::V1 => "cgroup",
            Self::V2 => "cgroup2",
        }
    }
}

impl CgroupEntry<'_> {
    /// Returns the version of the hierarchy.
    pub fn version(&self) -> CgroupVersion {
        let is_v2 = self.hierarchy == 0 && self.controllers.is_empty();
        if is_v2 { CgroupVersion::V2 } else { CgroupVersion::V1 }
    }
}

/// Parses the lines `HIERARCHY:CONTROLLERS:PATH`; skips malformed ones.
pub fn parse_cgroups(text: &str) -> impl Iterator<Item = CgroupEntry<'_>> {
    text.lines().take(ENTRIES_MAX).filter_map(|line| {
        let (hierarchy, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let hierarchy = hierarchy.parse().ok()?;
        path.starts_with('/').then_some(CgroupEntry { hierarchy, controllers, path })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_distinguished() {
        let text = "5:cpu,cpuacct:/a:b\n1:name=systemd:/\n0::/x\n";
        let entries: Vec<_> = parse_cgroups(text).collect();
        let versions: Vec<_> = entries.iter().map(CgroupEntry::version).collect();
        assert_eq!(versions, [CgroupVersion::V1, CgroupVersion::V1, CgroupVersion::V2]);
        let expected = CgroupEntry { hierarchy: 5, controllers: "cpu,cpuacct", path: "/a:b" };
        assert_eq!(entries[0], expected);
    }

    #[test]
    fn malformed_lines_are_skipped_and_their_number_is_bounded() {
        for text in ["", "\n", ":", "::", "0::", "0::x", "x::/y"] {
            assert_eq!(parse_cgroups(text).count(), 0, "{text:?}");
        }
        assert_eq!(parse_cgroups(&"0::/\n".repeat(100_000)).count(), ENTRIES_MAX);
    }
}
