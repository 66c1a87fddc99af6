//! Our pid namespace.

use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};

/// Inode number of the initial pid namespace, fixed in the kernel (PROC_PID_INIT_INO).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Returns the inode number of our pid namespace, or `None` for the initial one. In another one the
/// BPF programs translate every pid, and skip processes that the namespace does not show.
///
/// # Errors
/// When /proc is missing or shows another pid namespace.
pub fn pid_namespace() -> Result<Option<u32>> {
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
