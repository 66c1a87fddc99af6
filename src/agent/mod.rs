//! The continuous profiler: samples the whole machine and delivers a profile of each window.
//!
//! ```text
//! main thread, once a window:  measure the overhead -> choose the next sampling rate -> close
//! publisher thread:            symbolize -> label -> hand to delivery
//! ```
//!
//! Once the agent runs, failures are counted and logged; they never end it. Configuration changes
//! take effect between two windows: [`AgentConfig`] says which ones can.

mod budget;
mod config;
mod debug_files;
mod delivery_share;
mod error;
mod http_port;
mod profiling_loop;
mod publisher;
mod rate;
mod sampling;
mod signals;
mod status;
mod stop_deadline;
mod tick_watch;
mod window;

pub use config::{AgentConfig, ApplyConfig};
pub use error::AgentError;
pub use profiling_loop::run;
