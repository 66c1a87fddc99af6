//! Finds and reads perf maps and jitdumps, in the worker.
//!
//! The process chooses what is at the path of its map. So the path is followed below the root of
//! the process only, its last part is not followed, and what is there is opened only if it is a
//! regular file of the process's own user. Of a jitdump, the mapping decides which file it is.
//!
//! A process has one map: the jitdump that it has mapped, unless that is refused, else its perf
//! map. A jitdump that is held is replaced by none but another jitdump.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

use super::jit_dump;
use super::locate::{locate, read_up_to};
use super::proto::{JitDumpRequest, PerfMapMessage, PerfMapRequest};

use crate::processes::code_name_gap::CodeNameGap;
use crate::processes::perf_maps::parse;
use crate::processes::untrusted_path::{RootDirectory, open_regular};
use crate::procfs::{self, ProcessStatus};

/// Bytes read for one request.
const PART: usize = 256 << 10;
/// Bytes that tell whether a file was written anew.
const TAIL: usize = 64;
/// How much earlier than its process a map may seem to be written: clocks differ by their ticks.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// A map that was found.
struct FoundMap {
    /// Not open for reading.
    file: File,
    /// If it is a jitdump: the number in its name.
    jit_dump: Option<u32>,
}

/// Reads the next part of a process's map. Returns also the map if it is another file than the one
/// that the agent holds.
///
/// # Errors
/// As reading does.
pub(super) fn read(request: &PerfMapRequest) -> io::Result<(PerfMapMessage, Option<File>)> {
    let held = match request.held.as_str() {
        "" => None,
        path => Some(File::open(path)?),
    };
    let found = match (find(request), held) {
        (Ok(found), Some(held)) if is_same(&found.file, &held)? => Ok((held, None)),
        (Ok(found), _) => open_regular(&found.file).map(|file| (file, Some(found))).map_err(gap_of),
        (Err(_), Some(held)) => Ok((held, None)),
        (Err(gap), None) => Err(gap),
    };
    match found {
        Ok((file, found)) => {
            let jit_dump = found.as_ref().map_or(request.held_jit_dump, |found| found.jit_dump);
            let part = read_part(request, &file, jit_dump, found.is_some())?;
            Ok((part, found.map(|found| found.file)))
        }
        Err(gap) => Ok((PerfMapMessage { gap: gap as u32 + 1, ..Default::default() }, None)),
    }
}

/// Reads the part that follows what was read; from the start if the file is `other` than before, or
/// was written anew. `jit_dump`: the number in the name of a jitdump.
fn read_part(
    request: &PerfMapRequest,
    file: &File,
    jit_dump: Option<u32>,
    is_other: bool,
) -> io::Result<PerfMapMessage> {
    let tail_start = request.offset.saturating_sub(request.tail.len() as u64);
    let mut tail = vec![0; request.tail.len()];
    let is_continued = !is_other
        && read_up_to(file, &mut tail, tail_start)? == tail.len()
        && tail == request.tail
        && file.metadata()?.len() >= request.offset;
    let offset = if is_continued { request.offset } else { 0 };
    let part = match jit_dump {
        Some(pid) => jit_dump::read_part(file, offset, (pid, request.is_last), PART, TAIL)?,
        None => read_lines(file, offset, request.is_last, &tail)?,
    };
    Ok(PerfMapMessage { is_new: !is_continued, ..part })
}

/// Parses the part of a perf map that is at an offset. `tail`: the bytes before it.
fn read_lines(file: &File, offset: u64, is_last: bool, tail: &[u8]) -> io::Result<PerfMapMessage> {
    let mut bytes = vec![0; PART];
    let length = read_up_to(file, &mut bytes, offset)?;
    let is_end = length < PART;
    let parsed = parse(&bytes[..length], is_end && is_last, PART);
    let tail_end = if parsed.consumed > 0 { &bytes[..parsed.consumed] } else { tail };
    Ok(PerfMapMessage {
        entries: parsed.entries,
        offset: offset + parsed.consumed as u64,
        tail: tail_end[tail_end.len().saturating_sub(TAIL)..].to_vec(),
        parsed: parsed.consumed as u64,
        malformed: parsed.malformed,
        has_more: !is_end,
        ..PerfMapMessage::default()
    })
}

/// Finds the map of a process without opening it.
fn find(request: &PerfMapRequest) -> Result<FoundMap, CodeNameGap> {
    let PerfMapRequest { pid, tid, .. } = *request;
    let status = procfs::status(pid);
    if procfs::thread_group(tid) != Some(pid) {
        return Err(CodeNameGap::NoMap); // it has exited
    }
    let jit_dump = request.jit_dump.as_ref();
    let refusal = match jit_dump.map(|jit_dump| find_jit_dump(jit_dump, pid, &status)) {
        Some(Ok(file)) => {
            return Ok(FoundMap { file, jit_dump: jit_dump.map(|jit_dump| jit_dump.pid) });
        }
        _ if request.held_jit_dump.is_some() => return Err(CodeNameGap::NoMap),
        Some(Err(refusal)) => refusal,
        None => CodeNameGap::NoMap,
    };
    match find_perf_map(tid, pid, &status) {
        Ok(file) => Ok(FoundMap { file, jit_dump: None }),
        Err(CodeNameGap::NoMap) => Err(refusal),
        Err(gap) => Err(gap),
    }
}

fn find_jit_dump(
    request: &JitDumpRequest,
    pid: u32,
    status: &ProcessStatus,
) -> Result<File, CodeNameGap> {
    let found = locate(&request.mapping).map_err(gap_of)?;
    check(&found, pid, status)?;
    jit_dump::check_header(&found)?;
    Ok(found)
}

fn find_perf_map(tid: u32, pid: u32, status: &ProcessStatus) -> Result<File, CodeNameGap> {
    let number = status.namespace_pid.unwrap_or(pid);
    let root = RootDirectory::of_thread(tid).map_err(gap_of)?;
    let found = root.find_temporary(&format!("perf-{number}.map"));
    let found = found.map_err(|error| gap_of(error.into()))?;
    check(&found, pid, status)?;
    Ok(found)
}

/// Checks that a map is a regular file of the process's own user, and of its time.
fn check(found: &File, pid: u32, status: &ProcessStatus) -> Result<(), CodeNameGap> {
    let attributes = found.metadata().map_err(gap_of)?;
    if !attributes.is_file() {
        return Err(CodeNameGap::NotRegular);
    }
    if Some(attributes.uid()) != status.effective_uid {
        return Err(CodeNameGap::OtherOwner);
    }
    let written = Duration::new(attributes.mtime().max(0) as u64, attributes.mtime_nsec() as u32);
    match started_at(pid) {
        Some(started) if written + CLOCK_TOLERANCE < started => Err(CodeNameGap::Stale),
        _ => Ok(()),
    }
}

fn gap_of(error: io::Error) -> CodeNameGap {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP | Errno::INVAL) => CodeNameGap::NotRegular,
        _ => CodeNameGap::NoMap,
    }
}

fn is_same(found: &File, held: &File) -> io::Result<bool> {
    let (found, held) = (found.metadata()?, held.metadata()?);
    Ok((found.dev(), found.ino()) == (held.dev(), held.ino()))
}

/// Returns the time since 1970 at which a process started.
fn started_at(pid: u32) -> Option<Duration> {
    let ticks = procfs::start_ticks(pid)? as f64 / clock_ticks_per_second() as f64;
    let boot = clock_gettime(ClockId::Boottime);
    let since_boot = Duration::new(boot.tv_sec as u64, boot.tv_nsec as u32);
    let booted = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.checked_sub(since_boot)?;
    Some(booted + Duration::from_secs_f64(ticks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// The map of this process, removed when it is dropped. There is one at a time.
    struct OwnMap {
        path: String,
        _lock: MutexGuard<'static, ()>,
    }

    impl OwnMap {
        fn new() -> Self {
            let status = procfs::own_status();
            let pid = status.namespace_pid.expect("a kernel with pid namespaces");
            static ONE: Mutex<()> = Mutex::new(());
            let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
            Self { path: format!("/tmp/perf-{pid}.map"), _lock: one }
        }

        fn write(&self, text: &str) {
            fs::write(&self.path, text).expect("written");
        }
    }

    impl Drop for OwnMap {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.path);
        }
    }

    fn names(part: &PerfMapMessage) -> Vec<&str> {
        part.entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    /// Reads the part after another one.
    fn next(after: &PerfMapMessage, held: &str) -> PerfMapMessage {
        let pid = std::process::id();
        let (held, offset, tail) = (held.to_owned(), after.offset, after.tail.clone());
        let request = PerfMapRequest { pid, tid: pid, held, offset, tail, ..Default::default() };
        read(&request).expect("readable").0
    }

    #[test]
    fn a_map_is_followed_as_it_grows_and_read_anew_when_it_was_replaced() {
        let map = OwnMap::new();
        let none = PerfMapMessage::default();
        assert_eq!(next(&none, "").gap, CodeNameGap::NoMap as u32 + 1);
        map.write("1 1 a\n2 1 b\n3 1");
        let first = next(&none, "");
        assert_eq!((names(&first), first.gap, first.is_new), (vec!["a", "b"], 0, true));
        let path = map.path.clone();
        map.write("1 1 a\n2 1 b\n3 1 c\n");
        let second = next(&first, &path);
        assert_eq!((names(&second), second.is_new), (vec!["c"], false));
        let nothing = next(&second, &path);
        assert_eq!((names(&nothing), nothing.offset, nothing.has_more), (vec![], 18, false));
        map.write("1 1 d\n");
        let shorter = next(&nothing, &path);
        assert_eq!((names(&shorter), shorter.is_new), (vec!["d"], true));
        map.write("1 1 e\n2 1 f\n");
        let other = next(&shorter, &path);
        assert_eq!((names(&other), other.is_new), (vec!["e", "f"], true));

        // What is no map of this process is refused.
        let gap = || next(&none, "").gap;
        fs::File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(UNIX_EPOCH + Duration::from_secs(9)))
            .expect("changed");
        assert_eq!(gap(), CodeNameGap::Stale as u32 + 1);
        fs::remove_file(&path).expect("removed");
        symlink("/proc/self/maps", &path).expect("created");
        assert_eq!(gap(), CodeNameGap::NotRegular as u32 + 1);
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("created");
        assert_eq!(gap(), CodeNameGap::NotRegular as u32 + 1);
        fs::remove_dir(&path).expect("removed");
    }

    #[test]
    fn a_jitdump_that_is_held_is_followed_and_no_perf_map_replaces_it() {
        let map = OwnMap::new();
        let place = tempfile::tempdir().expect("a directory");
        let held = place.path().join("jit-7.dump").display().to_string();
        let header = [0x4a69_5444, 1, 40, 62, 0, 7, 0, 0, 0, 0].map(u32::to_ne_bytes).concat();
        let load = |name: &str| {
            let ids = [0, 57 + name.len() as u32 + 8, 1, 0, 7, 7].map(u32::to_ne_bytes).concat();
            let numbers = [1, 1, 8, 1].map(u64::to_ne_bytes).concat();
            [&ids, &numbers, name.as_bytes(), b"\0_code__\n"].concat()
        };
        let read = |after: &PerfMapMessage| {
            let (offset, tail) = (after.offset, after.tail.clone());
            let (pid, held, held_jit_dump) = (std::process::id(), held.clone(), Some(7));
            let request =
                PerfMapRequest { pid, tid: pid, held, offset, tail, ..Default::default() };
            super::read(&PerfMapRequest { held_jit_dump, ..request }).expect("readable")
        };
        fs::write(&held, [&header[..], &load("a")].concat()).expect("written");
        let (first, _) = read(&PerfMapMessage::default());
        assert_eq!((names(&first), first.is_jit_dump), (vec!["a"], true));
        map.write("1 1 of the perf map\n");
        fs::write(&held, [&header[..], &load("a"), &load("b")].concat()).expect("written");
        let (second, file) = read(&first);
        assert_eq!((names(&second), second.is_new, file.is_none()), (vec!["b"], false, true));
        fs::write(&held, [&header[..], &load("c"), &load("d")].concat()).expect("written");
        let (other, file) = read(&second);
        assert_eq!((names(&other), other.is_new, file.is_none()), (vec!["c", "d"], true, true));
    }
}
