//! Output of profiles: to sinks, with a delivery guarantee, and to files.
//!
//! A closed window of the agent takes this path:
//!
//! ```text
//! Batch -> delivery::intake -> spool (disk) -> delivery::sink_loop -> sinks::Sink -> server
//!               |                                    |
//!               +--------> delivery ledger <---------+    delivered, partly, pending or lost
//! ```
//!
//! The layers from the lowest up: each names only lower ones, those listed before it.
//!
//! ```text
//! clock          the wall clock, and the time since boot
//! cpu_allowance  the CPU time that delivery may use
//! config         the declaration of settings, and errors of the configuration
//! batch          one closed window as a pprof message; answers and failures
//! disk           durable files and directories, and locks on them
//! transport      connections, TLS, proxies, credentials and retry policy of HTTP and gRPC
//! debug_info     upload of debug info, for servers that symbolize themselves
//! sinks          one folder for each kind of destination
//! spool          batches on disk, waiting for their sinks
//! delivery       the promise: every accepted batch reaches each sink or is counted as lost
//! output         SVG, pprof and folded files of `record` and of an export; apart: uses only `disk`
//! ```
#![forbid(unsafe_code)]

mod batch;
pub mod clock;
pub mod config;
mod cpu_allowance;
mod debug_info;
pub mod delivery;
mod disk;
pub mod output;
pub mod sinks;
pub mod spool;
pub mod transport;

pub use batch::{Answer, BYTES_MAX, Batch, Failure, Series, subset};
pub use cpu_allowance::{CpuAllowance, Unlimited};
pub use debug_info::{DebugInfoSource, UploadStatus};
pub use delivery::StartError;
pub use sinks::{SinkConfig, Symbolize};
