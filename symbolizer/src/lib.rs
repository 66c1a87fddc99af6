//! From addresses to functions, files and lines.
//!
//! [`Worker`] answers requests: it reads symbol tables itself, and DWARF by gimli. The files
//! belong to any user, and a crafted one can make any parser exhaust memory, panic, or be killed by
//! the kernel when the file shrinks while it is mapped. So a worker is to run in a process of its
//! own, which may die. The agent starts the process and bounds the time and memory of each request;
//! [`Worker::new`] bounds the memory of the process. What a file gives is bounded where it enters:
//! sizes of sections before anything is allocated (`elf`), each name and path (`text`), all
//! names of a response (`functions`).
#![forbid(unsafe_code)]

#[cfg(test)]
mod damage;
mod debug_file;
mod debug_info;
mod demangle;
mod elf;
mod file;
mod functions;
mod go;
mod kernel;
mod kernel_access;
mod limits;
mod name_sources;
mod plt;
pub mod proto;
mod symbols;
mod text;
mod worker;

pub use debug_file::{DebugFileError, check_debug_file};
pub use debug_info::{DebugLink, DebugLinks, MappedFile, SupplementaryLink};
pub use file::MapFile;
pub use kernel_access::{KERNEL_SYMBOLS, KernelAccess};
pub use limits::OwnMemory;
pub use name_sources::NameSource;
pub use text::{TEXT_MAX, bounded};
pub use worker::Worker;
