//! All sections and their keys, and what an unknown name may have meant.

use std::sync::LazyLock;

use upload::config::{Config, DefaultValue, Key, KeyType, Value};
use upload::sinks::SinkType;
use upload::spool::SpoolConfig;

use super::sections::{AgentSection, LogSection, StoreSection};
use super::suggest::closest;

/// A section of the agent itself.
#[derive(Debug)]
pub(super) struct Section {
    pub name: &'static str,
    pub help: String,
    pub keys: Vec<Key>,
}

/// All sections but those of sinks.
pub(super) static SECTIONS: LazyLock<[Section; 4]> = LazyLock::new(|| {
    [
        section::<AgentSection>("agent"),
        section::<LogSection>("log"),
        section::<StoreSection>("store"),
        section::<SpoolConfig>("spool"),
    ]
});

fn section<T: Config>(name: &'static str) -> Section {
    Section { name, help: T::help(), keys: T::keys() }
}

/// All types of sinks.
pub(super) static SINK_TYPES: LazyLock<Vec<SinkType>> = LazyLock::new(SinkType::all);

/// The key that selects the type of a sink.
pub(super) static SINK_TYPE: LazyLock<Key> = LazyLock::new(|| Key {
    path: "type".to_owned(),
    help: "Type of the sink, one of those below.".to_owned(),
    key_type: KeyType::OneOf(SinkType::NAMES),
    accepts_off: false,
    default: DefaultValue::Required(SinkType::names_in_words()),
    needs_restart: false,
});

impl Section {
    /// Returns the path of a key with its section, as in `agent.frequency`.
    pub fn path(&self, key: &Key) -> String {
        format!("{}.{}", self.name, key.path)
    }

    /// Returns a key by its path in the section.
    pub fn key(&self, path: &str) -> Option<&Key> {
        find(&self.keys, path)
    }
}

/// Returns a key by its path.
pub(super) fn find<'a>(keys: &'a [Key], path: &str) -> Option<&'a Key> {
    keys.iter().find(|key| key.path == path)
}

/// Returns the paths of keys.
pub(super) fn paths(keys: &[Key]) -> impl Iterator<Item = &str> + Clone {
    keys.iter().map(|key| key.path.as_str())
}

/// Returns all keys but those of sinks, with their sections.
pub(super) fn agent_keys() -> impl Iterator<Item = (&'static Section, &'static Key)> + Clone {
    SECTIONS.iter().flat_map(|section| section.keys.iter().map(move |key| (section, key)))
}

/// Returns a key by section and path, as in `agent.frequency`.
pub(super) fn agent_key(path: &str) -> Option<(&'static Section, &'static Key)> {
    let (section, path) = path.split_once('.')?;
    agent_keys().find(|(found, key)| found.name == section && key.path == path)
}

/// Returns the paths of the keys of all types of sinks, those that several types have repeatedly.
pub(super) fn sink_paths() -> impl Iterator<Item = &'static str> + Clone {
    SINK_TYPES.iter().flat_map(|sink| paths(&sink.keys)).chain([SINK_TYPE.path.as_str()])
}

/// Returns a type of sinks by the value of [`SINK_TYPE`].
pub(super) fn sink_type(value: &Value) -> Option<&'static SinkType> {
    SINK_TYPES.iter().find(|sink| *value == Value::Text(sink.name.to_owned()))
}

/// The role of a path in a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathRole {
    Key,
    /// A table of keys.
    Table,
    Unknown,
}

impl PathRole {
    /// Classifies `path` among the `known` paths of keys.
    pub fn of<'a>(path: &str, mut known: impl Iterator<Item = &'a str> + Clone) -> Self {
        if known.clone().any(|key| key == path) {
            return Self::Key;
        }
        let is_below = |key: &str| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        if known.any(is_below) { Self::Table } else { Self::Unknown }
    }
}

/// Suggests what `name`, which `section` does not have, may have meant.
///
/// `section`: `None` above all sections. `known`: paths of the keys of the section.
pub(super) fn suggest_key(section: Option<&str>, name: &str, known: &[&str]) -> String {
    let is_sink = section.is_some_and(|section| section.starts_with(SINK_PREFIX));
    let has_it = |other: &&Section| Some(other.name) != section && other.key(name).is_some();
    if let Some(other) = SECTIONS.iter().find(has_it).filter(|_| !is_sink) {
        return format!("it is a key of [{}], so write it there", other.name);
    }
    let is_joined = |(section, key): &(&Section, &Key)| {
        name.strip_prefix(section.name).and_then(|rest| rest.strip_prefix('_'))
            == Some(key.path.as_str())
    };
    if let Some((section, key)) = agent_keys().find(is_joined) {
        return format!("write it as `{}` in [{}]", key.path, section.name);
    }
    if SECTIONS.iter().any(|section| section.name == name) {
        return format!("write [{name}] as a section of its own");
    }
    if let Some(near) = closest(name, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    if section.is_none() {
        return suggest_section(name);
    }
    format!("its keys are `{}`", known.join("`, `"))
}

/// Suggests the section of a key that is written above all sections.
fn suggest_section(name: &str) -> String {
    let near = closest(name, agent_keys().map(|(_, key)| key.path.as_str()));
    match agent_keys().find(|(_, key)| Some(key.path.as_str()) == near) {
        Some((section, key)) => format!("did you mean `{}` in [{}]?", key.path, section.name),
        None => "write its section above it, such as [agent]".into(),
    }
}

/// Prefix of the names of sinks' sections.
pub(super) const SINK_PREFIX: &str = "sinks.";

#[cfg(test)]
mod tests {
    use upload::config::Input;

    use super::*;

    #[test]
    fn defaults_are_valid_values() {
        let of_sinks = SINK_TYPES.iter().flat_map(|sink| &sink.keys);
        for key in agent_keys().map(|(_, key)| key).chain(of_sinks) {
            if let DefaultValue::Value(value) = &key.default {
                let text = key.key_type.show(value);
                assert_eq!(key.parse(&Input::Unquoted(&text)).as_ref(), Ok(value), "{}", key.path);
            }
        }
    }

    #[test]
    fn paths_are_unique_in_their_section() {
        let sections = SECTIONS.iter().map(|section| &section.keys);
        for keys in sections.chain(SINK_TYPES.iter().map(|sink| &sink.keys)) {
            for key in keys {
                assert_eq!(paths(keys).filter(|path| *path == key.path).count(), 1, "{}", key.path);
            }
        }
    }
}
