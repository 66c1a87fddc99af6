//! A profile goes somewhere: sinks, one folder each.
//!
//! - [`mod@file`]: files for a person, whole or not at all.
//! - [`Parcel`]: one closed window on its way to the sinks of the agent.
#![forbid(unsafe_code)]

mod answer;
mod debuginfo;
pub mod file;
mod parcel;

pub use answer::{Answer, Failure};
pub use debuginfo::DebugInfo;
pub use parcel::{Parcel, Series};
