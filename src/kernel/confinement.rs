//! The confinement of a worker process that parses files of other users: it can compute, answer on
//! its socket and read the files that it was given, and nothing else.
//!
//! It limits the damage if a crafted file takes over the parser that reads it. Each part works
//! without the others, so what the running kernel lacks is left out.

use std::collections::BTreeMap;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// System calls of a worker: memory, its socket, the files that it holds, time, limits on itself,
/// and what a panic or an abort takes. Any other fails with EPERM.
const SYSTEM_CALLS: [i64; 43] = [
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    // The socket, and files that are open.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_fcntl,
    libc::SYS_close,
    // Time, random numbers of hash tables, limits.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_prlimit64,
    libc::SYS_setrlimit,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    // The process itself and its end.
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Confines the calling thread, for good: no privileges, no path, no other process, no network.
///
/// # Errors
/// When privileges cannot be given up.
pub fn confine() -> io::Result<()> {
    set_no_new_privs(true)?;
    deny_paths();
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    deny_system_calls();
    Ok(())
}

/// Denies all paths, ports, and signals to other processes, as far as the kernel knows Landlock.
fn deny_paths() {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    let ruleset = ruleset
        .handle_access(AccessFs::from_all(ABI::V6))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI::V6)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI::V6)));
    // A kernel without Landlock reports that nothing is enforced.
    let _ = ruleset.and_then(Ruleset::create).map(|created| created.restrict_self());
}

/// Denies all but [`SYSTEM_CALLS`], if the kernel filters system calls.
fn deny_system_calls() {
    let rules: BTreeMap<i64, Vec<_>> =
        SYSTEM_CALLS.iter().map(|number| (*number, Vec::new())).collect();
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, TargetArch::x86_64);
    let program: Result<BpfProgram, _> = filter.and_then(TryInto::try_into);
    if let Ok(program) = program {
        let _ = apply_filter(&program);
    }
}
