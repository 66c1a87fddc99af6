//! Reads the state of processes from procfs: of those that ran before the side band was opened, and
//! of those whose events were missed.

use profile::{Pid, Tid, VirtAddr};

use crate::events::{FileIdentity, MmapEvent, now};
use crate::procfs::{self, MapsEntry, ProcessStat};

/// Exited threads that are skipped in search of one that runs.
const ZOMBIES_MAX: usize = 64;

/// The state of one process in procfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedProcess {
    /// The process.
    pub pid: Pid,
    /// All events up to this time are included; nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// Name of its main thread.
    pub comm: Box<str>,
    /// Running threads.
    pub threads: u32,
    /// Executable mappings.
    pub mappings: Vec<MmapEvent>,
}

/// Reads all processes, one after another. Those that exit before they are read are left out.
pub fn scan_processes() -> impl Iterator<Item = ScannedProcess> {
    procfs::pids().filter_map(|pid| scan_process(Pid(pid)))
}

/// Reads one process; `None` when it has exited.
pub fn scan_process(pid: Pid) -> Option<ScannedProcess> {
    let time = now();
    let ProcessStat { comm, threads, is_zombie, .. } = procfs::stat(pid.0)?;
    let tid = if is_zombie { running_thread(pid)? } else { Tid(pid.0) };
    let maps = procfs::executable_maps(tid.0).ok()?;
    let mappings = maps.into_iter().map(|entry| mmap_event(pid, tid, entry)).collect();
    Some(ScannedProcess { pid, time, comm, threads, mappings })
}

/// Finds a thread that is still running although the main thread has exited.
fn running_thread(pid: Pid) -> Option<Tid> {
    let is_running = |tid: &u32| procfs::stat(*tid).is_some_and(|stat| !stat.is_zombie);
    procfs::thread_ids(pid.0).take(ZOMBIES_MAX).find(is_running).map(Tid)
}

fn mmap_event(pid: Pid, tid: Tid, entry: MapsEntry) -> MmapEvent {
    let MapsEntry { start, end, offset, major, minor, inode, path } = entry;
    MmapEvent {
        pid,
        tid,
        start: VirtAddr(start),
        end: VirtAddr(end),
        offset,
        file: FileIdentity { major, minor, inode },
        path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_found_with_its_code() {
        let pid = Pid(std::process::id());
        let own = scan_processes().find(|scanned| scanned.pid == pid).expect("it runs");
        let path = std::env::current_exe().expect("it has a file");
        let path = path.to_str().expect("UTF-8");
        assert!(own.mappings.iter().any(|mapped| &*mapped.path == path), "{own:?}");
    }
}
