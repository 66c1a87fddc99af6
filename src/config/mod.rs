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
mod file_access;
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
use std::path::{Path, PathBuf};

use upload::config::units::format_bytes;
use upload::config::{Config as _, Values};
use upload::delivery::{Delivery, DeliveryConfig, NamedSink};
use upload::spool::SpoolConfig;

use environment::Variables;
use error::Problems;
use file_access::foreign_writers;
use layers::Layers;
use resolve::Machine;
use resolved::ResolvedSection;
use schema::{SINK_PREFIX, SINK_TYPE};
use text::SourceText;

use crate::host::{AGENT_MEMORY_LEAST, CgroupLimit, memory_limit};

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
    file: Option<PathBuf>,
    memory_limit: Option<CgroupLimit<u64>>,
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
        let host = crate::symbolization::host_name();
        Self::from_layers(text.as_ref(), flags, environment, &host, memory_limit())
    }

    /// As [`Self::load`], with the `text` of the file named `path`, on a machine named `host`
    /// without a limit of memory.
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
        Self::from_layers(Some(&text), flags, environment, host, None)
    }

    fn from_layers(
        text: Option<&SourceText>,
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        host: &str,
        memory_limit: Option<CgroupLimit<u64>>,
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
        let machine = Machine { node, otel: variables.otel.clone(), memory_limit };
        let resolved = resolve::resolve(&layers, &machine, &mut problems);
        let config = problems.or(resolved).map(Self::from_resolved)?;
        let file = text.map(|text| text.path().to_owned());
        Ok(Self { file, memory_limit: machine.memory_limit, ..config })
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
            file: None,
            memory_limit: None,
            resolved,
        }
    }

    /// Checks what the agent needs of this machine: memory, and files of secrets that no user but
    /// root and ours can change.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub fn check_machine(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::default();
        if let Some(limit) = &self.memory_limit
            && self.agent.max_memory < AGENT_MEMORY_LEAST
        {
            problems.push(Problem::new(format!(
                "the memory limit {} of {} is too low: everytick takes 75 % of it, {}, and needs \
                 {}; raise the limit to 80MiB or more, or set `agent.max_memory`",
                format_bytes(limit.value),
                limit.file.display(),
                format_bytes(self.agent.max_memory),
                format_bytes(AGENT_MEMORY_LEAST)
            )));
        }
        self.resolved.iter().for_each(|section| section.report_unsafe_secrets(&mut problems));
        problems.or(())
    }

    /// Returns what is allowed and unwise, a sentence each with the next step.
    pub fn warnings(&self) -> Vec<String> {
        let file = self.file.as_deref().and_then(Path::to_str);
        let writers = file.and_then(|path| Some((path, foreign_writers(path)?)));
        let writers =
            writers.map(|(path, writers)| format!("{path}: other users can change it: {writers}"));
        let limit = self.memory_limit.as_ref();
        let memory = limit.filter(|limit| self.agent.max_memory > limit.value).map(|limit| {
            format!(
                "`agent.max_memory` is {}, but {} allows {}: the kernel may kill everytick; lower \
                 `agent.max_memory` to 75 % of that, or raise the limit",
                format_bytes(self.agent.max_memory),
                limit.file.display(),
                format_bytes(limit.value)
            )
        });
        writers.into_iter().chain(memory).collect()
    }

    /// Returns the fact of this machine from which the memory limit follows, if it is not set.
    pub fn memory_origin(&self) -> Option<String> {
        let agent = self.resolved.iter().find(|section| section.name == "agent")?;
        match &agent.get("max_memory")?.origin {
            Origin::Machine(fact) => Some(fact.clone()),
            _ => None,
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
        let (file, memory_limit) = (self.file.take(), self.memory_limit.take());
        let config = Self::from_resolved(std::mem::take(&mut self.resolved));
        *self = Self { file, memory_limit, ..config };
        changed
    }
}

/// Checks what starting the agent would: files of secrets can be read and no other user can change
/// them, and certificates and keys are such.
///
/// # Errors
/// [`ConfigError`] with everything that is wrong.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    let mut problems = Problems::default();
    config.resolved.iter().for_each(|section| section.report_unreadable_files(&mut problems));
    problems.or(())?;
    config.check_machine()?;
    let mut problems = Problems::default();
    for sink in &config.sinks {
        let delivery = DeliveryConfig { spool: config.spool.clone(), sinks: vec![sink.clone()] };
        if let Err(error) = Delivery::check(&delivery) {
            let section = format!("{SINK_PREFIX}{}", sink.name);
            let found = config.resolved.iter().find(|found| found.name == section);
            let at = found.and_then(|found| found.get(&SINK_TYPE.path));
            let at = at.map_or(Origin::Default, |value| value.origin.clone());
            problems.push(Problem::at(at, format!("[{section}]: {error}")));
        }
    }
    problems.or(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_limit_below_the_least_is_a_clear_error() {
        let config = |mib: u64| {
            let limit = CgroupLimit { value: mib << 20, file: "/cgroup/memory.max".into() };
            let config = Config::from_layers(None, &Flags::default(), [], "host", Some(limit));
            config.expect("defaults are valid")
        };
        assert_eq!(config(80).check_machine(), Ok(()));
        assert_eq!(config(80).agent.max_memory, 60 << 20);
        let error = config(64).check_machine().expect_err("too low").to_string();
        assert_eq!(
            error,
            "the memory limit 64MiB of /cgroup/memory.max is too low: everytick takes 75 % of it, \
             48MiB, and needs 60MiB; raise the limit to 80MiB or more, or set `agent.max_memory`"
        );
    }

    #[test]
    fn memory_beyond_the_limit_is_a_warning() {
        let limit = CgroupLimit { value: 100 << 20, file: "/cgroup/memory.max".into() };
        let flags = Flags::default();
        let variable = ("EVERYTICK_AGENT_MAX_MEMORY".into(), "200MiB".into());
        let config = Config::from_layers(None, &flags, [variable], "host", Some(limit));
        let config = config.expect("valid");
        assert_eq!(config.memory_origin(), None);
        let warnings = config.warnings();
        assert!(warnings[0].starts_with("`agent.max_memory` is 200MiB, but "), "{warnings:?}");
    }
}
