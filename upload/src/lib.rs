//! A profile goes somewhere: sinks, one folder each.
//!
//! - [`mod@file`]: files for a person, whole or not at all.
//! - [`Parcel`]: one closed window on its way to the sinks of the agent.
//! - [`delivery`]: parcels to sinks, none lost.
//! - [`spool`]: where parcels wait on the disk.
//! - [`directory`]: the sink `file`, a directory with a file for each window.
//! - [`parca`], [`pyroscope`], [`otlp`]: sinks over the network; [`transport`] is how their servers are reached.
#![forbid(unsafe_code)]

mod answer;
mod debug_file;
mod debuginfo;
pub mod delivery;
pub mod directory;
mod disk;
pub mod file;
pub mod otlp;
pub mod parca;
mod parcel;
mod parts;
pub mod pyroscope;
mod sinks;
pub mod spool;
mod subset;
mod symbolize;
pub mod transport;
mod uploads;

pub use answer::{Answer, Failure};
pub use debuginfo::{DebugInfo, UploadEnd};
pub use parcel::{BYTES_MAX, Parcel, Series};
pub use sinks::{SinkSettings, StartError};
pub use subset::subset;
pub use symbolize::Symbolize;
