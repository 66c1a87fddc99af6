//! Filters on the command line, translated to the form in which the kernel applies them.

use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};

use super::cgroups;
use super::cli::RecordArguments;
use crate::kernel::Filters;
use crate::kernel::abi::{COMM_LEN, CommKey};
use crate::procfs::start_ticks;

/// Inode number of the initial pid namespace, fixed in the kernel (PROC_PID_INIT_INO).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Returns the filters of `record`.
pub(super) fn filters(arguments: &RecordArguments) -> Result<Filters> {
    let mut filters =
        Filters { processes: processes(&arguments.sampling.pids)?, ..Filters::default() };
    for path in &arguments.cgroups {
        filters.cgroups.extend(cgroups::keys_of(path)?);
    }
    for name in &arguments.comms {
        ensure!(
            !name.is_empty() && name.len() < COMM_LEN,
            "--comm {name:?}: names in the kernel have 1 to {} bytes; give what `ps -o comm` shows",
            COMM_LEN - 1
        );
        filters.comms.push(CommKey::new(name));
    }
    Ok(filters)
}

/// Returns each pid with the start time of its process, which distinguishes it from a later process
/// with the same pid.
pub(super) fn processes(pids: &[u32]) -> Result<Vec<(u32, u64)>> {
    let with_start = |pid: &u32| {
        let start = start_ticks(*pid)
            .with_context(|| format!("there is no process {pid}; `ps -e` lists all processes"))?;
        Ok((*pid, start))
    };
    pids.iter().map(with_start).collect()
}

/// Returns the inode number of our pid namespace, or `None` for the initial one. In another one the
/// BPF programs translate every pid, and skip processes that the namespace does not show.
pub(super) fn pid_namespace() -> Result<Option<u32>> {
    let shown = std::fs::read_link("/proc/self").context("cannot read /proc; mount it there")?;
    ensure!(
        shown.to_str() == Some(&std::process::id().to_string()),
        "/proc shows another pid namespace than ours; run `mount -t proc proc /proc` in ours, \
         or start everytick in the host's (hostPID)"
    );
    let inode =
        std::fs::metadata("/proc/self/ns/pid").context("cannot read /proc/self/ns/pid")?.ino();
    Ok((inode != INITIAL_PID_NAMESPACE).then_some(inode as u32))
}
