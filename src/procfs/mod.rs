//! The reader of procfs: bounded reads, and one parser per file.
//!
//! Every process chooses its name, its mappings and the names of its cgroups, so each file is
//! untrusted input. A parser takes text, not a path; it skips malformed lines and never fails as a
//! whole. Reads are bounded in bytes, lists in entries.

mod cgroup;
mod cpu_stat;
mod fdinfo;
mod maps;
mod mountinfo;
mod stat;
mod status;

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::OnceLock;
use std::time::Duration;

pub use cgroup::{CgroupEntry, CgroupVersion, parse_cgroups};
pub use cpu_stat::CpuStat;
use fdinfo::bpf_map_bytes;
pub use maps::{ExecutableMaps, MapsEntry, without_deleted};
use maps::{find_start_of_file, read_executable_maps};
pub use mountinfo::{Mount, parse_mounts};
pub use stat::ProcessStat;
pub use status::ProcessStatus;

/// Longest text read from one file: 32,768 mappings of 128 bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Longest command line, in characters.
const COMMAND_LINE_MAX: usize = 256;
/// Most files are shorter than this.
const FILE_BYTES_USUAL: usize = 8 << 10;
/// Bytes of the status of the calling process that are read. It has 1,500.
const OWN_STATUS_MAX: usize = 8 << 10;

/// Reads a file up to 4 MiB as text; bytes that are not UTF-8 are replaced.
///
/// # Errors
/// As reading does: the process may exit at any time.
pub fn read_text(path: &str) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(FILE_BYTES_USUAL);
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Reads `/proc/ID/stat` of a process or thread; `None` when it does not exist.
pub fn stat(id: u32) -> Option<ProcessStat> {
    ProcessStat::parse(&read_text(&format!("/proc/{id}/stat")).ok()?)
}

/// Returns when a process started, in clock ticks since boot; `None` when it does not exist.
pub fn start_ticks(pid: u32) -> Option<u64> {
    Some(stat(pid)?.start_ticks)
}

/// Reads `/proc/PID/status`; all values are 0 when the process does not exist.
pub fn status(pid: u32) -> ProcessStatus {
    ProcessStatus::parse(&read_text(&format!("/proc/{pid}/status")).unwrap_or_default())
}

/// Returns the process that a thread is of; `None` when there is no such thread.
pub fn thread_group(tid: u32) -> Option<u32> {
    ProcessStatus::parse(&read_text(&format!("/proc/{tid}/status")).ok()?).pid
}

/// Reads the status of the calling process, from a file that stays open: a confined process can
/// open none.
pub fn own_status() -> ProcessStatus {
    static FILE: OnceLock<Option<File>> = OnceLock::new();
    let file = FILE.get_or_init(|| File::open("/proc/self/status").ok());
    let mut text = [0; OWN_STATUS_MAX];
    let bytes = file.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
    ProcessStatus::parse(&String::from_utf8_lossy(&text[..bytes]))
}

/// Reads the CPU time of all CPUs; `None` when procfs does not have it.
pub fn cpu_stat() -> Option<CpuStat> {
    CpuStat::parse(&read_text("/proc/stat").ok()?)
}

/// Lists all processes that procfs shows.
pub fn pids() -> impl Iterator<Item = u32> {
    numbered_entries("/proc")
}

/// Lists the threads of a process.
pub fn thread_ids(pid: u32) -> impl Iterator<Item = u32> {
    numbered_entries(&format!("/proc/{pid}/task"))
}

/// Lists the threads of the calling process.
pub fn own_thread_ids() -> impl Iterator<Item = u32> {
    numbered_entries("/proc/self/task")
}

/// Returns name and CPU time of a thread of the calling process; `None` when it does not exist.
pub fn own_thread(tid: u32) -> Option<(String, Duration)> {
    let read = |file: &str| read_text(&format!("/proc/self/task/{tid}/{file}")).ok();
    let name = read("comm")?.trim_end().to_owned();
    // schedstat has nanoseconds, but kernels can be built without it.
    let exact = read("schedstat").and_then(|text| text.split(' ').next()?.parse().ok());
    let used = match exact {
        Some(nanoseconds) if nanoseconds > 0 => Duration::from_nanos(nanoseconds),
        _ => ProcessStat::parse(&read("stat")?)?.cpu,
    };
    Some((name, used))
}

/// Exited threads that are skipped in search of one that runs.
const ZOMBIES_MAX: usize = 64;

/// Finds a thread of a process that is still running although the main thread may have exited.
pub fn running_thread(pid: u32) -> Option<u32> {
    let is_running = |tid: &u32| stat(*tid).is_some_and(|stat| !stat.is_zombie);
    thread_ids(pid).take(ZOMBIES_MAX).find(is_running)
}

/// Reads the name of a thread; `None` when it does not exist.
pub fn thread_name(pid: u32, tid: u32) -> Option<String> {
    let text = read_text(&format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// Lists the running child processes of the calling process.
pub fn child_pids() -> Vec<u32> {
    let own_pid = std::process::id();
    let children = thread_ids(own_pid)
        .filter_map(|tid| read_text(&format!("/proc/{own_pid}/task/{tid}/children")).ok());
    children.flat_map(|text| parse_numbers(&text)).collect()
}

/// Returns one argument of a process's command line; empty when there is none.
pub fn argument(pid: u32, index: usize) -> String {
    let line = read_text(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split('\0').nth(index).unwrap_or_default().to_owned()
}

/// Reads the command line of a process or thread, arguments joined by spaces and cut at 256
/// characters; empty for kernel threads. Waits while the process changes its memory, which may be
/// for ever: of other processes, only the file helper reads it.
///
/// # Errors
/// As reading does.
pub fn command_line(id: u32) -> io::Result<String> {
    let line = read_text(&format!("/proc/{id}/cmdline"))?;
    let mut text = line.trim_end_matches('\0').replace('\0', " ");
    if let Some((end, _)) = text.char_indices().nth(COMMAND_LINE_MAX) {
        text.truncate(end);
        text.push_str("...");
    }
    Ok(text)
}

/// Reads the mappings of a process or thread that are executable. `addresses`: only those that
/// contain one of these, in ascending order; empty for all. Waits while the process changes its
/// memory, which may be for ever: of other processes, only the file helper reads them.
///
/// # Errors
/// As reading does.
pub fn executable_maps(id: u32, addresses: &[u64]) -> io::Result<ExecutableMaps> {
    OpenedMaps::open(id)?.executable(addresses)
}

/// The mappings of the program that a process or thread ran when this was opened.
pub struct OpenedMaps(File);

impl OpenedMaps {
    /// Opens the list of them.
    ///
    /// # Errors
    /// As opening does.
    pub fn open(id: u32) -> io::Result<Self> {
        Ok(Self(File::open(format!("/proc/{id}/maps"))?))
    }

    /// Reads them as [`executable_maps`] does. There are none if the process has called exec since.
    ///
    /// # Errors
    /// As reading does.
    pub fn executable(self, addresses: &[u64]) -> io::Result<ExecutableMaps> {
        read_executable_maps(BufReader::with_capacity(FILE_BYTES_USUAL, self.0), addresses)
    }
}

/// Returns where a process or thread has mapped the first bytes of a file: major and minor number
/// of its device, and its inode. Waits as [`executable_maps`] does.
///
/// # Errors
/// As reading does.
pub fn start_of_file(id: u32, file: (u32, u32, u64)) -> io::Result<Option<Range<u64>>> {
    let maps = File::open(format!("/proc/{id}/maps"))?;
    find_start_of_file(BufReader::with_capacity(FILE_BYTES_USUAL, maps), file)
}

/// Returns the name of a process.
///
/// # Errors
/// When it does not exist.
pub fn comm(pid: u32) -> io::Result<String> {
    Ok(read_text(&format!("/proc/{pid}/comm"))?.trim_end().to_owned())
}

/// Returns the real user ID of a process; `None` when it does not exist.
pub fn uid(pid: u32) -> Option<u32> {
    // In procfs, processes that cannot be traced belong to root, whichever user runs them.
    match fs::metadata(format!("/proc/{pid}")).ok()?.uid() {
        0 => ProcessStatus::parse(&read_text(&format!("/proc/{pid}/status")).ok()?).uid,
        uid => Some(uid),
    }
}

/// Sums the memory of all BPF maps that the calling process holds open, in bytes.
pub fn own_bpf_map_bytes() -> u64 {
    let entries = fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten();
    bpf_map_bytes(entries.filter_map(|entry| read_text(entry.path().to_str()?).ok()))
}

fn numbered_entries(directory: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parse_numbers(text: &str) -> Vec<u32> {
    text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_listed_with_its_threads() {
        let own_pid = std::process::id();
        assert!(pids().any(|pid| pid == own_pid));
        assert!(thread_ids(own_pid).any(|tid| tid == own_pid));
    }

    #[test]
    fn opened_maps_are_those_of_the_program_before_exec() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "read line; exec sleep 60"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("it starts");
        let is_sleeping = |pid| command_line(pid).is_ok_and(|line| line.starts_with("sleep"));
        let is_shell = |pid| command_line(pid).is_ok_and(|line| line.starts_with("sh"));
        while !is_shell(shell.id()) {
            std::thread::yield_now();
        }
        let maps = OpenedMaps::open(shell.id()).expect("it runs");
        drop(shell.stdin.take());
        while !is_sleeping(shell.id()) {
            std::thread::yield_now();
        }
        assert!(maps.executable(&[]).expect("readable").entries.is_empty());
        assert!(!executable_maps(shell.id(), &[]).expect("readable").entries.is_empty());
        shell.kill().and_then(|()| shell.wait()).expect("it ends");
    }

    #[test]
    fn running_children_are_listed_with_their_command_line() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("it starts");
        let is_listed = child_pids().contains(&child.id());
        // For a moment of exec, a process has its new memory and no arguments in it.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let mut first = argument(child.id(), 1);
        while first.is_empty() && std::time::Instant::now() < until {
            std::thread::yield_now();
            first = argument(child.id(), 1);
        }
        child.kill().and_then(|()| child.wait()).expect("it exits");
        assert!(is_listed);
        assert_eq!(first, "60");
    }

    #[test]
    fn a_file_without_an_end_is_cut() {
        assert_eq!(read_text("/dev/zero").expect("readable").len() as u64, FILE_BYTES_MAX);
    }
}
