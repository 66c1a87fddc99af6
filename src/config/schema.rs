//! The one table of all keys but those of sinks: what each takes, what holds without it, what it does.
//!
//! `docs/configuration.md` is this table as people read it; a test compares the two.

use std::time::Duration;

use super::kind::Kind;
use super::suggest::closest;
use crate::budget::MemoryShares;

/// What holds when a key is not set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unset {
    /// This value, as a variable of the environment would give it.
    Is(&'static str),
    /// What other things give, told to people.
    Depends(&'static str),
    /// Nothing: what it would do is not done.
    Nothing,
    /// An error, which shows this.
    Missing(&'static str),
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Key {
    /// Section and name, or the name in a sink, with dots where tables are in tables.
    pub path: &'static str,
    pub kind: Kind,
    pub unset: Unset,
    pub meaning: &'static str,
    /// A change takes effect after a restart only.
    pub restart: bool,
    /// The field that its value is handed on in, when that has another name: in whole seconds.
    pub seconds: Option<&'static str>,
}

impl Key {
    pub const fn new(path: &'static str, kind: Kind, unset: Unset, meaning: &'static str) -> Self {
        Self { path, kind, unset, meaning, restart: false, seconds: None }
    }

    const fn needs_restart(self) -> Self {
        Self { restart: true, ..self }
    }

    /// Has a duration handed on in another field.
    pub const fn in_seconds(self, field: &'static str) -> Self {
        Self { seconds: Some(field), ..self }
    }

    /// Gives the name of its section.
    pub fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    /// Gives the name in its section.
    pub fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }
}

/// A section.
#[derive(Debug)]
pub(super) struct Section {
    pub name: &'static str,
    pub meaning: &'static str,
    pub keys: &'static [Key],
}

/// What a path in a section is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// A key.
    Key,
    /// A table of keys.
    Table,
    No,
}

impl Known {
    /// Looks a path up among those of keys.
    pub fn among<'a>(path: &str, mut paths: impl Iterator<Item = &'a str> + Clone) -> Self {
        if paths.clone().any(|key| key == path) {
            return Self::Key;
        }
        let is_above = |key: &str| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        if paths.any(is_above) { Self::Table } else { Self::No }
    }
}

impl Section {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name() == name)
    }

    pub fn paths(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.keys.iter().map(Key::name)
    }

    pub fn known(&self, path: &str) -> Known {
        Known::among(path, self.paths())
    }
}

/// Gives all keys.
pub(super) fn keys() -> impl Iterator<Item = &'static Key> + Clone {
    SECTIONS.iter().flat_map(|section| section.keys)
}

/// Finds a key by section and name.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    keys().find(|key| key.path == path)
}

/// What stands for the section of any sink.
pub(super) const SINKS: &str = "sinks";

/// Says what may be meant by a name that `section` does not have.
pub(super) fn help(
    section: &str,
    name: &str,
    paths: impl IntoIterator<Item = &'static str>,
) -> String {
    let paths: Vec<&str> = paths.into_iter().collect();
    let has_it =
        |other: &&Section| section != SINKS && other.name != section && other.key(name).is_some();
    if let Some(other) = SECTIONS.iter().find(has_it) {
        return format!("it is a key of [{}], so write it there", other.name);
    }
    if let Some(key) = keys().find(|key| key.path.replacen('.', "_", 1) == name) {
        return format!("write it as `{}` in [{}]", key.name(), key.section());
    }
    if SECTIONS.iter().any(|section| section.name == name) {
        return format!("write [{name}] as a section of its own");
    }
    if let Some(near) = closest(name, paths.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    if paths.is_empty() {
        let near = closest(name, keys().map(Key::name));
        if let Some(key) = keys().find(|key| Some(key.name()) == near) {
            return format!("did you mean `{}` in [{}]?", key.name(), key.section());
        }
        return "write the section that it belongs to above it, such as [agent]".into();
    }
    format!("its keys are `{}`", paths.join("`, `"))
}

const KIB: u64 = 1 << 10;
const MIB: u64 = KIB << 10;
const GIB: u64 = MIB << 10;
const TIB: u64 = GIB << 10;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Says what log lines are told, most important first.
pub(super) const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// What log lines look like.
pub(super) const FORMATS: [&str; 2] = ["text", "json"];

/// All sections but those of sinks.
pub(super) static SECTIONS: [Section; 4] = [
    Section { name: "agent", meaning: "What is sampled, and what that may cost.", keys: &AGENT },
    Section { name: "log", meaning: "What is told on standard error.", keys: &LOG },
    Section {
        name: "store",
        meaning: "The local store: a directory with a pprof file for each window, for one machine without a \
                  profile store elsewhere. `everytick agent --export` and `go tool pprof` read it.",
        keys: &STORE,
    },
    Section {
        name: "spool",
        meaning: "Where profiles wait until their sinks have taken them. What goes before that is counted for each \
                  sink that it waited for.",
        keys: &SPOOL,
    },
];

static AGENT: [Key; 11] = [
    Key::new(
        "agent.frequency",
        Kind::Whole { from: 1, to: 1000 },
        Unset::Is("19"),
        "samples a second on each CPU",
    ),
    Key::new(
        "agent.window",
        Kind::Duration { from: SECOND, to: HOUR },
        Unset::Is("10s"),
        "time that one profile covers",
    ),
    Key::new(
        "agent.node",
        Kind::Text,
        Unset::Depends("`$NODE_NAME`, else the host's name"),
        "name of this machine, the label `node` of each profile",
    ),
    Key::new(
        "agent.labels",
        Kind::Labels,
        Unset::Nothing,
        "labels that each profile gets, as in `team = \"core\"`; at most 16",
    ),
    Key::new(
        "agent.series_max",
        Kind::Whole { from: 1, to: 100_000 },
        Unset::Is("500"),
        "label sets in one window; those with fewest samples beyond that are merged into one",
    ),
    Key::new(
        "agent.max_cpu",
        Kind::Number { from: 0.01, to: 100.0 },
        Unset::Is("1.0"),
        "per cent of the machine's CPU time that everytick may take, BPF programs included; less is sampled \
         when it would take more",
    ),
    Key::new(
        "agent.max_memory",
        Kind::Bytes { from: MemoryShares::LEAST, to: TIB },
        Unset::Is("256MiB"),
        "memory that everytick may take, that in the kernel included",
    )
    .needs_restart(),
    Key::new(
        "agent.kernel_stacks",
        Kind::Switch,
        Unset::Is("true"),
        "whether stacks have kernel frames",
    )
    .needs_restart(),
    Key::new(
        "agent.user_stacks",
        Kind::Switch,
        Unset::Is("true"),
        "whether stacks have user frames",
    )
    .needs_restart(),
    Key::new(
        "agent.listen",
        Kind::AddressOrOff,
        Unset::Is("127.0.0.1:7171"),
        "where `/healthz`, `/readyz` and `/metrics` are served",
    )
    .needs_restart(),
    Key::new(
        "agent.cache_dir",
        Kind::DirectoryOrOff,
        Unset::Is("/var/lib/everytick/cache"),
        "where unwind tables are kept for the next start, 256 MiB at most",
    )
    .needs_restart(),
];

static LOG: [Key; 2] = [
    Key::new(
        "log.level",
        Kind::OneOf(&LEVELS),
        Unset::Is("info"),
        "the least important lines that are told",
    ),
    Key::new(
        "log.format",
        Kind::OneOf(&FORMATS),
        Unset::Is("text"),
        "what lines look like: for people, or an object of JSON each",
    )
    .needs_restart(),
];

static STORE: [Key; 4] = [
    Key::new(
        "store.enabled",
        Kind::Switch,
        Unset::Depends("`true` without sinks, else `false`"),
        "whether there is one",
    ),
    Key::new(
        "store.directory",
        Kind::Directory,
        Unset::Is("/var/lib/everytick/store"),
        "where it is",
    )
    .needs_restart(),
    Key::new(
        "store.max_bytes",
        Kind::Bytes { from: 64 * KIB, to: 1024 * TIB },
        Unset::Is("1GiB"),
        "largest size; the oldest windows go first",
    ),
    Key::new(
        "store.max_age",
        Kind::Duration { from: SECOND, to: Duration::from_secs(3660 * DAY.as_secs()) },
        Unset::Is("7d"),
        "windows that are older go, ten with each new one",
    ),
];

static SPOOL: [Key; 2] = [
    Key::new(
        "spool.directory",
        Kind::Directory,
        Unset::Is("/var/lib/everytick/spool"),
        "where it is",
    )
    .needs_restart(),
    Key::new(
        "spool.max_bytes",
        Kind::Bytes { from: 64 * KIB, to: TIB },
        Unset::Is("512MiB"),
        "largest size, profiles for several sinks counted once; the oldest goes first",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::given::Raw;
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_key() {
        for key in keys() {
            if let Unset::Is(text) = key.unset {
                assert!(key.kind.read(Raw::Text(text)).is_ok(), "{}", key.path);
            }
        }
    }

    #[test]
    fn every_key_is_in_the_section_that_it_names_and_there_once() {
        let mut paths = Vec::new();
        for section in &SECTIONS {
            for key in section.keys {
                assert_eq!(key.section(), section.name);
                paths.push(key.path);
            }
        }
        let count = paths.len();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), count);
    }
}
