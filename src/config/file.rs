//! The configuration file: reading it, and finding its settings with their places.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Origin, Problem, Problems};
use super::given::{Raw, cut};
use super::layers::{Entry, Layers};
use super::schema::{self, Known, SECTIONS};
use super::sinks;
use super::suggest::closest;

/// Read when no other is named, if it is there.
pub const DEFAULT_FILE: &str = "/etc/everytick/everytick.toml";
/// Largest file, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;
/// Keys of a section that are looked at.
const KEYS_MAX: usize = 1000;

/// A file's text, and where its lines are.
#[derive(Debug)]
pub(super) struct Text {
    path: Arc<Path>,
    pub text: String,
    lines: Vec<usize>,
}

impl Text {
    /// Reads the file that was asked for, or the usual one if it is there.
    pub fn read(asked: Option<&Path>) -> Result<Option<Self>, Problem> {
        let path = asked.unwrap_or(Path::new(DEFAULT_FILE));
        match bytes(path) {
            Err(Problem::NoFile { .. }) if asked.is_none() => Ok(None),
            Err(problem) => Err(problem),
            Ok(bytes) => Self::of(path, bytes).map(Some),
        }
    }

    /// Takes what a file has in it.
    pub fn of(path: &Path, bytes: Vec<u8>) -> Result<Self, Problem> {
        let (bytes, is_text) = match String::from_utf8(bytes) {
            Ok(text) => (text, true),
            Err(error) => {
                let end = error.utf8_error().valid_up_to();
                let mut bytes = error.into_bytes();
                bytes.truncate(end);
                (String::from_utf8(bytes).unwrap_or_default(), false)
            }
        };
        let breaks = bytes.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        let text = Self { path: path.into(), text: bytes, lines };
        if is_text { Ok(text) } else { Err(Problem::NotUtf8 { at: text.at(text.text.len()) }) }
    }

    /// Gives the line and column of a byte.
    pub fn at(&self, offset: usize) -> Origin {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(start..offset).unwrap_or_default();
        Origin::File { path: self.path.clone(), line, column: before.chars().count() + 1 }
    }

    /// Reads its settings' tables.
    pub fn parse(&self) -> Result<Spanned<DeTable<'_>>, Problem> {
        DeTable::parse(&self.text).map_err(|error| {
            let span = error.span().unwrap_or(self.text.len()..self.text.len());
            let at = self.at(span.start);
            let (message, step) = self.advice(error.message(), span);
            Problem::Syntax { at, message: message.to_owned(), step }
        })
    }

    /// Says what is wrong and what to do, as far as that is known better than to the parser.
    fn advice<'a>(&self, message: &'a str, span: Range<usize>) -> (&'a str, String) {
        let rest = self.text.get(span.start..).unwrap_or_default();
        if message.starts_with("duplicate key") {
            let name = self.text.get(span).unwrap_or_default().lines().next().unwrap_or_default();
            return (message, format!("keep only one `{}`", cut(name)));
        }
        if message.starts_with("string values must be quoted") {
            return match rest.starts_with(['\n', '\r']) || rest.is_empty() {
                true => ("a key without a value", "write its value behind the =".into()),
                false => ("a text without quotes", "write it as in node = \"web-1\"".into()),
            };
        }
        let before = self.text.get(..span.start).unwrap_or_default();
        if rest.starts_with(':') || before.ends_with(':') {
            return ("a key with a colon", "write key = value, as this is not YAML".into());
        }
        (message, "see https://toml.io for how it is written".into())
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Problem::NoFile { path: path.to_owned() },
        _ => Problem::Unreadable { path: path.to_owned(), error: error.to_string() },
    };
    // Opening a pipe would wait for somebody who writes.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Problem::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(Problem::TooLarge { path: path.to_owned() }),
        false => Ok(bytes),
    }
}

/// A key with its value, at its place in a section.
struct Leaf<'a> {
    path: String,
    at: Range<usize>,
    value: &'a Spanned<DeValue<'a>>,
}

/// Finds all settings of a file.
pub(super) fn collect<'a>(
    text: &Text,
    document: &'a DeTable<'a>,
    layers: &mut Layers<'a>,
    problems: &mut Problems,
) {
    for (name, value) in document.iter() {
        let at = name.span();
        match (name.get_ref().as_ref(), value.get_ref()) {
            ("sinks", value) => all_sinks(text, at, value, layers, problems),
            (name, value) => match SECTIONS.iter().find(|section| section.name == name) {
                Some(section) => fixed(text, section, at, value, layers, problems),
                None => problems.push(unknown_section(text, name, at, value)),
            },
        }
        if problems.is_full() {
            return;
        }
    }
}

fn fixed<'a>(
    text: &Text,
    section: &'static schema::Section,
    at: Range<usize>,
    value: &'a DeValue<'a>,
    layers: &mut Layers<'a>,
    problems: &mut Problems,
) {
    let DeValue::Table(table) = value else {
        let give = format!("write [{}], and its keys below", section.name);
        return problems.push(refused(
            text,
            &at,
            format!("`{}` is a section; {give}", section.name),
        ));
    };
    for leaf in leaves(table, |path| section.known(path)) {
        match section.key(&leaf.path) {
            Some(key) => layers.set(key, entry(text, &leaf)),
            None => {
                let help = schema::help(section.name, &leaf.path, section.paths());
                problems.push(Problem::UnknownKey {
                    at: text.at(leaf.at.start),
                    key: cut(&leaf.path),
                    section: section.name.into(),
                    help,
                });
            }
        }
    }
}

fn all_sinks<'a>(
    text: &Text,
    at: Range<usize>,
    value: &'a DeValue<'a>,
    layers: &mut Layers<'a>,
    problems: &mut Problems,
) {
    let DeValue::Table(sinks) = value else {
        let refusal = "each sink is a section with a name; write [sinks.NAME] and its keys below";
        return problems.push(refused(text, &at, refusal.into()));
    };
    for (name, value) in sinks.iter() {
        let (at, name) = (name.span(), name.get_ref().as_ref());
        let DeValue::Table(table) = value.get_ref() else {
            let refusal = format!(
                "[sinks] has no keys of its own, such as `{}`; write [sinks.NAME] above it",
                cut(name)
            );
            problems.push(refused(text, &at, refusal));
            continue;
        };
        layers.sink(name, text.at(at.start));
        for leaf in leaves(table, sinks::known) {
            let entry = entry(text, &leaf);
            layers.set_of_sink(name, leaf.path, entry);
        }
        if problems.is_full() {
            return;
        }
    }
}

fn entry<'a>(text: &Text, leaf: &Leaf<'a>) -> Entry<'a> {
    Entry { raw: Raw::Toml(leaf.value), origin: text.at(leaf.at.start) }
}

/// Finds the keys of a section, going down only where keys may be.
fn leaves<'a>(table: &'a DeTable<'a>, known: impl Fn(&str) -> Known) -> Vec<Leaf<'a>> {
    let mut leaves = Vec::new();
    let mut todo = vec![(String::new(), table)];
    while let Some((prefix, table)) = todo.pop() {
        for (name, value) in table.iter().take(KEYS_MAX) {
            let path = format!("{prefix}{}", name.get_ref());
            match (known(&path), value.get_ref()) {
                (Known::Table, DeValue::Table(table)) => todo.push((path + ".", table)),
                _ => leaves.push(Leaf { path, at: name.span(), value }),
            }
        }
    }
    leaves.truncate(KEYS_MAX);
    leaves
}

fn refused(text: &Text, at: &Range<usize>, refusal: String) -> Problem {
    Problem::Refused { at: text.at(at.start), text: refusal }
}

fn unknown_section(text: &Text, name: &str, at: Range<usize>, value: &DeValue<'_>) -> Problem {
    let at = text.at(at.start);
    if !matches!(value, DeValue::Table(_)) {
        return Problem::UnknownKey {
            at,
            key: cut(name),
            section: String::new(),
            help: schema::help("", name, []),
        };
    }
    let help = if sinks::TYPES.iter().any(|of| of.name == name) {
        format!("a sink has a name too, as in [sinks.{name}]")
    } else {
        let names = SECTIONS.iter().map(|section| section.name).chain(["sinks.NAME"]);
        match closest(name, names.clone()) {
            Some(near) => format!("did you mean [{near}]?"),
            None => format!("the sections are [{}]", names.collect::<Vec<_>>().join("], [")),
        }
    };
    Problem::UnknownSection { at, name: cut(name), help }
}

/// Says why a file of secrets or certificates cannot be read.
pub(super) fn unreadable(path: &str) -> Option<String> {
    // Opening a pipe would wait for somebody who writes.
    match fs::metadata(path).and_then(|found| found.is_file().then(|| File::open(path)).transpose())
    {
        Ok(Some(_)) => None,
        Ok(None) => Some("it is not a file".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters_from_1() {
        let text = Text::of(Path::new("a.toml"), "a\n\u{e4}b = 1\n".into()).ok();
        let at = |offset| text.as_ref().map(|text| text.at(offset).to_string());
        assert_eq!(at(0).as_deref(), Some("a.toml:1:1"));
        assert_eq!(at(1).as_deref(), Some("a.toml:1:2"));
        assert_eq!(at(2).as_deref(), Some("a.toml:2:1"));
        assert_eq!(at(4).as_deref(), Some("a.toml:2:2"));
        assert_eq!(at(10).as_deref(), Some("a.toml:3:1"));
        assert_eq!(at(99).as_deref(), Some("a.toml:3:1"));
    }
}
