//! The pass over /proc at the start: what ran before the kernel began to tell.

use std::fs;

use profile::{Pid, Tid, VirtAddr};

use super::proc::{Stat, read_text, stat};
use crate::events::{FileIdentity, MmapEvent, now};

/// Ended threads that are passed over in search of one that runs.
const ZOMBIES_MAX: usize = 64;

/// What /proc told of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedProcess {
    /// The process.
    pub pid: Pid,
    /// All that happened up to then is in it, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// Name of its main thread.
    pub comm: Box<str>,
    /// Threads that run.
    pub threads: u32,
    /// Its executable mappings.
    pub mappings: Vec<MmapEvent>,
}

/// Gives every process that /proc shows, one after the other. Those that are gone by
/// the time they are read are left out.
pub fn scan_processes() -> impl Iterator<Item = ScannedProcess> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| scan_process(Pid(pid)))
}

/// Reads one process; `None` when it is gone.
pub fn scan_process(pid: Pid) -> Option<ScannedProcess> {
    let time = now();
    let Stat { comm, threads, is_zombie, .. } = stat(pid.0)?;
    let tid = if is_zombie { running_thread(pid)? } else { Tid(pid.0) };
    let maps = read_text(&format!("/proc/{tid}/maps")).ok()?;
    let mappings = maps.lines().filter_map(|line| parse_mapping(pid, tid, line)).collect();
    Some(ScannedProcess { pid, time, comm, threads, mappings })
}

/// Finds a thread that runs on although the main thread has ended.
fn running_thread(pid: Pid) -> Option<Tid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let tids = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
    tids.take(ZOMBIES_MAX).find(|tid| stat(*tid).is_some_and(|stat| !stat.is_zombie)).map(Tid)
}

/// Reads a line of `maps` if it is executable:
/// `55d0-55d4 r-xp 00002000 fd:01 1234   /usr/bin/x y`.
fn parse_mapping(pid: Pid, tid: Tid, line: &str) -> Option<MmapEvent> {
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
    Some(MmapEvent {
        pid,
        tid,
        start: VirtAddr(start),
        end: VirtAddr(end),
        offset: u64::from_str_radix(offset, 16).ok()?,
        file: FileIdentity {
            major: u32::from_str_radix(major, 16).ok()?,
            minor: u32::from_str_radix(minor, 16).ok()?,
            inode: inode.parse().ok()?,
        },
        path: path.trim_start().into(),
    })
}

/// Tells which file a thread has mapped at exactly these addresses, to be executed.
pub(super) fn file_mapped_at(tid: u32, start: u64, end: u64) -> Option<FileIdentity> {
    let maps = read_text(&format!("/proc/{tid}/maps")).ok()?;
    let mut mappings = maps.lines().filter_map(|line| parse_mapping(Pid(tid), Tid(tid), line));
    Some(mappings.find(|mapped| (mapped.start.0, mapped.end.0) == (start, end))?.file)
}

/// Reads two hexadecimal addresses with a dash between them.
pub(super) fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (start, end) = text.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executable_lines_count_and_paths_may_hold_spaces() {
        let line =
            "7f00-7f80 r-xp 00001000 fd:01 42                   /opt/my app/lib.so (deleted)";
        let expected = MmapEvent {
            pid: Pid(1),
            tid: Tid(1),
            start: VirtAddr(0x7f00),
            end: VirtAddr(0x7f80),
            offset: 0x1000,
            file: FileIdentity { major: 0xfd, minor: 1, inode: 42 },
            path: "/opt/my app/lib.so (deleted)".into(),
        };
        assert_eq!(parse_mapping(Pid(1), Tid(1), line), Some(expected));
        assert_eq!(parse_mapping(Pid(1), Tid(1), &line.replace("r-xp", "rw-p")), None);
    }

    #[test]
    fn anonymous_memory_has_no_path() {
        let mapped =
            parse_mapping(Pid(1), Tid(1), "7f00-7f80 rwxp 00000000 00:00 0 ").expect("executable");
        assert_eq!(&*mapped.path, "");
    }

    #[test]
    fn lines_that_are_no_mapping_are_left_out() {
        for line in ["", "x", "1-2 r-xp", "zz-2 r-xp 0 0:0 0 /x", "1-2 r-xp 0 0:0 x /x"] {
            assert_eq!(parse_mapping(Pid(1), Tid(1), line), None, "{line:?}");
        }
    }

    #[test]
    fn we_find_ourselves_with_our_own_code() {
        let pid = Pid(std::process::id());
        let me = scan_processes().find(|scanned| scanned.pid == pid).expect("we run");
        let path = std::env::current_exe().expect("we have a file");
        let path = path.to_str().expect("UTF-8");
        assert!(me.mappings.iter().any(|mapped| &*mapped.path == path), "{me:?}");
    }
}
