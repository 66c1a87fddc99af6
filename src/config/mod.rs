//! The configuration of `everytick agent`: a file, overridden by the environment, overridden by
//! flags.
//!
//! Settings are declared in the structs that hold them: in `sections` for the agent, in crate
//! `upload` for sinks. This module combines the layers and reports errors: all at once, one
//! sentence each, with its place and the next step. [`Config::load`] needs nothing but the file and
//! the host name. Only [`check`] opens other files, to verify that those of secrets and
//! certificates can be read.
//!
//! ```text
//! file, environment, flags --> layers --> resolve, sink --> resolved --> Config
//!                                schema <-- sections           +-------> report
//! ```

mod environment;
mod error;
mod file;
mod flags;
mod layers;
mod manual;
mod range;
mod report;
mod resolve;
mod resolved;
mod schema;
mod sections;
mod sink;
mod suggest;
mod text;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use upload::config::{Config as _, Values};
use upload::delivery::NamedSink;
use upload::spool::SpoolConfig;

use environment::Variables;
use error::Problems;
use layers::Layers;
use resolve::Machine;
use resolved::ResolvedSection;
use schema::SINK_PREFIX;
use text::SourceText;

pub use error::{ConfigError, Origin, Problem};
pub use flags::Flags;
pub use manual::manual;
pub use range::{RangeError, TimeRange};
pub use sections::{AgentSection, LogFormat, LogLevel, LogSection, StoreSection};
pub use text::DEFAULT_FILE;

/// The effective configuration.
#[derive(Clone)]
pub struct Config {
    /// What is sampled, and the overhead allowed for it.
    pub agent: AgentSection,
    /// The log.
    pub log: LogSection,
    /// The local store.
    pub store: StoreSection,
    /// Profiles that have not reached all of their sinks.
    pub spool: SpoolConfig,
    /// Destinations of profiles, in the order of names.
    pub sinks: Vec<NamedSink>,
    resolved: Vec<ResolvedSection>,
}

/// As [`Config::report`], which holds no secrets.
impl fmt::Debug for Config {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.report())
    }
}

impl Config {
    /// Reads the file that `flags` name, or [`DEFAULT_FILE`] if it exists, and applies
    /// `environment` and `flags` over it.
    ///
    /// `environment`: all variables by name, as from [`std::env::vars_os`].
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub fn load(
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let text = SourceText::read(flags.config.as_deref())?;
        Self::from_layers(text.as_ref(), flags, environment, &crate::symbolization::host_name())
    }

    /// As [`Self::load`], with the `text` of the file named `path`, on a machine named `host`.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub fn from_text(
        path: &Path,
        text: &str,
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        host: &str,
    ) -> Result<Self, ConfigError> {
        let text = SourceText::new(path, text.into())?;
        Self::from_layers(Some(&text), flags, environment, host)
    }

    fn from_layers(
        text: Option<&SourceText>,
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        host: &str,
    ) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let variables = Variables::new(environment, &mut problems);
        let document = text.map(SourceText::parse).transpose()?;
        let mut layers = Layers { text, ..Layers::default() };
        if let (Some(text), Some(document)) = (text, &document) {
            file::collect(text, document.get_ref(), &mut layers, &mut problems);
        }
        variables.collect(&mut layers, &mut problems);
        flags.collect(&mut layers);

        let node = match &variables.node {
            Some(node) => (node.clone(), Origin::Environment("NODE_NAME".into())),
            None => (host.to_owned(), Origin::Default),
        };
        let machine = Machine { node, otel: variables.otel.clone() };
        let resolved = resolve::resolve(&layers, &machine, &mut problems);
        problems.or(resolved).map(Self::from_resolved)
    }

    fn from_resolved(resolved: Vec<ResolvedSection>) -> Self {
        let values = |name: &str| {
            let section = resolved.iter().find(|section| section.name == name);
            section.map_or_else(Values::default, ResolvedSection::values)
        };
        let sink = |section: &ResolvedSection| {
            let name = section.name.strip_prefix(SINK_PREFIX)?.to_owned();
            Some(NamedSink { name, settings: sink::config(section)? })
        };
        Self {
            agent: AgentSection::from_values(&values("agent")),
            log: LogSection::from_values(&values("log")),
            store: StoreSection::from_values(&values("store")),
            spool: SpoolConfig::from_values(&values("spool")),
            sinks: resolved.iter().filter_map(sink).collect(),
            resolved,
        }
    }

    /// Shows the effective configuration as TOML, with the origin of each value. Secrets are
    /// replaced by the names of their files.
    pub fn report(&self) -> String {
        report::effective(&self.resolved)
    }

    /// Restores the values that the agent was `started` with where a change needs a restart.
    /// Returns the keys that have changed, such as `agent.listen`.
    pub fn keep_until_restart(&mut self, started: &Self) -> Vec<String> {
        let mut changed = Vec::new();
        for section in &mut self.resolved {
            let old = started.resolved.iter().find(|old| old.name == section.name);
            let Some(old) = old else { continue };
            for value in section.values.iter_mut().filter(|value| value.key.needs_restart) {
                let Some(old) = old.get(&value.key.path) else { continue };
                if value.value != old.value {
                    changed.push(format!("{}.{}", section.name, value.key.path));
                    *value = old.clone();
                }
            }
        }
        *self = Self::from_resolved(std::mem::take(&mut self.resolved));
        changed
    }
}

/// As [`Config::load`]; verifies also that the files of secrets can be read. Returns
/// [`Config::report`].
///
/// # Errors
/// [`ConfigError`] with everything that is wrong.
pub fn check(
    flags: &Flags,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<String, ConfigError> {
    let config = Config::load(flags, environment)?;
    let mut problems = Problems::default();
    config.resolved.iter().for_each(|section| section.report_unreadable_files(&mut problems));
    problems.or(config.report())
}
