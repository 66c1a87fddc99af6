//! Resolved sections: one value for each key, with its origin.

use upload::config::{Conflict, DefaultValue, InvalidValue, Key, KeyType, Value, Values};

use super::error::{Origin, Problem, Problems};
use super::file_access::foreign_writers;
use super::layers::LayerValue;
use super::suggest::advice;
use super::text::{self, SourceText};

/// The value of a key that is in effect.
#[derive(Clone, Debug)]
pub(super) struct ResolvedValue {
    pub key: &'static Key,
    pub value: Value,
    pub origin: Origin,
}

/// The values of a section that are in effect, in the order of its keys. Keys without a value are
/// absent.
#[derive(Clone, Debug)]
pub(super) struct ResolvedSection {
    /// As in the file: `agent`, `sinks.main`.
    pub name: String,
    pub values: Vec<ResolvedValue>,
}

impl ResolvedSection {
    /// Returns the value of a key.
    pub fn get(&self, path: &str) -> Option<&ResolvedValue> {
        self.values.iter().find(|value| value.key.path == path)
    }

    /// Returns the values without their origins.
    pub fn values(&self) -> Values {
        self.values.iter().map(|value| (value.key.path.clone(), value.value.clone())).collect()
    }

    /// Whether the section is not in effect.
    pub fn is_disabled(&self) -> bool {
        self.get("enabled").is_some_and(|enabled| enabled.value == Value::Bool(false))
    }

    /// Reports settings that contradict each other.
    pub fn report(&self, conflicts: Vec<Conflict>, problems: &mut Problems) {
        for Conflict { key, text } in conflicts {
            let at = self.get(key).map_or(Origin::Default, |value| value.origin.clone());
            problems.push(Problem::at(at, format!("`{}.{key}` {text}", self.name)));
        }
    }

    /// Reports files that must exist and cannot be read.
    pub fn report_unreadable_files(&self, problems: &mut Problems) {
        self.report_files(problems, |path, key| {
            let error = text::read_error(path)?;
            Some(format!(
                "cannot read {path}, the file of `{}.{}`: {error}; put it there and make it \
                 readable",
                self.name, key.path
            ))
        });
    }

    /// Reports files of secrets and certificates that another user can change: a user who replaces
    /// the authority can pose as the server.
    pub fn report_unsafe_secrets(&self, problems: &mut Problems) {
        self.report_files(problems, |path, key| {
            let writers = foreign_writers(path)?;
            Some(format!(
                "other users can change {path}, the file of `{}.{}`: {writers}",
                self.name, key.path
            ))
        });
    }

    /// Reports what `problem` returns about each file.
    fn report_files(
        &self,
        problems: &mut Problems,
        problem: impl Fn(&str, &Key) -> Option<String>,
    ) {
        for ResolvedValue { key, value, origin } in &self.values {
            let paths: Vec<&str> = match (&key.key_type, value) {
                (KeyType::File, Value::Text(path)) => vec![path],
                (KeyType::HeaderFiles, Value::Table(files)) => {
                    files.values().map(String::as_str).collect()
                }
                _ => continue,
            };
            let texts = paths.into_iter().filter_map(|path| problem(path, key));
            texts.for_each(|text| problems.push(Problem::at(origin.clone(), text)));
        }
    }
}

/// Parses all values of a key, so that each mistake is reported, and returns the strongest one that
/// is valid.
///
/// `section`: name of the section, for error messages. `values`: strongest last.
pub(super) fn strongest(
    key: &'static Key,
    section: &str,
    values: &[LayerValue<'_>],
    text: Option<&SourceText>,
    problems: &mut Problems,
) -> Option<ResolvedValue> {
    let mut strongest = None;
    for LayerValue { input, origin } in values {
        match key.parse(input) {
            Ok(value) => strongest = Some(ResolvedValue { key, value, origin: origin.clone() }),
            Err(invalid) => {
                let path = format!("{section}.{}", key.path);
                problems.push(invalid_value(&path, origin, text, &invalid));
            }
        }
    }
    strongest
}

/// Describes a value that a key does not accept: a place in the file precedes the key; a variable
/// or a flag stands in its stead.
pub(super) fn invalid_value(
    path: &str,
    origin: &Origin,
    text: Option<&SourceText>,
    invalid: &InvalidValue,
) -> Problem {
    let (found, advice) = (&invalid.found, advice(invalid));
    let entry = invalid.entry.as_ref();
    if let Origin::File { .. } = origin {
        let in_table = text.zip(entry.and_then(|entry| entry.offset));
        let at = in_table.map_or_else(|| origin.clone(), |(text, offset)| text.at(offset));
        let below = entry.map_or_else(String::new, |entry| format!(".{}", entry.name));
        return Problem::at(at, format!("`{path}{below}` is {found}; {advice}"));
    }
    let inside = entry.map_or_else(String::new, |entry| format!("`{}` in ", entry.name));
    Problem::new(format!("{inside}{origin} is {found}; {advice}"))
}

/// Returns the default of a key that is not set.
pub(super) fn default(key: &'static Key) -> Option<ResolvedValue> {
    match &key.default {
        DefaultValue::Value(value) => {
            Some(ResolvedValue { key, value: value.clone(), origin: Origin::Default })
        }
        _ => None,
    }
}
