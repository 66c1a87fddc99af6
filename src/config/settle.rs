//! Layers become one value for each key: the strongest, or what holds without.

use toml::{Table, Value};

use super::environment::variable_of_sink;
use super::error::{Origin, Problem, Problems};
use super::file::{self, Text};
use super::given::{Raw, cut};
use super::kind::{Bad, Kind};
use super::layers::{Entry, Layers, SinkLayers};
use super::schema::{self, Key, SECTIONS, Unset};
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
const SINK: &str = "sinks.";

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
    settled.extend(of_sinks.filter_map(|(name, of)| sink(name, of, layers.text, problems)));
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
fn strongest(
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

fn unset(key: &'static Key) -> Option<Setting> {
    let Unset::Is(text) = key.unset else { return None };
    let value = key.kind.read(Raw::Text(text)).ok()?;
    Some(Setting { key, value, origin: Origin::Default })
}

fn sink(
    name: &str,
    layers: &SinkLayers<'_>,
    text: Option<&Text>,
    problems: &mut Problems,
) -> Option<Settled> {
    if let Some(refusal) = sinks::name_problem(name) {
        problems.push(Problem::Refused { at: layers.at.clone(), text: refusal });
        return None;
    }
    let settings = of_type(name, layers, text, problems)?;
    let settled = Settled { name: format!("{SINK}{name}"), at: layers.at.clone(), settings };
    sinks::check(&settled, problems);
    Some(settled)
}

fn of_type(
    name: &str,
    layers: &SinkLayers<'_>,
    text: Option<&Text>,
    problems: &mut Problems,
) -> Option<Vec<Setting>> {
    let entries = |key: &Key| layers.entries.get(key.path).map(Vec::as_slice).unwrap_or_default();
    let path = |key: &Key| format!("{SINK}{name}.{}", key.path);
    let key = &sinks::TYPE;
    let Some(setting) = strongest(key, &path(key), entries(key), text, problems) else {
        if entries(key).is_empty() {
            problems.push(missing(name, layers, key));
        }
        return None;
    };
    let of = sinks::of(setting.value.as_str()?)?;
    unknown_keys(name, layers, of, problems);
    let mut settings = vec![setting];
    for key in of.keys() {
        let found = strongest(key, &path(key), entries(key), text, problems).or_else(|| unset(key));
        if found.is_none() && entries(key).is_empty() && matches!(key.unset, Unset::Missing(_)) {
            problems.push(missing(name, layers, key));
        }
        settings.extend(found);
    }
    Some(settings)
}

/// Says how to set what a sink must have.
fn missing(sink: &str, layers: &SinkLayers<'_>, key: &'static Key) -> Problem {
    let example = match key.unset {
        // Whoever names a sink after its type has told it.
        Unset::Missing(_) if key.path == sinks::TYPE.path && sinks::NAMES.contains(&sink) => {
            format!("\"{sink}\"")
        }
        Unset::Missing(example) => example.to_owned(),
        _ => "...".to_owned(),
    };
    let step = match layers.at {
        Origin::File { .. } => format!("write {} = {example}", key.path),
        _ => {
            let example = example.replace('"', "");
            format!("set {} to {example}", variable_of_sink(sink, key.path))
        }
    };
    Problem::MissingKey { at: layers.at.clone(), sink: sink.to_owned(), key: key.path, step }
}

fn unknown_keys(
    name: &str,
    layers: &SinkLayers<'_>,
    of: &'static sinks::Type,
    problems: &mut Problems,
) {
    let section = format!("{SINK}{name}");
    for (path, entries) in &layers.entries {
        if of.key(path).is_some() || path == sinks::TYPE.path {
            continue;
        }
        let origins = entries.iter().map(|entry| entry.origin.clone());
        problems.push(match origins.last() {
            Some(Origin::Environment(name)) => Problem::UnknownVariable {
                name,
                help: format!(
                    "[{section}] is of type {}, which has no `{path}`, so unset it",
                    of.name
                ),
            },
            at => Problem::UnknownKey {
                at: at.unwrap_or(Origin::Default),
                key: cut(path),
                help: sink_help(path, of),
                section: section.clone(),
            },
        });
        if problems.is_full() {
            return;
        }
    }
}

fn sink_help(path: &str, of: &'static sinks::Type) -> String {
    let paths = || of.keys().map(|key| key.path).chain([sinks::TYPE.path]);
    let below = format!("{path}.");
    if let Some(key) = paths().find(|key| key.starts_with(&below)) {
        return format!("it is a table, so write {key} = ...");
    }
    let others = sinks::TYPES.iter().filter(|other| other.key(path).is_some());
    let others: Vec<&str> = others.map(|other| other.name).collect();
    if !others.is_empty() {
        return format!("sinks of type {} have it, not those of {}", others.join(", "), of.name);
    }
    schema::help(schema::SINKS, path, paths())
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
