//! Whether the kernel's functions can be named, and why not.
//!
//! Who may see addresses in /proc/kallsyms: `kallsyms_show_value()` in kernel/ksyms_common.c. With
//! `kptr_restrict` 2 no process may; else those with CAP_SYSLOG, and with `kptr_restrict` 0 and
//! `perf_event_paranoid` at most 1 every process.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};

/// The kernel's list of its symbols.
pub const KERNEL_SYMBOLS: &str = "/proc/kallsyms";
const RESTRICT_PATH: &str = "/proc/sys/kernel/kptr_restrict";
/// Bytes of the list that are read to find an address that is not hidden. The first symbols of some
/// kernels have the address 0.
const PROBE_BYTES: u64 = 64 << 10;

/// Why the kernel's functions have names or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelAccess {
    /// They have names.
    Available,
    /// There is no list that can be read: the kernel is built without it, or /proc is restricted.
    NoList,
    /// `kernel.kptr_restrict` is 2: no process sees addresses.
    Restricted,
    /// This process lacks CAP_SYSLOG.
    NoCapability,
}

impl KernelAccess {
    /// Probes the running kernel for this process.
    pub fn probe() -> Self {
        let Ok(list) = File::open(KERNEL_SYMBOLS) else { return Self::NoList };
        let lines = BufReader::new(list.take(PROBE_BYTES)).lines();
        let mut has_lines = false;
        for line in lines.map_while(Result::ok) {
            has_lines = true;
            if function(&line).is_some() {
                return Self::Available;
            }
        }
        if has_lines { Self::hidden() } else { Self::NoList }
    }

    /// Returns why a list has no addresses.
    fn hidden() -> Self {
        let restrict = fs::read_to_string(RESTRICT_PATH).unwrap_or_default();
        if restrict.trim() == "2" { Self::Restricted } else { Self::NoCapability }
    }

    /// Returns why the functions have no names; empty when they have.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Available => "",
            Self::NoList => "/proc/kallsyms cannot be read",
            Self::Restricted => "kernel.kptr_restrict is 2",
            Self::NoCapability => "/proc/kallsyms hides addresses",
        }
    }

    /// Returns what to do about it; empty when the functions have names.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::Available => "",
            Self::NoList => "mount /proc, and use a kernel with CONFIG_KALLSYMS",
            Self::Restricted => "run `sysctl kernel.kptr_restrict=1`",
            Self::NoCapability => {
                "add CAP_SYSLOG, or run `sysctl kernel.kptr_restrict=0 \
                 kernel.perf_event_paranoid=1`"
            }
        }
    }
}

impl fmt::Display for KernelAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.cause(), self.next_step())
    }
}

/// Parses a line such as `ffffffff81000000 T _text`, which may have a module after the name.
/// Returns `None` for what is no function, and for one whose address is hidden.
pub(crate) fn function(line: &str) -> Option<(u64, char, &str)> {
    let mut words = line.split_ascii_whitespace();
    let start = u64::from_str_radix(words.next()?, 16).ok().filter(|start| *start > 0)?;
    let kind = words.next()?.chars().next()?;
    let name = words.next()?;
    "tTwW".contains(kind).then_some((start, kind, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_next_step() {
        use KernelAccess::{Available, NoCapability, NoList, Restricted};
        let texts = [NoList, Restricted, NoCapability].map(|access| access.to_string());
        assert!(Available.cause().is_empty() && Available.next_step().is_empty());
        assert!(texts.iter().all(|text| text.contains("; ") && !text.ends_with("; ")));
        assert!(texts[1].contains("kptr_restrict=1") && texts[2].contains("CAP_SYSLOG"));
    }
}
