//! From addresses to functions, files and lines.
//!
//! [`Worker`] answers requests; blazesym reads symbol tables and DWARF for it. The files belong to
//! anyone, and a crafted one can make any parser exhaust memory, panic, or be killed by the kernel
//! when the file shrinks while it is mapped. So a worker is to run in a process of its own, which
//! may die. The agent starts the process and bounds its time; [`Worker::new`] bounds its memory.
#![forbid(unsafe_code)]

mod debug;
mod demangle;
mod kernel;
pub mod proto;
mod worker;

pub use worker::Worker;
