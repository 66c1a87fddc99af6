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

mod debug_info;
mod encode;
mod labels;
mod pace;
mod progress;
mod proto;
mod push;
mod verdict;

pub use push::Sink;

use serde::Deserialize;

use crate::sinks::StartError;
use crate::sinks::symbolize::Symbolize;
use crate::transport::Connection;

/// Where and how.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The server and how to reach it.
    #[serde(flatten)]
    pub connection: Connection,
    /// Send `cut` and `guessed` along, of which the server makes series of their own.
    pub sample_labels: bool,
    /// Who finds the names of functions. For the server to do it, it must have `-symbolizer.enabled`
    /// (version 2.0 and newer).
    pub symbolize: Symbolize,
    /// Upload debug info. Without it: yes if the server finds names, no if the agent does.
    pub debug_info: Option<bool>,
    /// What the server takes.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connection: Connection::default(),
            sample_labels: true,
            symbolize: Symbolize::Agent,
            debug_info: None,
            limits: Limits::default(),
        }
    }
}

impl Settings {
    /// Whether debug info is to be uploaded.
    fn uploads(&self) -> bool {
        self.debug_info.unwrap_or(self.symbolize == Symbolize::Server)
    }

    /// Finds limits under which nothing could be sent.
    fn check(&self) -> Result<(), StartError> {
        let limits = &self.limits;
        let least: [(&str, u64, u64); 6] = [
            ("profile_bytes", limits.profile_bytes as u64, 1024),
            ("profile_samples", limits.profile_samples as u64, 1),
            ("stack_frames", limits.stack_frames as u64, 1),
            ("labels", limits.labels as u64, 2),
            ("bytes_per_second", limits.bytes_per_second, 1024),
            ("burst_bytes", limits.burst_bytes, 1024),
        ];
        match least.iter().find(|(_, value, least)| value < least) {
            None => Ok(()),
            Some((name, value, least)) => Err(StartError::Settings(format!(
                "limits.{name} is {value}; give at least {least}, or leave it out"
            ))),
        }
    }
}

/// What the server takes at most. The defaults are those of a server that nobody has configured.
///
/// Source: `pkg/validation/limits.go` of Pyroscope 2.2.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one profile, uncompressed. A profile is also kept below `burst_bytes`.
    pub profile_bytes: usize,
    /// Samples of one profile.
    pub profile_samples: usize,
    /// Frames of one stack.
    pub stack_frames: usize,
    /// Labels of one series, with `__name__` and `service_name`.
    pub labels: usize,
    /// Uncompressed bytes in a second.
    pub bytes_per_second: u64,
    /// Uncompressed bytes at once.
    pub burst_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            profile_bytes: 4 << 20,
            profile_samples: 16_000,
            stack_frames: 1_000,
            labels: 30,
            bytes_per_second: 4_000_000,
            burst_bytes: 2_000_000,
        }
    }
}
