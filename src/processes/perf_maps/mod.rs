//! Names of code that JIT compilers write: from the jitdump or the perf map of each process.
//!
//! A jitdump is a file `jit-PID.dump` that its process maps as executable memory (`marker`), a perf
//! map is `/tmp/perf-PID.map` of the process's own root; both with the pid of the process in its
//! own pid namespace. A process with a jitdump is named by it alone. The file helper finds, reads
//! and parses the file; this module follows it as it grows, stores what it says of addresses
//! (`entry_table`), and hands out the names that samples have, as `code_names`. It never touches a
//! file system. What is called a map here may be a jitdump.
//!
//! 1. A sample in code of no file asks for the name at its address. An address without an entry
//!    gets a name that is filled in when a later read of the map has one.
//! 2. A map is read again while its process has such samples, and a last time when it exits.
//! 3. A closed window takes the names of its frames along.

mod entry_table;
mod jit_dump;
mod marker;
mod process_map;
#[cfg(test)]
mod tests;
mod text;

pub(super) use jit_dump::{HEADER_BYTES, JitDumpPart, first_record, parse as parse_jit_dump};
pub(super) use marker::JitDumpMarker;
pub(super) use process_map::{PerfMapPart, PerfMaps, ProcessMap};
pub(super) use text::{MapEntry, parse};
