//! Capabilities of this process.

use rustix::process::geteuid;

use super::limitation::{Limitation, LimitationReason};
use crate::procfs;

/// Bits of include/uapi/linux/capability.h.
const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// A set of capabilities.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Returns the effective capabilities of this process.
    pub fn effective() -> Self {
        Self(procfs::own_status().effective_capabilities)
    }

    fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// Returns whether the set has a capability, or CAP_SYS_ADMIN, which includes it.
    fn allows(self, bit: u32) -> bool {
        self.has(bit) || self.has(CAP_SYS_ADMIN)
    }

    pub(super) fn has_ptrace(self) -> bool {
        self.has(CAP_SYS_PTRACE)
    }

    /// Returns the names of the capabilities that profiling needs and the set lacks.
    pub fn required_and_missing(self) -> Vec<&'static str> {
        let required = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")];
        required.into_iter().filter(|(bit, _)| !self.allows(*bit)).map(|(_, name)| name).collect()
    }

    /// Returns what is missing of what is used.
    pub(super) fn limitations(self) -> Vec<Limitation> {
        let step = how_to_get_capabilities();
        let fatal = |reason: LimitationReason, effect: &str, setting: &str| {
            let value = procfs::read_text(&format!("/proc/sys/kernel/{setting}"));
            let value = value.unwrap_or_default();
            let text = format!(
                "{} missing, and kernel.{setting} is {}: {effect}",
                reason.text(),
                value.trim()
            );
            Limitation::fatal(reason, text, step)
        };
        let degraded = |reason: LimitationReason, effect: &str| {
            Limitation::degraded(reason, format!("{} missing: {effect}", reason.text()), step)
        };
        let bpf = || {
            let effect = "BPF programs cannot be loaded";
            fatal(LimitationReason::CapBpf, effect, "unprivileged_bpf_disabled")
        };
        let perfmon = || {
            let effect = "other processes cannot be sampled";
            fatal(LimitationReason::CapPerfmon, effect, "perf_event_paranoid")
        };
        let ptrace = || {
            let effect = "mappings, executables and labels of other users' processes are not \
                          readable, and their frames have no symbols";
            degraded(LimitationReason::CapSysPtrace, effect)
        };
        let read = || {
            let effect = "files that only their owner may read have no symbols, and stacks are cut \
                          in them";
            degraded(LimitationReason::CapDacReadSearch, effect)
        };
        let has_read = self.has(CAP_DAC_READ_SEARCH) || self.has(CAP_DAC_OVERRIDE);
        let missing = [
            (!self.allows(CAP_BPF)).then(bpf),
            (!self.allows(CAP_PERFMON)).then(perfmon),
            (!self.has_ptrace()).then(ptrace),
            (!has_read).then(read),
        ];
        missing.into_iter().flatten().collect()
    }
}

fn how_to_get_capabilities() -> &'static str {
    if geteuid().is_root() {
        "root lacks it here: add it to the container or service"
    } else {
        "run as root (sudo), or add it to the container or service"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(bits: &[u32]) -> Vec<&'static str> {
        let set = Capabilities(bits.iter().map(|bit| 1 << bit).sum());
        set.limitations().iter().map(|limitation| limitation.reason.text()).collect()
    }

    #[test]
    fn each_capability_in_use_is_checked() {
        let all = ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"];
        assert_eq!(reasons(&[]), all);
        assert_eq!(reasons(&[CAP_SYS_ADMIN]), all[2..]);
        let used = [CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_OVERRIDE];
        assert_eq!(reasons(&used), Vec::<&str>::new());
        assert_eq!(reasons(&used[1..]), ["CAP_BPF"]);
    }
}
