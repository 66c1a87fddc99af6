//! Layers become one value for each key: the strongest, or what holds without.

use toml::{Table, Value};

use super::error::{Origin, Problem, Problems};
use super::file::{self, Text};
use super::given::Raw;
use super::kind::{Bad, Kind};
use super::layers::{Entry, Layers};
use super::one_sink::OneSink;
use super::schema::{Key, SECTIONS, Unset};
use super::sinks;
use super::units;

/// The value of a key that is in force.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub key: &'static Key,
    pub value: Value,
    pub origin: Origin,
}

/// All values of a section that are in force, in the order of the table of keys.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    /// Such as `agent` or `sinks.main`.
    pub name: String,
    /// Where a sink was first named.
    pub at: Origin,
    pub settings: Vec<Setting>,
}

/// What this machine says, for keys that nobody set.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// Its name and who says so.
    pub node: (String, Origin),
    /// Variables of OpenTelemetry.
    pub otel: Vec<(String, String)>,
}

impl Settled {
    /// Gives a setting by the name of its key in the section.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| self.name_of(setting.key) == name)
    }

    /// Gives the name of a key in this section.
    pub fn name_of(&self, key: &Key) -> &'static str {
        if self.is_sink() { key.path } else { key.name() }
    }

    /// Says whether it is a sink's.
    pub fn is_sink(&self) -> bool {
        self.name.starts_with(SINK)
    }

    /// Gives the field that a setting is handed on in.
    fn field(&self, setting: &Setting) -> (&'static str, Value) {
        let duration = setting.value.as_str().and_then(|text| units::duration(text).ok());
        match (setting.key.seconds, duration) {
            (Some(field), Some(duration)) => {
                let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
                (field, Value::Integer(seconds))
            }
            _ => (self.name_of(setting.key), setting.value.clone()),
        }
    }

    /// Gives its values as a table with tables in it.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        for setting in &self.settings {
            let (name, value) = self.field(setting);
            let mut names: Vec<&str> = name.split('.').collect();
            let last = names.pop().unwrap_or_default();
            if let Some(inner) = descend(&mut table, &names) {
                inner.insert(last.to_owned(), value);
            }
        }
        table
    }
}

fn descend<'a>(table: &'a mut Table, names: &[&str]) -> Option<&'a mut Table> {
    names.iter().try_fold(table, |table, name| {
        table.entry((*name).to_owned()).or_insert_with(|| Value::Table(Table::new())).as_table_mut()
    })
}

/// What the names of sinks' sections begin with.
pub(super) const SINK: &str = "sinks.";

/// Settles every section.
pub(super) fn settle(
    layers: &Layers<'_>,
    machine: &Machine,
    problems: &mut Problems,
) -> Vec<Settled> {
    let mut settled = Vec::new();
    for section in &SECTIONS {
        let one = |key: &'static Key| fixed(key, layers, machine, problems);
        let settings = section.keys.iter().filter_map(one).collect();
        let (name, at) = (section.name.to_owned(), Origin::Default);
        settled.push(Settled { name, at, settings });
    }
    if layers.sinks.len() > sinks::SINKS_MAX {
        let at = layers.sinks.values().next_back().map_or(Origin::Default, |sink| sink.at.clone());
        let (count, most) = (layers.sinks.len(), sinks::SINKS_MAX);
        let text = format!("there are {count} sinks; take away some, because {most} is the most");
        problems.push(Problem::Refused { at, text });
        return settled;
    }
    let of_sinks = layers.sinks.iter();
    let of_sinks =
        of_sinks.map(|(name, of)| OneSink { name, layers: of, text: layers.text, machine });
    settled.extend(of_sinks.filter_map(|sink| sink.settle(problems)));
    settled
}

fn fixed(
    key: &'static Key,
    layers: &Layers<'_>,
    machine: &Machine,
    problems: &mut Problems,
) -> Option<Setting> {
    if let Some(setting) = strongest(key, key.path, layers.of(key), layers.text, problems) {
        return Some(setting);
    }
    match key.path {
        "agent.node" => {
            let (node, origin) = machine.node.clone();
            Some(Setting { key, value: Value::String(node), origin })
        }
        "store.enabled" => {
            let value = Value::Boolean(layers.sinks.is_empty());
            Some(Setting { key, value, origin: Origin::Default })
        }
        _ => unset(key),
    }
}

/// Reads everything that was set of a key, so that each mistake is told, and gives the strongest.
pub(super) fn strongest(
    key: &'static Key,
    path: &str,
    entries: &[Entry<'_>],
    text: Option<&Text>,
    problems: &mut Problems,
) -> Option<Setting> {
    let mut strongest = None;
    for Entry { raw, origin } in entries {
        match key.kind.read(*raw) {
            Ok(value) => strongest = Some(Setting { key, value, origin: origin.clone() }),
            Err(bad) => problems.push(problem(path, origin, text, bad)),
        }
    }
    strongest
}

fn problem(path: &str, origin: &Origin, text: Option<&Text>, bad: Bad) -> Problem {
    let is_file = matches!(origin, Origin::File { .. });
    let mut at = origin.clone();
    let what = match bad.entry {
        None if is_file => format!("`{path}`"),
        None => origin.to_string(),
        Some((entry, place)) if is_file => {
            if let (Some(text), Some(place)) = (text, place) {
                at = text.at(place.start);
            }
            format!("`{path}.{entry}`")
        }
        Some((entry, _)) => format!("`{entry}` in {origin}"),
    };
    Problem::Value { at, what, found: bad.found, give: bad.give }
}

/// Gives what holds when nobody has set a key.
pub(super) fn unset(key: &'static Key) -> Option<Setting> {
    let Unset::Is(text) = key.unset else { return None };
    let value = key.kind.read(Raw::Text(text)).ok()?;
    Some(Setting { key, value, origin: Origin::Default })
}

impl Settled {
    /// Finds files that must be there and cannot be read.
    pub fn unreadable_files(&self, problems: &mut Problems) {
        for Setting { key, value, origin } in &self.settings {
            let paths: Vec<&str> = match (key.kind, value) {
                (Kind::File, Value::String(path)) => vec![path],
                (Kind::HeaderFiles, Value::Table(files)) => {
                    files.values().filter_map(Value::as_str).collect()
                }
                _ => continue,
            };
            for path in paths {
                let Some(error) = file::unreadable(path) else { continue };
                let text = format!(
                    "`{}.{}` names {path}, which cannot be read: {error}; put it there and make it readable",
                    self.name,
                    self.name_of(key)
                );
                problems.push(Problem::Refused { at: origin.clone(), text });
            }
        }
    }
}
