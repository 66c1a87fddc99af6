//! A profile goes somewhere: sinks, one folder each.
//!
//! - [`mod@file`]: files for a person, whole or not at all.
//!
//! Beside them [`pages`]: what can be asked of this program over HTTP.
#![forbid(unsafe_code)]

pub mod file;
pub mod pages;
