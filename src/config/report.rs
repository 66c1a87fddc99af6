//! The effective configuration, as a file with the origin of each value. Secrets are never in it.

use std::fmt::Write;

use toml::Value as Toml;
use upload::config::{KeyType, Value};

use super::error::Origin;
use super::resolved::{ResolvedSection, ResolvedValue};

/// Column of the origins, if values leave space.
const ORIGINS_AT: usize = 48;

/// Writes all sections as TOML.
pub(super) fn effective(sections: &[ResolvedSection]) -> String {
    let mut text = String::new();
    for section in sections {
        let separator = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{separator}[{}]", section.name);
        section.values.iter().for_each(|value| text.push_str(&line(value)));
    }
    text
}

fn line(value: &ResolvedValue) -> String {
    let assignment = format!("{} = {}", value.key.path, toml(value));
    let origin = match &value.origin {
        Origin::Default => "default".to_owned(),
        set => set.to_string().replace(char::is_control, "?"),
    };
    format!("{assignment:<ORIGINS_AT$} # {origin}\n")
}

fn toml(ResolvedValue { key, value, .. }: &ResolvedValue) -> Toml {
    match (&key.key_type, value) {
        (_, Value::Bool(on)) => Toml::Boolean(*on),
        (_, Value::Number(number)) => Toml::Float(*number),
        (KeyType::Integer(_), Value::Integer(number)) => {
            Toml::Integer(i64::try_from(*number).unwrap_or(i64::MAX))
        }
        (KeyType::Headers, Value::Table(headers)) => {
            let hide = |name: &String| (name.clone(), Toml::String("(not shown)".into()));
            Toml::Table(headers.keys().map(hide).collect())
        }
        (_, Value::Table(table)) => {
            let entry =
                |(name, text): (&String, &String)| (name.clone(), Toml::String(text.clone()));
            Toml::Table(table.iter().map(entry).collect())
        }
        (key_type, value) => Toml::String(key_type.show(value)),
    }
}
