//! Worker processes: this program again, for work that may hang or crash in place of the agent.
//!
//! - [`Supervisor`] is the agent's side: it starts a worker on first use, sends it requests, and
//!   kills and replaces one that fails or misses its [`Timeout`].
//! - [`serve`] is the worker's side: it answers requests until the agent closes the socket.
//! - `frame` is what travels between them: a protobuf message, what its sender has used so far,
//!   and open files.
//!
//! A worker may be killed at any time: it holds nothing that must be saved. It inherits nothing and
//! can get no privileges, and those that parse whole files have none at all: they can read the
//! files that come with their requests. What a worker has used is known also when it was killed.

mod frame;
mod process;
mod server;
mod supervisor;
mod usage;

use std::fs::File;
use std::os::fd::AsRawFd;

pub use frame::{Limit, Timeout};
pub use process::{Exit, KilledWorker};
pub use server::{Confinement, serve};
pub use supervisor::{CallError, CallLimits, Reply, Supervisor};
pub use usage::Usage;

/// Returns the path at which a worker opens a file that this process holds open.
pub fn path_of_open_file(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}
