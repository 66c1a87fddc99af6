//! The binary interface of the BPF programs: `bpf/abi.h` in Rust.
//!
//! Constants are taken from the BTF of the compiled programs. Structures are mirrored by hand, and
//! compared with it while this compiles: sizes, offsets and types, with no field left out. So are
//! the values of enums, and the twins in the crate `unwind`.

mod compare;
mod layouts;
mod runtimes;
mod sampler;
mod twins;

pub use layouts::*;
pub use runtimes::*;
pub use sampler::*;
