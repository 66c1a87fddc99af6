//! Configuration of the delivery: the spool and the named sinks.

use super::StartError;
use crate::sinks::SinkConfig;
use crate::spool::SpoolConfig;

/// The spool and the sinks of one agent.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryConfig {
    /// Directory and bound of the batches that wait on disk.
    pub spool: SpoolConfig,
    /// The sinks, at least one.
    pub sinks: Vec<NamedSink>,
}

/// A sink and its name.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedSink {
    /// Unique name: the sink's directory in the spool, and its label in logs and metrics.
    pub name: String,
    /// Settings of the sink.
    pub settings: SinkConfig,
}

/// Verifies that there are sinks and that each name is unique and a valid directory name.
pub(super) fn check_names(sinks: &[NamedSink]) -> Result<(), StartError> {
    if sinks.is_empty() {
        return Err(StartError::NoSink);
    }
    for (index, NamedSink { name, .. }) in sinks.iter().enumerate() {
        if !is_valid(name) {
            return Err(StartError::Name(name.clone()));
        }
        if sinks[..index].iter().any(|other| other.name == *name) {
            return Err(StartError::DuplicateName(name.clone()));
        }
    }
    Ok(())
}

fn is_valid(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.chars().all(is_allowed)
}
