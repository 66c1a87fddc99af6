//! How to get from a frame to its caller.
//!
//! Holds the reference for the walker in the kernel: the same rule written for the
//! eye, without its limits and its order of operations. `tests/step` compiles the
//! kernel's step for the host and compares the two.
//!
//! Pure: reads no file and no memory but through what it is handed.
#![forbid(unsafe_code)]

pub mod frame_pointer;
