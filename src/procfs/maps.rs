//! `/proc/PID/maps`: see proc_pid_maps(5).

use std::io::{self, BufRead, Read};
use std::time::{Duration, Instant};

/// Executable mappings read of one process: more than the kernel allows by default
/// (vm.max_map_count).
const ENTRIES_MAX: usize = 1 << 16;
/// Lines read of one process, and their bytes. A line has at least 45 bytes.
const LINES_MAX: usize = 1 << 18;
const BYTES_MAX: u64 = 32 << 20;
/// Longest line: a path of 4096 bytes and 73 before it.
const LINE_BYTES_MAX: u64 = 8 << 10;
/// How long one process is read. 65,000 mappings take about 40 ms.
const TIME_MAX: Duration = Duration::from_millis(400);
/// Lines between two looks at the clock.
const LINES_PER_CLOCK_READ: usize = 256;

/// The executable mappings of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutableMaps {
    /// The mappings in the order of addresses.
    pub entries: Vec<MapsEntry>,
    /// There may be more: a limit was reached.
    pub is_incomplete: bool,
}

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

/// Reads the executable mappings; skips malformed lines. `addresses`: only mappings that contain
/// one of these, in ascending order; empty for all.
///
/// # Errors
/// As reading does.
pub fn read_executable_maps(
    mut text: impl BufRead,
    addresses: &[u64],
) -> io::Result<ExecutableMaps> {
    let (begin, mut bytes, mut line) = (Instant::now(), 0, Vec::new());
    let mut maps = ExecutableMaps::default();
    for number in 0..LINES_MAX {
        line.clear();
        let read = text.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(maps);
        }
        bytes += read as u64;
        let is_late =
            number % LINES_PER_CLOCK_READ == LINES_PER_CLOCK_READ - 1 && begin.elapsed() > TIME_MAX;
        if bytes > BYTES_MAX || maps.entries.len() >= ENTRIES_MAX || is_late {
            break;
        }
        maps.entries.extend(parse_executable(&line).filter(|entry| is_wanted(entry, addresses)));
    }
    maps.is_incomplete = true;
    Ok(maps)
}

fn is_wanted(entry: &MapsEntry, addresses: &[u64]) -> bool {
    let first = addresses.partition_point(|address| *address < entry.start);
    addresses.is_empty() || addresses.get(first).is_some_and(|address| *address < entry.end)
}

/// Parses a line such as `55d0-55d4 r-xp 00002000 fd:01 1234   /usr/bin/x y`.
fn parse_executable(line: &[u8]) -> Option<MapsEntry> {
    // Most lines are not executable: they are not worth a conversion to text.
    let permissions = line.iter().position(|byte| *byte == b' ')? + 1;
    if line.get(permissions + 2) != Some(&b'x') {
        return None;
    }
    let line = String::from_utf8_lossy(line);
    let (range, rest) = line.trim_end_matches('\n').split_once(' ')?;
    let (_, rest) = rest.split_once(' ')?;
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
        read_executable_maps(text.as_bytes(), &[]).expect("memory is readable").entries
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
    fn mappings_lines_and_bytes_are_bounded() {
        let read = |line: &str, count| {
            let text = line.repeat(count);
            let maps = read_executable_maps(text.as_bytes(), &[]).expect("memory is readable");
            (maps.entries.len(), maps.is_incomplete)
        };
        assert_eq!(read("1-2 r-xp 0 0:0 0\n", 100), (100, false));
        let (entries, is_incomplete) = read("1-2 r-xp 0 0:0 0\n", 2 * ENTRIES_MAX);
        assert!(entries <= ENTRIES_MAX && is_incomplete);
        assert_eq!(read("1-2 rw-p 0 0:0 0\n", 2 * LINES_MAX), (0, true));
        assert_eq!(read(&format!("1-2 rw-p 0 0:0 0 /{}\n", "x".repeat(4096)), 10_000), (0, true));
    }

    #[test]
    fn only_mappings_of_wanted_addresses_are_read() {
        let text =
            "1000-2000 r-xp 0 0:0 1 /a\n2000-3000 r-xp 0 0:0 2 /b\n4000-5000 r-xp 0 0:0 3 /c";
        let inodes = |addresses: &[u64]| {
            let maps = read_executable_maps(text.as_bytes(), addresses).expect("readable");
            maps.entries.iter().map(|entry| entry.inode).collect::<Vec<_>>()
        };
        assert_eq!(inodes(&[0xfff, 0x1fff, 0x3000]), [1]);
        assert_eq!(inodes(&[0x2000, 0x4fff]), [2, 3]);
        assert!(inodes(&[0x5000]).is_empty());
        assert_eq!(inodes(&[]), [1, 2, 3]);
    }
}
