//! Explains why the kernel rejects the sampler, in one sentence with the next step.

use anyhow::{Error, anyhow};
use rustix::process::geteuid;

use crate::kernel::{LoadError, LoadErrorKind};
use crate::procfs;

/// Bits of include/uapi/linux/capability.h.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// A set of capabilities.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capabilities(u64);

impl Capabilities {
    /// Returns the effective capabilities of this process.
    pub fn effective() -> Self {
        Self(procfs::own_status().effective_capabilities)
    }

    fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// Returns the names of the capabilities that profiling needs and the set lacks.
    pub fn missing(self) -> Vec<&'static str> {
        if self.has(CAP_SYS_ADMIN) {
            return Vec::new();
        }
        let required = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")];
        required.into_iter().filter(|(bit, _)| !self.has(*bit)).map(|(_, name)| name).collect()
    }
}

/// Explains why the sampler cannot be loaded.
pub(super) fn explain(error: LoadError) -> Error {
    let missing = Capabilities::effective().missing();
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

fn how_to_get_capabilities() -> &'static str {
    if geteuid().is_root() {
        "root lacks them here: add them to the container or service"
    } else {
        "run it as root, as in `sudo everytick record`"
    }
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
