//! Everytick: a continuous, system-wide CPU profiler for Linux.
//!
//! The modules form layers; each uses only those above it in this list:
//!
//! ```text
//! limits         what one cause of overhead may use
//! log            events of tracing -> lines on standard error, without blocking
//! disk_cache     directories of files that appear whole or not at all, within a limit of bytes
//! debuginfod     build IDs -> debug info, downloaded in the background
//! kernel         BPF programs, perf events, all unsafe code
//! procfs         the reader of /proc
//! host           what the host allows and lacks
//! workers        worker processes: spawn, call, deadline, kill
//! events         records from the kernel -> typed events
//! labels         text of /proc -> labels of a process
//! runtimes       interpreters: recognized in files, structures, names of code objects
//! processes      process events and /proc -> processes, mappings, executables
//! tables         executables and mappings -> unwind tables in the kernel
//! aggregate      samples -> a window of counted stacks
//! symbolization  a window -> a profile
//! session        the threads that capture: from ticks to closed windows
//! verify         a second unwinder, compared with ours on the same ticks
//! output         a profile -> files
//! budget         limits of the overhead, and sampling less to keep them
//! metrics        metrics, health and readiness of a running agent
//! agent          the continuous profiler: windows, symbolization, delivery
//! config         file, environment and flags -> the agent's configuration
//! commands       the command line
//! ```
//!
//! `docs/architecture.md` has the whole picture.
#![deny(unsafe_code)]

pub mod agent;
pub mod aggregate;
pub mod budget;
pub mod commands;
pub mod config;
pub mod debuginfod;
pub mod disk_cache;
pub mod events;
pub mod host;
pub mod kernel;
pub mod labels;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod output;
pub mod processes;
pub mod procfs;
pub mod runtimes;
pub mod session;
pub mod symbolization;
pub mod tables;
pub mod verify;
pub mod workers;
