//! The CPU-specific part: registers, signal frames and code patterns. Each file has the same items.

mod x86_64;

pub use x86_64::*;
