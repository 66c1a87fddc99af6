//! A profile goes somewhere: sinks, one folder each.
//!
//! - [`mod@file`]: files for a person, whole or not at all.
#![forbid(unsafe_code)]

pub mod file;
