//! The configuration of a sink for Parca.

use crate::config::Conflict;
use crate::sinks::send_plan::REQUEST_BYTES_MIN;
use crate::sinks::symbolize::Symbolize;
use crate::transport::Connection;

crate::config! {
    /// A Parca server, by gRPC.
    pub struct Config {
        /// The server. `compression` is that of the pprof messages in a request.
        connection: Connection = flattened(),
        /// Which side symbolizes. The server does so for files with a build ID only.
        symbolize: Symbolize = one_of().default(Symbolize::Agent),
        /// Whether debug info is uploaded.
        debug_info: Option<bool> =
            boolean().optional_or("`true` if the server symbolizes, else `false`"),
        /// Maximum size of a request. Parca accepts 64MiB, proxies in front of it may accept less.
        ///
        /// The default is what Parca Agent sends; the maximum leaves space below the server's
        /// limit.
        request_bytes_max: u64 = bytes(REQUEST_BYTES_MIN as u64..=mib(60)).default(mib(32)),
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
