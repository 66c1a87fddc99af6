//! The configuration of `everytick agent`: a file, over it the environment, over that flags.
//!
//! [`Config::load`] needs nothing of the machine but the file and the host's name. Every value
//! goes through the one table of keys (`schema.rs`, and `sinks.rs` for sinks), which says what is known, what it takes
//! and what holds without it; what comes out are plain structs. All mistakes are told at once, each in one
//! sentence with its place and the next step.
//!
//! What is not done here: nothing is opened but the file, except by [`check`], which looks
//! whether files of secrets and certificates can be read.

mod entries;
mod environment;
mod error;
mod file;
mod flags;
mod given;
mod kind;
mod layers;
mod manual;
mod one_sink;
mod otel;
mod range;
mod report;
mod schema;
mod sections;
mod settle;
mod sinks;
mod suggest;
mod units;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use serde::de::DeserializeOwned;
use upload::delivery::NamedSink;

use environment::Variables;
use error::Problems;
use file::Text;
use layers::Layers;
use settle::{Machine, Settled};

pub use error::{ConfigError, Origin, Problem};
pub use file::DEFAULT_FILE;
pub use flags::Flags;
pub use manual::manual;
pub use range::{RangeError, TimeRange};
pub use sections::{Agent, Log, LogFormat, Spool, Store};

/// Everything that is in force.
#[derive(Clone)]
pub struct Config {
    /// What is sampled, and what that may cost.
    pub agent: Agent,
    /// What is told.
    pub log: Log,
    /// The local store.
    pub store: Store,
    /// Where profiles wait for their sinks.
    pub spool: Spool,
    /// Where profiles go, in the order of names.
    pub sinks: Vec<NamedSink>,
    settled: Vec<Settled>,
}

/// As [`Config::in_force`]: what may be a secret is not shown.
impl fmt::Debug for Config {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.in_force())
    }
}

impl Config {
    /// Reads the file that `flags` name, or [`DEFAULT_FILE`] if it is there, and puts `environment` and
    /// `flags` over it.
    ///
    /// `environment`: all variables by name, as [`std::env::vars_os`] gives them.
    ///
    /// # Errors
    /// [`ConfigError`] with all that is wrong.
    pub fn load(
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let text = Text::read(flags.config.as_deref())?;
        Self::of(text.as_ref(), flags, environment, &crate::symbolization::host_name())
    }

    /// As [`Self::load`], from what is in the file named `path`, on a machine named `host`.
    ///
    /// # Errors
    /// [`ConfigError`] with all that is wrong.
    pub fn from_text(
        path: &Path,
        text: &str,
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        host: &str,
    ) -> Result<Self, ConfigError> {
        let text = Text::of(path, text.into())?;
        Self::of(Some(&text), flags, environment, host)
    }

    fn of(
        text: Option<&Text>,
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        host: &str,
    ) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let variables = Variables::of(environment, &mut problems);
        let document = text.map(Text::parse).transpose()?;
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
        let settled =
            settle::settle(&layers, &Machine { node, otel: variables.otel.clone() }, &mut problems);
        sections::check(&settled, &mut problems);
        Ok(Self::build(problems.or(settled)?)?)
    }

    fn build(settled: Vec<Settled>) -> Result<Self, Problem> {
        let sinks = settled.iter().filter(|section| section.is_sink());
        Ok(Self {
            agent: section(&settled, "agent")?,
            log: section(&settled, "log")?,
            store: section(&settled, "store")?,
            spool: section(&settled, "spool")?,
            sinks: sinks.map(sinks::settings).collect::<Result<_, _>>()?,
            settled,
        })
    }

    /// Shows what is in force as TOML, each value with its origin. Secrets are not in it, only the names of
    /// the files that they are in.
    pub fn in_force(&self) -> String {
        report::in_force(&self.settled)
    }

    /// Goes by what the agent was `started` with where that cannot change while it runs. Names the keys, such as
    /// `agent.listen`, that say otherwise now.
    pub fn keep_until_restart(&mut self, started: &Self) -> Vec<&'static str> {
        let value = |config: &Self, key: &schema::Key| {
            let section = config.settled.iter().find(|section| section.name == key.section());
            section.and_then(|section| section.get(key.name())).map(|setting| setting.value.clone())
        };
        let differs = |key: &&schema::Key| key.restart && value(self, key) != value(started, key);
        let waiting = schema::keys().filter(differs).map(|key| key.path).collect();
        self.agent.max_memory = started.agent.max_memory;
        self.spool.directory.clone_from(&started.spool.directory);
        self.store.directory.clone_from(&started.store.directory);
        waiting
    }
}

/// Loads as [`Config::load`] does, looks whether the files that it names can be read, and shows what is in force.
///
/// # Errors
/// [`ConfigError`] with all that is wrong.
pub fn check(
    flags: &Flags,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<String, ConfigError> {
    let config = Config::load(flags, environment)?;
    let mut problems = Problems::default();
    config.settled.iter().for_each(|section| section.unreadable_files(&mut problems));
    problems.or(config.in_force())
}

/// Gives a section as its struct.
fn section<T: DeserializeOwned>(settled: &[Settled], name: &str) -> Result<T, Problem> {
    let section = settled.iter().find(|section| section.name == name);
    let (at, table) = section.map_or_else(
        || (Origin::Default, toml::Table::new()),
        |section| (section.at.clone(), section.table()),
    );
    T::deserialize(table)
        .map_err(|error| Problem::Refused { at, text: format!("[{name}]: {}", error.message()) })
}
