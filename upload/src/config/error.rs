//! Why a configuration cannot be put into effect.

use std::path::PathBuf;

/// Why a sink cannot be created from its configuration: one sentence with the next step.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting is invalid or contradicts others.
    #[error("{0}")]
    Invalid(String),
    /// A file of a setting cannot be read.
    #[error("cannot read {path}: {source}; check the path and its permissions")]
    File {
        /// Path as configured.
        path: PathBuf,
        /// Error of opening or reading it.
        source: std::io::Error,
    },
}
