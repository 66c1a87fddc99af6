//! Filters on the command line, translated to the form in which the kernel applies them.

use anyhow::{Context, Result, ensure};

use super::cgroups;
use super::cli::RecordArguments;
use crate::kernel::Filters;
use crate::kernel::abi::{COMM_LEN, CommKey};
use crate::procfs::start_ticks;

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
