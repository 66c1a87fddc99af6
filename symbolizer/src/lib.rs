//! Addresses become names.
//!
//! Symbol tables and DWARF are read by blazesym in a process of its own: the
//! files belong to anybody, and a crafted one can make any parser take all memory, panic
//! or be killed by the kernel when the file shrinks under it. Then that worker dies, the
//! one file it worked on has no names, with the reason, and the next file gets a new worker.
//!
//! [`Symbolizer`] is the side of the agent; [`worker::serve`] is what the worker runs.
#![forbid(unsafe_code)]

use std::ops::Range;

mod client;
mod debug;
mod demangle;
mod kernel;
mod protocol;
mod usage;
pub mod worker;

pub use client::{Failure, Limit, Symbolizer};
pub use usage::Usage;

/// What is known about one address: the innermost inlined function first, the function
/// that the address belongs to last. Empty when nothing is known.
pub type Names = Vec<Name>;

/// What one address is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbol {
    /// Its names.
    pub names: Names,
    /// The addresses that are called the same: those of a function of which no lines are known.
    pub same: Option<Range<u64>>,
}

/// A function and the place in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    /// Name for people.
    pub function: String,
    /// Name for the linker.
    pub system_name: String,
    /// Source file; empty when not known.
    pub file: String,
    /// Source line from 1; 0 when not known.
    pub line: u32,
}
