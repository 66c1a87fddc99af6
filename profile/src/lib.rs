//! The words that every part of the profiler uses, and pprof in and out.
//!
//! Three shapes of the same data, in the order of the road:
//! - a [`Window`] is what the aggregator counts: stacks of addresses within
//!   executables, each stored once;
//! - a [`Profile`] is a window whose frames have names;
//! - [`pprof`] is a profile as other tools read it.
//!
//! A [`CaptureLedger`] goes with each and accounts for every tick. [`Labels`] tell samples apart.
//!
//! This crate does no I/O and knows neither the kernel nor a file format other
//! than pprof.
#![forbid(unsafe_code)]

mod address;
mod date;
mod id;
pub mod labels;
mod ledger;
mod ledger_sum;
mod number;
mod outcome;
pub mod pprof;
mod series;
mod symbolized;
mod window;

pub use address::{FileAddr, FileOffset, VirtAddr};
pub use date::Date;
pub use id::{BuildId, Cpu, ExecutableId, Pid, Tid};
pub use labels::{Labels, NON_SERIES};
pub use ledger::{CaptureLedger, CpuTicks, LedgerImbalance};
pub use number::{counted, thousands};
pub use outcome::{Loss, StackEnd, TickOutcome};
pub use series::MergedSeries;
pub use symbolized::{Function, Line, Mapping, MappingKind, Profile, SampleCount, SymbolizedFrame};
pub use window::{Frame, FrameId, SampleKey, StackId, Task, TaskId, Window, WindowFull};
