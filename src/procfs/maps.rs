//! `/proc/PID/maps`: see proc_pid_maps(5).

use std::io::{self, BufRead, Read};
use std::ops::{ControlFlow, Range};
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

/// Returns a path without what the kernel appends once its file, or its cgroup, is deleted.
pub fn without_deleted(path: &str) -> &str {
    path.strip_suffix(" (deleted)").unwrap_or(path)
}

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
    /// It may be executed.
    pub is_executable: bool,
}

impl MapsEntry {
    /// Returns whether it is anonymous memory in huge pages, which the kernel shows with a path.
    fn is_hugetlb(&self) -> bool {
        self.path.starts_with("/anon_hugepage")
    }
}

/// Reads the executable mappings; skips malformed lines. `addresses`: only mappings that contain
/// one of these, in ascending order; empty for all.
///
/// A file's mapping that is not executable is added where it lies before or after executable memory
/// without a file: this memory may be a copy of the file's text.
///
/// # Errors
/// As reading does.
pub fn read_executable_maps(text: impl BufRead, addresses: &[u64]) -> io::Result<ExecutableMaps> {
    let (mut maps, mut data_of_file) = (ExecutableMaps::default(), Vec::new());
    let mut is_after_memory = false;
    let is_whole = for_each_line(text, |line| {
        if !is_executable(line) {
            if is_of_file(line) && std::mem::take(&mut is_after_memory) {
                maps.entries.extend(parse(line));
                data_of_file.clear();
            } else if is_of_file(line) {
                data_of_file.clear();
                data_of_file.extend_from_slice(line);
            }
            return ControlFlow::Continue(());
        }
        if maps.entries.len() >= ENTRIES_MAX {
            return ControlFlow::Break(());
        }
        if let Some(entry) = parse(line).filter(|entry| is_wanted(entry, addresses)) {
            is_after_memory = entry.inode == 0 || entry.is_hugetlb();
            if is_after_memory {
                maps.entries.extend(parse(&data_of_file));
            }
            maps.entries.push(entry);
        }
        data_of_file.clear();
        ControlFlow::Continue(())
    })?;
    maps.is_incomplete = !is_whole;
    Ok(maps)
}

/// Finds where the first bytes of a file are mapped: major and minor number of its device, and its
/// inode.
///
/// # Errors
/// As reading does.
pub fn find_start_of_file(
    text: impl BufRead,
    file: (u32, u32, u64),
) -> io::Result<Option<Range<u64>>> {
    let mut found = None;
    for_each_line(text, |line| {
        let entry = if is_of_file(line) { parse(line) } else { None };
        let is_start =
            |e: &MapsEntry| (e.major, e.minor, e.inode) == file && e.offset == 0 && e.inode != 0;
        match entry.filter(is_start) {
            Some(entry) => {
                found = Some(entry.start..entry.end);
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        }
    })?;
    Ok(found)
}

/// Calls a function for each line, until it breaks or a limit is reached. Returns whether that was
/// neither.
fn for_each_line(
    mut text: impl BufRead,
    mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<bool> {
    let (begin, mut bytes, mut line) = (Instant::now(), 0, Vec::new());
    for number in 0..LINES_MAX {
        line.clear();
        let read = text.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(true);
        }
        bytes += read as u64;
        let is_late =
            number % LINES_PER_CLOCK_READ == LINES_PER_CLOCK_READ - 1 && begin.elapsed() > TIME_MAX;
        if bytes > BYTES_MAX || is_late || each(&line).is_break() {
            return Ok(false);
        }
    }
    Ok(false)
}

fn is_wanted(entry: &MapsEntry, addresses: &[u64]) -> bool {
    let first = addresses.partition_point(|address| *address < entry.start);
    addresses.is_empty() || addresses.get(first).is_some_and(|address| *address < entry.end)
}

/// Returns whether a line is of executable memory. Most are not: they are not worth a conversion to
/// text.
fn is_executable(line: &[u8]) -> bool {
    let permissions = line.iter().position(|byte| *byte == b' ');
    permissions.is_some_and(|space| line.get(space + 3) == Some(&b'x'))
}

/// Returns whether a line may be of a file: it has a path.
fn is_of_file(line: &[u8]) -> bool {
    line.contains(&b'/')
}

/// Parses a line such as `55d0-55d4 r-xp 00002000 fd:01 1234   /usr/bin/x y`.
fn parse(line: &[u8]) -> Option<MapsEntry> {
    let line = String::from_utf8_lossy(line);
    let (range, rest) = line.trim_end_matches('\n').split_once(' ')?;
    let (permissions, rest) = rest.split_once(' ')?;
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
        is_executable: permissions.as_bytes().get(2) == Some(&b'x'),
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

    fn entries(text: &str) -> Vec<MapsEntry> {
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
            is_executable: true,
        };
        assert_eq!(entries(line), [expected]);
        assert_eq!(entries(&line.replace("r-xp", "rw-p")), []);
    }

    #[test]
    fn anonymous_memory_has_no_path() {
        assert_eq!(&*entries("7f00-7f80 rwxp 00000000 00:00 0 ")[0].path, "");
    }

    #[test]
    fn malformed_lines_are_skipped() {
        for line in ["", "x", "1-2 r-xp", "zz-2 r-xp 0 0:0 0 /x", "1-2 r-xp 0 0:0 x /x"] {
            assert_eq!(entries(line), [], "{line:?}");
        }
        let good = "1-2 r-xp 0 0:0 0 /x";
        assert_eq!(entries(&format!("nonsense\n{good}\n\u{fffd}-2 r-xp\n{good}")).len(), 2);
    }

    #[test]
    fn the_files_beside_executable_memory_are_known() {
        let text = "1000-2000 r--p 0 8:1 7 /a\n2000-3000 r--p 1000 8:1 7 /a\n\
                    3000-4000 r-xp 0 0:0 0 \n4000-5000 r-xp 0 0:0 0 \n\
                    6000-7000 r--p 0 8:1 8 /b\n7000-8000 r-xp 1000 8:1 8 /b\n\
                    9000-a000 r-xp 0 0:0 0 [jit]\na000-b000 rw-p 2000 8:1 9 /c\n\
                    b000-c000 rw-p 3000 8:1 9 /c\nc000-d000 r-xp 4000 8:1 9 /c";
        let found: Vec<_> = entries(text).iter().map(|e| (e.start, e.is_executable)).collect();
        let expected = [
            (0x2000, false),
            (0x3000, true),
            (0x4000, true),
            (0x6000, false),
            (0x7000, true),
            (0x9000, true),
            (0xa000, false),
            (0xc000, true),
        ];
        assert_eq!(found, expected);
        let start = |inode| find_start_of_file(text.as_bytes(), (8, 1, inode)).expect("readable");
        assert_eq!(
            [start(7), start(8), start(9)],
            [Some(0x1000..0x2000), Some(0x6000..0x7000), None]
        );
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
