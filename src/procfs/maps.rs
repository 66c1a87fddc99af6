//! `/proc/PID/maps`: see proc_pid_maps(5).

/// Mappings read of one process; a line has at least 45 bytes, so 4 MiB could hold more.
const ENTRIES_MAX: usize = 1 << 16;

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapsEntry {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Offset in the file of the first address.
    pub offset: u64,
    /// Major number of the file's device.
    pub major: u32,
    /// Minor number of the file's device.
    pub minor: u32,
    /// Inode of the file; 0 without a file.
    pub inode: u64,
    /// Path, a name in brackets, or empty.
    pub path: Box<str>,
}

/// Parses the lines of executable mappings; skips malformed ones.
pub fn parse_executable_maps(text: &str) -> impl Iterator<Item = MapsEntry> {
    text.lines().filter_map(parse_executable).take(ENTRIES_MAX)
}

/// Parses a line such as `55d0-55d4 r-xp 00002000 fd:01 1234   /usr/bin/x y`.
fn parse_executable(line: &str) -> Option<MapsEntry> {
    let (range, rest) = line.split_once(' ')?;
    let (permissions, rest) = rest.split_once(' ')?;
    if permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let (offset, rest) = rest.split_once(' ')?;
    let (device, rest) = rest.split_once(' ')?;
    let (inode, path) = rest.split_once(' ').unwrap_or((rest, ""));
    let (major, minor) = device.split_once(':')?;
    let (start, end) = parse_range(range)?;
    Some(MapsEntry {
        start,
        end,
        offset: u64::from_str_radix(offset, 16).ok()?,
        major: u32::from_str_radix(major, 16).ok()?,
        minor: u32::from_str_radix(minor, 16).ok()?,
        inode: inode.parse().ok()?,
        path: path.trim_start().into(),
    })
}

/// Parses two hexadecimal addresses with a dash between them.
fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (start, end) = text.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<MapsEntry> {
        parse_executable_maps(text).collect()
    }

    #[test]
    fn only_executable_lines_count_and_paths_may_contain_spaces() {
        let line =
            "7f00-7f80 r-xp 00001000 fd:01 42                   /opt/my app/lib.so (deleted)";
        let expected = MapsEntry {
            start: 0x7f00,
            end: 0x7f80,
            offset: 0x1000,
            major: 0xfd,
            minor: 1,
            inode: 42,
            path: "/opt/my app/lib.so (deleted)".into(),
        };
        assert_eq!(parse(line), [expected]);
        assert_eq!(parse(&line.replace("r-xp", "rw-p")), []);
    }

    #[test]
    fn anonymous_memory_has_no_path() {
        assert_eq!(&*parse("7f00-7f80 rwxp 00000000 00:00 0 ")[0].path, "");
    }

    #[test]
    fn malformed_lines_are_skipped() {
        for line in ["", "x", "1-2 r-xp", "zz-2 r-xp 0 0:0 0 /x", "1-2 r-xp 0 0:0 x /x"] {
            assert_eq!(parse(line), [], "{line:?}");
        }
        let good = "1-2 r-xp 0 0:0 0 /x";
        assert_eq!(parse(&format!("nonsense\n{good}\n\u{fffd}-2 r-xp\n{good}")).len(), 2);
    }

    #[test]
    fn the_number_of_mappings_is_bounded() {
        assert_eq!(parse(&"1-2 r-xp 0 0:0 0\n".repeat(2 * ENTRIES_MAX)).len(), ENTRIES_MAX);
    }
}
