//! The configuration file: collects its values with their places.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use upload::config::{Input, InputEntry, shorten};

use super::error::{Problem, Problems};
use super::layers::{LayerValue, Layers};
use super::schema::{self, PathRole, SECTIONS, SINK_TYPES, Section};
use super::suggest::closest;
use super::text::SourceText;

/// Keys of a section that are read, known or not.
const KEYS_MAX: usize = 1000;

/// Collects all values of a file.
pub(super) fn collect<'a>(
    text: &'a SourceText,
    document: &'a DeTable<'a>,
    layers: &mut Layers<'a>,
    problems: &mut Problems,
) {
    let mut file = FileReader { text, layers, problems };
    for (name, value) in document.iter() {
        let at = name.span();
        match (name.get_ref().as_ref(), value.get_ref()) {
            ("sinks", value) => file.sinks(at, value),
            (name, value) => match SECTIONS.iter().find(|section| section.name == name) {
                Some(section) => file.section(section, at, value),
                None => file.unknown_section(name, at, value),
            },
        }
        if file.problems.is_full() {
            return;
        }
    }
}

struct FileReader<'a, 'b> {
    text: &'a SourceText,
    layers: &'b mut Layers<'a>,
    problems: &'b mut Problems,
}

/// A key with its value.
struct Leaf<'a> {
    /// Path of the key in its section.
    path: String,
    at: Range<usize>,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> FileReader<'a, '_> {
    fn section(&mut self, section: &'static Section, at: Range<usize>, value: &'a DeValue<'a>) {
        let DeValue::Table(table) = value else {
            let name = section.name;
            let text = format!("`{name}` is a section; write [{name}], and its keys below");
            return self.report(&at, text);
        };
        for leaf in leaves(table, |path| PathRole::of(path, schema::paths(&section.keys))) {
            if section.key(&leaf.path).is_some() {
                let value = self.layer_value(&leaf);
                self.layers.section(section.name).push(leaf.path, value);
                continue;
            }
            let known: Vec<&str> = schema::paths(&section.keys).collect();
            let help = schema::suggest_key(Some(section.name), &leaf.path, &known);
            let (key, section) = (shorten(&leaf.path), section.name);
            self.report(&leaf.at, format!("unknown key `{key}` in [{section}]; {help}"));
        }
    }

    fn sinks(&mut self, at: Range<usize>, value: &'a DeValue<'a>) {
        let DeValue::Table(sinks) = value else {
            let text = "each sink is a section with a name; write [sinks.NAME] and its keys below";
            return self.report(&at, text.into());
        };
        for (name, value) in sinks.iter() {
            let (at, name) = (name.span(), name.get_ref().as_ref());
            let DeValue::Table(table) = value.get_ref() else {
                self.report(
                    &at,
                    format!(
                        "[sinks] has no keys of its own, such as `{}`; write [sinks.NAME] above it",
                        shorten(name)
                    ),
                );
                continue;
            };
            let at = self.text.at(at.start);
            self.layers.sink(name, &at);
            for leaf in leaves(table, |path| PathRole::of(path, schema::sink_paths())) {
                let value = self.layer_value(&leaf);
                self.layers.sink(name, &at).push(leaf.path, value);
            }
            if self.problems.is_full() {
                return;
            }
        }
    }

    fn layer_value(&self, leaf: &Leaf<'a>) -> LayerValue<'a> {
        LayerValue { input: input(leaf.value.get_ref()), origin: self.text.at(leaf.at.start) }
    }

    fn report(&mut self, at: &Range<usize>, text: String) {
        self.problems.push(Problem::at(self.text.at(at.start), text));
    }

    fn unknown_section(&mut self, name: &str, at: Range<usize>, value: &DeValue<'_>) {
        let shown = shorten(name);
        if !matches!(value, DeValue::Table(_)) {
            let help = schema::suggest_key(None, name, &[]);
            let text = format!("unknown key `{shown}` above all sections; {help}");
            return self.report(&at, text);
        }
        let help = if SINK_TYPES.iter().any(|sink| sink.name == name) {
            format!("a sink has a name, too, as in [sinks.{name}]")
        } else {
            let names = SECTIONS.iter().map(|section| section.name).chain(["sinks.NAME"]);
            match closest(name, names.clone()) {
                Some(near) => format!("did you mean [{near}]?"),
                None => format!("the sections are [{}]", names.collect::<Vec<_>>().join("], [")),
            }
        };
        self.report(&at, format!("unknown section [{shown}]; {help}"));
    }
}

/// Returns the keys of a section. Descends only into tables that may hold keys.
fn leaves<'a>(table: &'a DeTable<'a>, role: impl Fn(&str) -> PathRole) -> Vec<Leaf<'a>> {
    let mut leaves = Vec::new();
    let mut todo = vec![(String::new(), table)];
    while let Some((prefix, table)) = todo.pop() {
        for (name, value) in table.iter().take(KEYS_MAX) {
            let path = format!("{prefix}{}", name.get_ref());
            match (role(&path), value.get_ref()) {
                (PathRole::Table, DeValue::Table(table)) => todo.push((path + ".", table)),
                _ => leaves.push(Leaf { path, at: name.span(), value }),
            }
        }
    }
    leaves.truncate(KEYS_MAX);
    leaves
}

/// Converts a value of TOML, without applying the type of its key.
fn input<'a>(value: &'a DeValue<'a>) -> Input<'a> {
    match value {
        DeValue::String(text) => Input::Quoted(text),
        DeValue::Integer(number) if number.radix() == 10 => Input::Number(number.as_str().into()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            Input::Number(parsed.map_or(number.to_string(), |number| number.to_string()).into())
        }
        DeValue::Float(number) => Input::Number(number.as_str().into()),
        DeValue::Boolean(on) => Input::Bool(*on),
        DeValue::Datetime(_) => Input::Other("a date or time"),
        DeValue::Array(_) => Input::Other("an array"),
        DeValue::Table(table) => {
            let entry = |(name, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
                let name: &Spanned<std::borrow::Cow<'a, str>> = name;
                InputEntry {
                    name: name.get_ref().as_ref().into(),
                    offset: Some(name.span().start),
                    value: match value.get_ref() {
                        DeValue::Table(_) => Input::Other("a table"),
                        value => input(value),
                    },
                }
            };
            Input::Table(table.iter().map(entry).collect())
        }
    }
}
