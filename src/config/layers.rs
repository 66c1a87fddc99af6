//! Values by source: file, environment, flags, weakest first.

use std::collections::BTreeMap;

use upload::config::Input;

use super::error::Origin;
use super::text::SourceText;

/// A value as it was written, and where.
#[derive(Clone, Debug)]
pub(super) struct LayerValue<'a> {
    pub input: Input<'a>,
    pub origin: Origin,
}

/// All values of one section.
#[derive(Debug, Default)]
pub(super) struct SectionLayers<'a> {
    /// Where a sink is first named.
    pub at: Option<Origin>,
    /// Values by the path of their key, strongest last. Keys of sinks may be unknown: they depend
    /// on its type.
    values: BTreeMap<String, Vec<LayerValue<'a>>>,
}

/// All values.
#[derive(Debug, Default)]
pub(super) struct Layers<'a> {
    /// The file, which places of entries in tables are looked up in.
    pub text: Option<&'a SourceText>,
    pub sections: BTreeMap<&'static str, SectionLayers<'a>>,
    /// By name.
    pub sinks: BTreeMap<String, SectionLayers<'a>>,
}

impl<'a> SectionLayers<'a> {
    /// Adds a value over the existing ones of its key.
    pub fn push(&mut self, path: impl Into<String>, value: LayerValue<'a>) {
        self.values.entry(path.into()).or_default().push(value);
    }

    /// Returns all values of a key, strongest last.
    pub fn get(&self, path: &str) -> &[LayerValue<'a>] {
        self.values.get(path).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the keys and where each was set last.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.values
            .iter()
            .filter_map(|(path, values)| Some((path.as_str(), &values.last()?.origin)))
    }
}

impl<'a> Layers<'a> {
    /// Returns the values of a section of the agent itself.
    pub fn section(&mut self, name: &'static str) -> &mut SectionLayers<'a> {
        self.sections.entry(name).or_default()
    }

    /// Returns the values of a sink. `at`: where it is named, if this is the first time.
    pub fn sink(&mut self, name: &str, at: &Origin) -> &mut SectionLayers<'a> {
        let sink = self.sinks.entry(name.to_owned()).or_default();
        sink.at.get_or_insert_with(|| at.clone());
        sink
    }
}
