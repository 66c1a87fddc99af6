//! What was set by whom: file, environment, flags, weakest first.

use std::collections::BTreeMap;

use super::error::Origin;
use super::file::Text;
use super::given::Raw;
use super::schema::Key;

/// A value and where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub raw: Raw<'a>,
    pub origin: Origin,
}

/// A sink before its type is known.
#[derive(Debug)]
pub(super) struct SinkLayers<'a> {
    /// Where it was first named.
    pub at: Origin,
    /// Everything set of each key, strongest last.
    pub entries: BTreeMap<String, Vec<Entry<'a>>>,
}

/// Everything that was set.
#[derive(Debug, Default)]
pub(super) struct Layers<'a> {
    /// The file, to find places in it.
    pub text: Option<&'a Text>,
    pub fixed: BTreeMap<&'static str, Vec<Entry<'a>>>,
    pub sinks: BTreeMap<String, SinkLayers<'a>>,
}

impl<'a> Layers<'a> {
    /// Sets a key of a section over what was set before.
    pub fn set(&mut self, key: &Key, entry: Entry<'a>) {
        self.fixed.entry(key.path).or_default().push(entry);
    }

    /// Notes a sink.
    pub fn sink(&mut self, name: &str, at: Origin) {
        let new = || SinkLayers { at, entries: BTreeMap::new() };
        self.sinks.entry(name.to_owned()).or_insert_with(new);
    }

    /// Sets a key of a sink over what was set before.
    pub fn set_of_sink(&mut self, name: &str, path: String, entry: Entry<'a>) {
        self.sink(name, entry.origin.clone());
        if let Some(sink) = self.sinks.get_mut(name) {
            sink.entries.entry(path).or_default().push(entry);
        }
    }

    /// Gives everything set of a key, strongest last.
    pub fn of(&self, key: &Key) -> &[Entry<'a>] {
        self.fixed.get(key.path).map(Vec::as_slice).unwrap_or_default()
    }
}
