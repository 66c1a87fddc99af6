//! The sink for Pyroscope: its push service, by HTTP.
//!
//! A batch's series go in a few requests of several profiles each. The server tries each profile on its own, so
//! a request may be half there when it fails. What the answer names as failed is sent again, each profile in
//! a request of its own, and then judged by its own answer; nothing that is known to be there is sent twice.
//!
//! With [`Symbolize::Server`] frames in files with a build id go without names, and Pyroscope finds these in the
//! debug info that is uploaded beside the profiles.
//!
//! Needs a Pyroscope 1.0 or newer, or what speaks like it. Its limits are in [`Limits`].
//!
//! Source: `push.v1` of Pyroscope 2.2; the Connect protocol for unary calls.

mod config;
mod debug_info;
mod encode;
mod labels;
mod pace;
mod progress;
mod proto;
mod push;
mod verdict;

pub use config::{Config, Limits};
pub use push::Sink;
