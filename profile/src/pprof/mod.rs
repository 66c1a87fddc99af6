//! pprof: the profile format that other tools read.
//!
//! - [`encode()`] writes what `go tool pprof`, Parca and Pyroscope accept.
//! - [`encode_for_file`] writes a message such that opening it is cheap, and [`for_viewers`] makes
//!   one that people read.
//! - [`decode()`] reads any file of the format within a bound of memory.
//! - [`to_message`] and [`from_message`] convert between a profile and a [`proto`] message.
//! - [`Merger`] adds messages up, and [`origin()`] says which agent a message is from.
//!
//! Addresses are those of the ELF file, and mappings have no range: the one convention under which
//! all of these readers find symbols on their own.
//!
//! Source: `proto/profile.proto` of the pprof project.

mod decode;
mod encode;
mod file;
mod merge;
pub mod proto;
mod read;
mod samples;
mod string_table;
mod viewer;

pub use decode::{DecodeError, decode};
pub use encode::{compress, compress_file, encode, to_message};
pub use file::encode_for_file;
pub use merge::{MergeError, Merger, merge};
pub use read::{SampleUnit, from_message, origin};
pub use samples::SampleGrouping;
pub use viewer::for_viewers;
