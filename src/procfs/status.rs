//! `/proc/PID/status`: see proc_pid_status(5).

/// Memory, user, capabilities and signals of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessStatus {
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    /// The most resident memory so far, in KiB.
    pub peak_rss_kib: u64,
    /// Writable memory of its own, resident or not, in KiB.
    pub data_kib: u64,
    /// Effective capabilities, one bit each (include/uapi/linux/capability.h).
    pub effective_capabilities: u64,
    /// Signals that the process ignores: bit n for signal n + 1.
    pub ignored_signals: u64,
    /// Real user ID.
    pub uid: Option<u32>,
    /// Effective user ID.
    pub effective_uid: Option<u32>,
    /// The process that the thread is of.
    pub pid: Option<u32>,
    /// The number of the process or thread in its own pid namespace.
    pub namespace_pid: Option<u32>,
}

impl ProcessStatus {
    /// Parses the file; a value that is missing is 0.
    pub fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            match name {
                "VmRSS" => status.rss_kib = kib(value),
                "VmHWM" => status.peak_rss_kib = kib(value),
                "Uid" => {
                    let mut uids = value.split_whitespace().map(|uid| uid.parse().ok());
                    status.uid = uids.next().flatten();
                    status.effective_uid = uids.next().flatten();
                }
                "Tgid" => status.pid = value.trim().parse().ok(),
                // One number for each pid namespace that the process is in, its own one last.
                "NSpid" => {
                    let own = value.split_whitespace().next_back();
                    status.namespace_pid = own.and_then(|pid| pid.parse().ok());
                }
                "VmData" => status.data_kib = kib(value),
                "CapEff" => status.effective_capabilities = hexadecimal(value),
                "SigIgn" => status.ignored_signals = hexadecimal(value),
                _ => {}
            }
        }
        status
    }
}

fn kib(value: &str) -> u64 {
    value.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn hexadecimal(value: &str) -> u64 {
    u64::from_str_radix(value.trim(), 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_name() {
        let text = "Name:\tx\nTgid:\t12\nNSpid:\t12\t3\nUid:\t1000\t0\t0\t0\n\
             VmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nVmData:\t 512 kB\n\
             CapEff:\t000001ffffffffff\nSigIgn:\t0000000000001000\n";
        let expected = ProcessStatus {
            rss_kib: 1024,
            peak_rss_kib: 2048,
            data_kib: 512,
            effective_capabilities: 0x1ff_ffff_ffff,
            ignored_signals: 0x1000,
            uid: Some(1000),
            effective_uid: Some(0),
            pid: Some(12),
            namespace_pid: Some(3),
        };
        assert_eq!(ProcessStatus::parse(text), expected);
    }

    /// The kernel escapes newlines in the name, so a name cannot start a line of its own.
    #[test]
    fn a_hostile_name_and_malformed_values_are_ignored() {
        for text in ["", ":", "Name:\tVmRSS: 9 kB\n", "VmRSS:\nVmHWM: x\nCapEff: -1\nUid:\n"] {
            assert_eq!(ProcessStatus::parse(text), ProcessStatus::default(), "{text:?}");
        }
    }
}
