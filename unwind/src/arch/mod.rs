//! What the unwinder knows of a CPU. Each file gives the same names.

mod x86_64;

pub use x86_64::*;
