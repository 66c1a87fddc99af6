//! What a sink says of a batch, and the closed list of what can go wrong with one.

use std::fmt;
use std::io;
use std::time::Duration;

/// What a sink says of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All of it is there.
    Delivered {
        /// Bytes sent, as they left, headers not counted.
        bytes: u64,
    },
    /// It is there but for some series or samples that the server refused for good.
    Partly {
        /// Bytes sent, as they left, headers not counted.
        bytes: u64,
        /// Series or samples refused, whichever the server counts.
        rejected: u64,
        /// What the server said.
        text: String,
    },
    /// Not now: try again.
    Later {
        /// Why.
        reason: Failure,
        /// How long the server asks to be left alone, when it says so.
        after: Option<Duration>,
        /// What happened, in one sentence without a secret in it.
        text: String,
    },
    /// Never: trying again would end the same way.
    Refused {
        /// Why.
        reason: Failure,
        /// What happened, in one sentence without a secret in it.
        text: String,
    },
}

/// Why a batch was not taken, or was lost. Metrics show [`Failure::text`] as `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// No connection: name not found, refused, no route, cut in the middle.
    Unreachable,
    /// No answer within the time allowed.
    Timeout,
    /// No trust: a certificate that is wrong, unknown or missing.
    Tls,
    /// The server does not know us: token, user or tenant.
    Unauthenticated,
    /// The server has had too much from us.
    Throttled,
    /// The server says that it cannot now.
    Unavailable,
    /// Larger than a limit, and not to be split further.
    TooLarge,
    /// The server has read it and refuses it for good.
    Rejected,
    /// An answer that the protocol does not know.
    Protocol,
    /// No room on the disk.
    DiskFull,
    /// The file system or directory takes no writing.
    ReadOnly,
    /// Another answer of the file system.
    Disk,
    /// Dropped as the oldest, because the spool has reached its bound.
    SpoolFull,
    /// Its file in the spool is damaged or gone.
    Damaged,
    /// A defect of ours: the sink panicked.
    Defect,
}

impl Failure {
    /// All of them, each at its own value.
    pub const ALL: &'static [Self] = &[
        Self::Unreachable,
        Self::Timeout,
        Self::Tls,
        Self::Unauthenticated,
        Self::Throttled,
        Self::Unavailable,
        Self::TooLarge,
        Self::Rejected,
        Self::Protocol,
        Self::DiskFull,
        Self::ReadOnly,
        Self::Disk,
        Self::SpoolFull,
        Self::Damaged,
        Self::Defect,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its one text, as metrics show it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Unauthenticated => "unauthenticated",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::TooLarge => "too_large",
            Self::Rejected => "rejected",
            Self::Protocol => "protocol",
            Self::DiskFull => "disk_full",
            Self::ReadOnly => "read_only",
            Self::Disk => "disk",
            Self::SpoolFull => "spool_full",
            Self::Damaged => "damaged",
            Self::Defect => "defect",
        }
    }

    /// The next step of whoever reads of it in the log.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Unreachable => "check its address and that it runs",
            Self::Timeout => "check its load, or raise timeout_seconds",
            Self::Tls => "check the certificates and the name in the address",
            Self::Unauthenticated => "check the files with the credentials, and the tenant",
            Self::Throttled => "raise its limits, or lower the rate of sampling",
            Self::Unavailable => "see its own log",
            Self::TooLarge => "raise the limit, or shorten the windows",
            Self::Rejected => "see its own log, and its limits",
            Self::Protocol => "check that the address and type of the sink belong together",
            Self::DiskFull => "make room, or give another directory",
            Self::ReadOnly => "make the directory writable, or give another",
            Self::Disk => "check the disk",
            Self::SpoolFull => "the sinks are too slow: see why, or raise the bound of the spool",
            Self::Damaged => "check the disk",
            Self::Defect => "please report it",
        }
    }

    /// Tells what a file system's answer means.
    pub fn of_disk(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly,
            _ => Self::Disk,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_lies_at_its_value_and_has_its_own_text() {
        for (place, failure) in Failure::ALL.iter().enumerate() {
            assert_eq!(*failure as usize, place);
        }
        let texts: std::collections::HashSet<_> = Failure::ALL.iter().map(|f| f.text()).collect();
        assert_eq!(texts.len(), Failure::COUNT);
    }
}
