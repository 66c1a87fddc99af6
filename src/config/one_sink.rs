//! The layers of one sink become its settings, once its type is known.

use super::environment::variable_of_sink;
use super::error::{Origin, Problem, Problems};
use super::file::Text;
use super::given::{Raw, cut};
use super::layers::{Entry, SinkLayers};
use super::otel::Otel;
use super::schema::{self, Key, Unset};
use super::settle::{Machine, SINK, Setting, Settled, strongest, unset};
use super::sinks::{self, Type};

/// A sink and all that is known of it.
pub(super) struct OneSink<'a> {
    pub name: &'a str,
    pub layers: &'a SinkLayers<'a>,
    pub text: Option<&'a Text>,
    pub machine: &'a Machine,
}

impl OneSink<'_> {
    /// Gives its settings, if it is clear which sink it is.
    pub fn settle(&self, problems: &mut Problems) -> Option<Settled> {
        let at = self.layers.at.clone();
        if let Some(text) = sinks::name_problem(self.name) {
            problems.push(Problem::Refused { at, text });
            return None;
        }
        let settled = Settled { name: self.section(), at, settings: self.settings(problems)? };
        sinks::check(&settled, problems);
        Some(settled)
    }

    fn section(&self) -> String {
        format!("{SINK}{}", self.name)
    }

    fn entries(&self, key: &Key) -> &[Entry<'_>] {
        self.layers.entries.get(key.path).map(Vec::as_slice).unwrap_or_default()
    }

    fn strongest(&self, key: &'static Key, problems: &mut Problems) -> Option<Setting> {
        let path = format!("{}.{}", self.section(), key.path);
        strongest(key, &path, self.entries(key), self.text, problems)
    }

    fn settings(&self, problems: &mut Problems) -> Option<Vec<Setting>> {
        let Some(setting) = self.strongest(&sinks::TYPE, problems) else {
            if self.entries(&sinks::TYPE).is_empty() {
                problems.push(self.missing(&sinks::TYPE));
            }
            return None;
        };
        let of = sinks::of(setting.value.as_str()?)?;
        self.unknown_keys(of, problems);
        let otel = self.otel(of, problems);
        let mut settings = vec![setting];
        for key in of.keys() {
            let found = match self.entries(key) {
                [] => otel.setting(key, &settings).map(|given| checked(given, problems)),
                _ => self.strongest(key, problems),
            };
            let found = found.or_else(|| unset(key));
            let is_missing = found.is_none() && self.entries(key).is_empty();
            if is_missing && matches!(key.unset, Unset::Missing(_)) {
                problems.push(self.missing(key));
            }
            settings.extend(found);
        }
        Some(settings)
    }

    /// Reads OpenTelemetry's variables, if they concern sinks of this type.
    fn otel(&self, of: &Type, problems: &mut Problems) -> Otel {
        if of.name != "otlp" {
            return Otel::default();
        }
        Otel::of(&self.machine.otel).unwrap_or_else(|problem| {
            problems.push(problem);
            Otel::default()
        })
    }

    /// Says how to set what a sink must have.
    fn missing(&self, key: &'static Key) -> Problem {
        let example = match key.unset {
            // Whoever names a sink after its type has told it.
            _ if key.path == sinks::TYPE.path && sinks::NAMES.contains(&self.name) => {
                format!("\"{}\"", self.name)
            }
            Unset::Missing(example) => example.to_owned(),
            _ => "...".to_owned(),
        };
        let step = match self.layers.at {
            Origin::File { .. } => format!("write {} = {example}", key.path),
            _ => {
                let name = variable_of_sink(self.name, key.path);
                format!("set {name} to {}", example.replace('"', ""))
            }
        };
        let (at, sink) = (self.layers.at.clone(), self.name.to_owned());
        Problem::MissingKey { at, sink, key: key.path, step }
    }

    fn unknown_keys(&self, of: &'static Type, problems: &mut Problems) {
        for (path, entries) in &self.layers.entries {
            let is_known = of.key(path).is_some() || path == sinks::TYPE.path;
            if let (false, Some(entry)) = (is_known, entries.last()) {
                problems.push(self.unknown(path, &entry.origin, of));
            }
            if problems.is_full() {
                return;
            }
        }
    }

    fn unknown(&self, path: &str, origin: &Origin, of: &'static Type) -> Problem {
        let section = self.section();
        if let Origin::Environment(name) = origin {
            let is = format!("[{section}] is of type {}, which has no `{path}`", of.name);
            return Problem::UnknownVariable { name: name.clone(), help: is + ", so unset it" };
        }
        let (at, key, help) = (origin.clone(), cut(path), help(path, of));
        Problem::UnknownKey { at, key, section, help }
    }
}

/// Values of OpenTelemetry's variables are checked as anybody's, but that headers may be secrets there.
fn checked(given: Setting, problems: &mut Problems) -> Setting {
    let text = given.value.as_str();
    if let Some(Err(bad)) = text.map(|text| given.key.kind.read(Raw::Text(text))) {
        let (at, what) = (given.origin.clone(), given.origin.to_string());
        problems.push(Problem::Value { at, what, found: bad.found, give: bad.give });
    }
    given
}

/// Says what may be meant by a key that sinks of a type do not have.
fn help(path: &str, of: &'static Type) -> String {
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
