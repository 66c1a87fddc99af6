//! Everytick: a continuous, system-wide CPU profiler for Linux.
//!
//! The stations of the road, each a module that knows only those above it here:
//!
//! ```text
//! kernel      the fence: BPF programs, perf events, all unsafe code
//! events      bytes from the kernel -> typed events
//! labels      text of /proc -> what a process is labelled with
//! processes   lifecycle events and /proc -> processes, mappings, executables
//! tables      executables and mappings -> what walks in the kernel go by
//! aggregate   samples -> a window of counted stacks
//! symbolization a window -> a profile
//! output      a profile -> files
//! session     the threads that run stations 1 to 4
//! verify      another unwinder beside ours, on the same ticks
//! budget      what the agent may cost, and how it samples less
//! metrics     what can be asked of a running agent
//! agent       one window after the other, for months
//! config      file, environment and flags -> what the agent is to do
//! commands    what a person types
//! ```
//!
//! `docs/architecture.md` draws the whole house.
#![deny(unsafe_code)]

pub mod agent;
pub mod aggregate;
pub mod budget;
pub mod commands;
pub mod config;
pub mod events;
pub mod kernel;
pub mod labels;
pub mod metrics;
pub mod output;
pub mod processes;
pub mod session;
pub mod symbolization;
pub mod tables;
pub mod verify;
