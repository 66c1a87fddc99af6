//! Explains why the kernel rejects the sampler, in one sentence with the next step.

use anyhow::{Error, anyhow};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::host::Capabilities;
use crate::kernel::{LoadError, LoadErrorKind, PerfError};
use profile::printable;

/// All capabilities in use, as setcap takes them.
const CAPABILITIES: &str = "cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_syslog";

/// Explains why the sampler cannot be loaded.
pub(super) fn explain(error: LoadError) -> Error {
    let missing = Capabilities::effective().required_and_missing();
    if error.kind() == LoadErrorKind::Denied && !missing.is_empty() {
        return anyhow!("profiling needs {}; {}", missing.join(" and "), how_to_get_capabilities());
    }
    match (&error, error.kind()) {
        (LoadError::Bpf { .. }, LoadErrorKind::Denied) => anyhow!(
            "the kernel denies bpf(2) despite the required capabilities, because of a seccomp \
             profile, lockdown or, before Linux 5.11, a low RLIMIT_MEMLOCK; run with seccomp \
             unconfined and `ulimit -l unlimited`, or see `everytick doctor`"
        ),
        (LoadError::Perf(_), LoadErrorKind::Denied | LoadErrorKind::Unsupported) => anyhow!(
            "the kernel denies perf_event_open(2) despite the required capabilities, because of a \
             seccomp profile; run with seccomp unconfined, or see `everytick doctor`"
        ),
        (LoadError::Bpf { log, .. }, _) => match verifier_reason(log) {
            Some(reason) => anyhow!("{error}: {reason}; see `everytick doctor`"),
            None => anyhow!("{error}; see `everytick doctor`"),
        },
        _ => Error::new(error),
    }
}

/// Explains why clocks of own processes cannot be opened.
pub(super) fn explain_tasks(error: LoadError) -> Error {
    let errno = |error: &PerfError| Errno::from_io_error(&error.source);
    match &error {
        LoadError::Rings { source, .. } if errno(source) == Some(Errno::PERM) => anyhow!(
            "{error}; allow this user to lock more memory: raise RLIMIT_MEMLOCK (`ulimit -l`) or \
             kernel.perf_event_mlock_kb, or select fewer CPUs with -C"
        ),
        LoadError::Perf(refused) if errno(refused) == Some(Errno::MFILE) => anyhow!(
            "{error}: each thread needs two on each CPU; raise the limit (`ulimit -n`), or select \
             threads with -t"
        ),
        LoadError::Perf(refused @ PerfError { task: Some(tid), .. })
            if matches!(errno(refused), Some(Errno::ACCESS | Errno::PERM)) =>
        {
            anyhow!(
                "thread {} is not of a process of this user, or may not be traced; {}",
                tid.0,
                how_to_get_capabilities()
            )
        }
        _ => Error::new(error),
    }
}

/// Returns the next step of a user without capabilities.
pub(super) fn how_to_get_capabilities() -> String {
    if geteuid().is_root() {
        return "root lacks them here: add them to the container or service".into();
    }
    format!(
        "run it as root, as in `sudo everytick record`, or let all users of this program profile \
         the machine: `{}`",
        setcap_command()
    )
}

/// Returns the command that grants this program the capabilities.
pub(super) fn setcap_command() -> String {
    format!("sudo setcap {CAPABILITIES}+ep {}", own_path())
}

fn own_path() -> String {
    let path = std::env::current_exe().unwrap_or_else(|_| "everytick".into());
    printable(&path.display().to_string()).into_owned()
}

/// Returns the last line of the verifier, which has the reason. libbpf's own lines follow it.
fn verifier_reason(log: &str) -> Option<&str> {
    let is_from_libbpf = |line: &str| {
        line.is_empty()
            || line.starts_with("processed ")
            || line.starts_with("-- ")
            || line.contains("failed to load")
    };
    log.lines().map(str::trim).rfind(|line| !is_from_libbpf(line))
}

#[cfg(test)]
mod tests {
    use super::verifier_reason;

    #[test]
    fn reason_is_the_last_line_of_the_verifier() {
        let log = "libbpf: prog 'sample': BPF program load failed: -EINVAL\n\
                   -- BEGIN PROG LOAD LOG --\n\
                   0: (85) call unknown#1\n\
                   invalid func unknown#1\n\
                   processed 1 insns (limit 1000000) max_states_per_insn 0\n\
                   -- END PROG LOAD LOG --\n\
                   libbpf: prog 'sample': failed to load: -EINVAL\n";
        assert_eq!(verifier_reason(log), Some("invalid func unknown#1"));
    }
}
