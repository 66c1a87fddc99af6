//! The configuration of a sink for Pyroscope.

use crate::config::Conflict;
use crate::sinks::symbolize::Symbolize;
use crate::transport::Connection;

crate::config! {
    /// A Pyroscope server, by HTTP. Symbolization by the server needs version 2.0 or newer and
    /// `-symbolizer.enabled`.
    pub struct Config {
        /// The server.
        connection: Connection = flattened(),
        /// Whether the sample labels `cut` and `guessed` are sent. The server makes series of them.
        sample_labels: bool = boolean().default(true),
        /// Which side symbolizes. The server does so for files with a build ID only.
        symbolize: Symbolize = one_of().default(Symbolize::Agent),
        /// Whether debug info is uploaded.
        debug_info: Option<bool> =
            boolean().optional_or("`true` if the server symbolizes, else `false`"),
        /// The limits of the server.
        limits: Limits = table(),
    }
}

crate::config! {
    /// The limits of a server. The defaults are those of a server without configuration.
    ///
    /// Source: `pkg/validation/limits.go` of Pyroscope 2.2.
    pub struct Limits {
        /// The server's limit of bytes in one profile, uncompressed.
        ///
        /// A profile is also kept below `burst_bytes`.
        profile_bytes: u64 = bytes(kib(1)..=gib(1)).default(mib(4)),
        /// The server's limit of samples in one profile.
        profile_samples: usize = integer(2..=1_000_000_000).default(16_000),
        /// The server's limit of frames in one stack.
        stack_frames: usize = integer(2..=1_000_000_000).default(1_000),
        /// The server's limit of labels in one series.
        ///
        /// `__name__` and `service_name` count, and a single label would be the name of the
        /// profile.
        labels: usize = integer(2..=1_000_000_000).default(30),
        /// The server's limit of bytes per second, uncompressed.
        bytes_per_second: u64 = bytes(kib(1)..=gib(1)).default(4_000_000),
        /// The server's limit of bytes at once, uncompressed.
        burst_bytes: u64 = bytes(kib(1)..=gib(1)).default(2_000_000),
    }
}

impl Config {
    /// Whether debug info is uploaded.
    pub(super) fn uploads_debug_info(&self) -> bool {
        self.debug_info.unwrap_or(self.symbolize == Symbolize::Server)
    }

    /// Returns the settings that contradict each other.
    pub fn conflicts(&self) -> Vec<Conflict> {
        self.connection.conflicts()
    }
}
