//! The answer of a sink to a batch, and the closed list of failure reasons.

use std::fmt;
use std::io;
use std::time::Duration;

/// The answer of a sink to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The server has all of it.
    Delivered {
        /// Bytes sent, after compression, without headers.
        bytes: u64,
    },
    /// The server has it, except for series or samples that it rejected for good.
    Partly {
        /// Bytes sent, after compression, without headers.
        bytes: u64,
        /// Series or samples rejected, whichever the server counts.
        rejected: u64,
        /// Message of the server.
        text: String,
    },
    /// Not now: to be retried.
    Later {
        /// Reason for metrics and logs.
        reason: Failure,
        /// Delay that the server asks for.
        after: Option<Duration>,
        /// Cause, as one sentence without secrets.
        text: String,
    },
    /// Never: a retry would end the same way.
    Rejected {
        /// Reason for metrics and logs.
        reason: Failure,
        /// Cause, as one sentence without secrets.
        text: String,
    },
}

/// Why a batch was not delivered or was lost. Metrics show [`Failure::text`] as `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// No connection: unknown name, refused, no route, reset.
    Unreachable,
    /// No response within the timeout.
    Timeout,
    /// A certificate is invalid, untrusted or missing.
    Tls,
    /// The server rejects the credentials: token, user or tenant.
    Unauthenticated,
    /// The server limits the rate.
    Throttled,
    /// The server is temporarily unable to respond.
    Unavailable,
    /// Larger than a limit, and cannot be split further.
    TooLarge,
    /// The server has read it and rejects it for good.
    Rejected,
    /// The response violates the protocol.
    Protocol,
    /// The disk is full, or a quota or the limit of the size of files is reached.
    DiskFull,
    /// The file system or directory is not writable.
    ReadOnly,
    /// Another I/O error of the file system.
    Disk,
    /// The spool has reached its limit: evicted as the oldest, or refused while all others are
    /// being sent.
    SpoolFull,
    /// Its spool file is damaged or missing.
    Damaged,
    /// A defect of Everytick: a sink panicked, a batch lacks the values that every batch has, or
    /// settings that were valid when checked fail.
    Defect,
}

impl Failure {
    /// All reasons, each at the index of its value.
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
    /// Number of reasons.
    pub const COUNT: usize = Self::ALL.len();

    /// Returns the text shown in metrics.
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

    /// Returns the next step for the reader of a log line.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Unreachable => "check its address, and whether it runs",
            Self::Timeout => "check its load, or raise timeout_seconds",
            Self::Tls => "check the certificates and the name in the address",
            Self::Unauthenticated => "check the credential files and the tenant",
            Self::Throttled => "raise its limits, or lower the sampling frequency",
            Self::Unavailable => "check its log",
            Self::TooLarge => "raise the limit, or shorten the windows",
            Self::Rejected => "check its log and its limits",
            Self::Protocol => "check what answers there, and that address and type belong together",
            Self::DiskFull => {
                "free disk space, configure another directory, or raise the quota or limit \
                 (`ulimit -f`) if there is one"
            }
            Self::ReadOnly => "make the directory writable, or configure another",
            Self::Disk => "check the disk",
            Self::SpoolFull => "find out why the sinks are slow, or raise the limit of the spool",
            Self::Damaged => "check the disk",
            Self::Defect => "please report this",
        }
    }

    /// Classifies an I/O error of the file system.
    pub fn of_disk(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::DiskFull,
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
    fn each_failure_has_its_index_and_a_unique_text() {
        for (index, failure) in Failure::ALL.iter().enumerate() {
            assert_eq!(*failure as usize, index);
        }
        let texts: std::collections::HashSet<_> = Failure::ALL.iter().map(|f| f.text()).collect();
        assert_eq!(texts.len(), Failure::COUNT);
    }
}
