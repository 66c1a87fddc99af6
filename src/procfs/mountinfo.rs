//! `/proc/PID/mountinfo`: see proc_pid_mountinfo(5).

use std::path::PathBuf;

/// Mounts read of one namespace.
const ENTRIES_MAX: usize = 1 << 16;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Directory of the file system that is mounted.
    pub root: &'a str,
    /// Directory where it is mounted.
    pub mount_point: PathBuf,
    /// Type of the file system.
    pub file_system: &'a str,
    /// Options of the file system, separated by commas.
    pub options: &'a str,
}

/// Parses all lines; skips malformed ones.
pub fn parse_mounts(text: &str) -> impl Iterator<Item = Mount<'_>> {
    text.lines().filter_map(parse_mount).take(ENTRIES_MAX)
}

/// Parses a line such as `31 30 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu`.
fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split_whitespace().skip(3);
    let (root, mount_point) = (mount.next()?, mount.next()?);
    let mut file_system = file_system.split_whitespace();
    Some(Mount {
        root,
        mount_point: unescape(mount_point).into(),
        file_system: file_system.next()?,
        options: file_system.nth(1)?,
    })
}

/// Undoes the escapes of space, tab, newline and backslash: `\` and three octal digits.
fn unescape(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_and_escapes_are_understood() {
        let line = "31 30 0:27 /a /c/my\\040unified rw,nosuid shared:9 - cgroup2 cgroup rw,x";
        let expected = Mount {
            root: "/a",
            mount_point: "/c/my unified".into(),
            file_system: "cgroup2",
            options: "rw,x",
        };
        assert_eq!(parse_mounts(line).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn malformed_lines_are_skipped() {
        for text in ["", " - ", "1 2 3 4 5", "1 2 3 / - cgroup c rw", "1 2 3 / /x - cgroup", "\n\n"]
        {
            assert_eq!(parse_mounts(text).count(), 0, "{text:?}");
        }
    }
}
