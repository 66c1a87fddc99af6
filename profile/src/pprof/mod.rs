//! pprof: the profile format that other tools read.
//!
//! [`encode()`] writes what `go tool pprof`, Parca and Pyroscope accept; [`decode()`]
//! reads any file of the format within a bound of memory.
//!
//! Addresses are those of the ELF file and mappings have no range: the one
//! convention under which all of these readers find symbols on their own.
//!
//! Source: `proto/profile.proto` of the pprof project.

mod decode;
mod encode;
pub mod message;

pub use decode::{DecodeError, decode};
pub use encode::encode;
