//! The data model of a profile, and pprof in and out.
//!
//! ```text
//! samples --> Window --symbolize--> Profile --to_message--> pprof::proto::Profile --> bytes
//!                                      ^                        |       ^               |
//!                                      +----- from_message -----+       +--- decode ----+
//! ```
//!
//! - A [`Window`] counts samples by task and stack, within a bound of memory. Its frames are
//!   addresses in executables; each frame, stack and task is stored once.
//! - A [`Profile`] is a window whose frames are symbolized: functions, source lines, mappings.
//! - [`pprof`] encodes, decodes, and adds up profiles in the format that other tools read.
//! - A [`CaptureLedger`] accounts for every tick of the sampling clock. It goes with each window
//!   and profile, and into the comments of pprof.
//! - An [`Origin`] in the comments of pprof says which agent took a window, and when; a
//!   [`CaptureContext`] says where a profile was taken, how, and of what.
//! - [`Labels`] divide samples into series; [`labels`] lists all that exist.
//!
//! # Contract
//!
//! - The crate does no I/O. The only file format that it knows is pprof.
//! - Every identifier is an index: [`FrameId`], [`StackId`] and [`TaskId`] into the iterators of
//!   their window, the numbers in a [`Profile`] into its vectors. The caller keeps them in range;
//!   [`pprof::from_message`] guarantees it for what it returns.
//! - A window takes about as many bytes as it was made for. Beyond that it counts only samples like
//!   those it has, and returns [`WindowFull`] for others.
//! - `due = ticks + missed + not sampled`, `ticks = emitted + skipped`,
//!   `emitted = aggregated + lost`: [`CaptureLedger::check`] returns the first equation that does
//!   not hold.
//! - pprof from elsewhere is untrusted: decoding is bounded in memory, and a message whose indices
//!   or ids are out of range is an error.
//!
//! # Example
//!
//! Counts a sample, closes the ledger, encodes pprof and reads it back (the same as
//! `examples/encode.rs`):
//!
//! ```
#![doc = include_str!("../examples/encode.rs")]
//! ```
#![forbid(unsafe_code)]

mod address;
mod busy_share;
mod capture_context;
mod date;
mod error_chain;
mod id;
mod interpreted_language;
pub mod labels;
mod ledger;
mod ledger_text;
mod number;
mod origin;
mod outcome;
pub mod pprof;
mod printable;
mod sample_times;
mod series;
mod short_name;
mod symbolized;
mod window;

pub use address::{FileAddr, FileOffset, VirtAddr};
pub use busy_share::BusyShare;
pub use capture_context::CaptureContext;
pub use date::Date;
pub use error_chain::error_chain;
pub use id::{BuildId, CodeNameId, Cpu, ExecutableId, Pid, Tid};
pub use interpreted_language::InterpretedLanguage;
pub use labels::{Labels, NON_SERIES};
pub use ledger::{CaptureLedger, ClockScope, CpuTicks, LedgerImbalance};
pub use number::{pluralize, thousands};
pub use origin::{BootTime, Origin};
pub use outcome::{Loss, NotSampled, StackEnd, TickOutcome};
pub use printable::{printable, printable_lines};
pub use sample_times::{SampleId, SampleTimes, TimedSample};
pub use series::MergedSeries;
pub use short_name::short_name;
pub use symbolized::{
    Function, Line, Mapping, MappingKind, Profile, SampleCount, SymbolizedFrame, Timeline,
};
pub use window::{Frame, FrameId, SampleKey, StackId, Task, TaskId, Window, WindowFull};
