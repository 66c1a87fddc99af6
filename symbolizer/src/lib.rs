//! From addresses to functions, files and lines.
//!
//! [`Worker`] answers requests; blazesym reads symbol tables and DWARF for it. The files belong to
//! any user, and a crafted one can make any parser exhaust memory, panic, or be killed by the
//! kernel when the file shrinks while it is mapped. So a worker is to run in a process of its own,
//! which may die. The agent starts the process and bounds the time and memory of each request;
//! [`Worker::new`] bounds the memory of the process. What a file gives is bounded where it enters:
//! sizes of sections before anything is allocated (`sections`), each name and path (`text`), all
//! names of a response (`functions`).
#![forbid(unsafe_code)]

mod demangle;
mod file;
mod functions;
mod kernel;
mod kernel_access;
mod limits;
pub mod proto;
mod raw_names;
mod sections;
mod text;
mod worker;

pub use kernel_access::KernelAccess;
pub use limits::OwnMemory;
pub use text::TEXT_MAX;
pub use worker::Worker;
