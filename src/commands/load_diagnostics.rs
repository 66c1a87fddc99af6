//! Why the kernel refuses to be profiled, in one sentence with the next step.

use anyhow::{Error, anyhow};
use rustix::process::geteuid;

use crate::kernel::{Answer, LoadError};
use crate::processes::proc::read_text;

/// The capability bits of include/uapi/linux/capability.h that profiling needs.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What this process may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capabilities(u64);

impl Capabilities {
    /// Reads those in force.
    pub fn own() -> Self {
        let status = read_text("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Self(line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0))
    }

    fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// Says which of those that profiling needs are missing.
    pub fn missing(self) -> Vec<&'static str> {
        if self.has(CAP_SYS_ADMIN) {
            return Vec::new();
        }
        let needed = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")];
        needed.into_iter().filter(|(bit, _)| !self.has(*bit)).map(|(_, name)| name).collect()
    }
}

/// Explains why the sampler could not be started.
pub(super) fn explain(error: LoadError) -> Error {
    let missing = Capabilities::own().missing();
    if error.answer() == Answer::Denied && !missing.is_empty() {
        return anyhow!("profiling needs {}; {}", missing.join(" and "), how_to_get_them());
    }
    match (&error, error.answer()) {
        (LoadError::Bpf { .. }, Answer::Denied) => anyhow!(
            "the kernel denies bpf(2) although we have the capabilities; a seccomp profile or \
             lockdown does that, before Linux 5.11 also a low RLIMIT_MEMLOCK: run with seccomp unconfined \
             and `ulimit -l unlimited`, or see `everytick doctor`"
        ),
        (LoadError::Perf(_), Answer::Denied | Answer::Unsupported) => anyhow!(
            "the kernel denies perf_event_open(2) although we have the capabilities; a seccomp \
             profile does that: run with seccomp unconfined, or see `everytick doctor`"
        ),
        (LoadError::Bpf { log, .. }, _) => match last_words(log) {
            Some(words) => anyhow!("{error}: {words}; see `everytick doctor`"),
            None => anyhow!("{error}; see `everytick doctor`"),
        },
        _ => Error::new(error),
    }
}

fn how_to_get_them() -> &'static str {
    if geteuid().is_root() {
        "we are root without them: add them to the container or service"
    } else {
        "run it as root, as in `sudo everytick record`"
    }
}

/// The last line of the log that says why: what the verifier says comes before libbpf's own conclusions.
fn last_words(log: &str) -> Option<&str> {
    let is_conclusion = |line: &str| {
        line.is_empty()
            || line.starts_with("processed ")
            || line.starts_with("-- ")
            || line.contains("failed to load")
    };
    log.lines().map(str::trim).rfind(|line| !is_conclusion(line))
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn the_verifiers_last_word_is_the_reason() {
        let log = "libbpf: prog 'sample': BPF program load failed: -EINVAL\n\
                   -- BEGIN PROG LOAD LOG --\n\
                   0: (85) call unknown#1\n\
                   invalid func unknown#1\n\
                   processed 1 insns (limit 1000000) max_states_per_insn 0\n\
                   -- END PROG LOAD LOG --\n\
                   libbpf: prog 'sample': failed to load: -EINVAL\n";
        assert_eq!(last_words(log), Some("invalid func unknown#1"));
    }
}
