//! Explains why the kernel rejects the sampler, in one sentence with the next step.

use anyhow::{Error, anyhow};
use rustix::process::geteuid;

use crate::host::Capabilities;
use crate::kernel::{LoadError, LoadErrorKind};
use profile::printable;

/// All capabilities in use, as setcap takes them.
const CAPABILITIES: &str = "cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_syslog";

/// Explains why the sampler cannot be loaded.
pub(super) fn explain(error: LoadError) -> Error {
    let missing = Capabilities::effective().required_and_missing();
    if error.kind() == LoadErrorKind::Denied && !missing.is_empty() {
        return anyhow!(
            "profiling needs {}; {}",
            missing.join(" and "),
            how_to_get_capabilities(&own_path())
        );
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

/// Returns the next step. `program`: path of this program.
fn how_to_get_capabilities(program: &str) -> String {
    if geteuid().is_root() {
        return "root lacks them here: add them to the container or service".into();
    }
    format!(
        "run it as root, as in `sudo everytick record`, or let all users of this program profile \
         the machine: `sudo setcap {CAPABILITIES}+ep {program}`"
    )
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
