//! Descriptions of keys: what the configuration module knows of a setting.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::address::without_secrets;
use super::units::{format_bytes, format_duration};
use super::value::Value;

/// The description of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Name in its section, with dots for keys in tables: `tls.ca_file`.
    pub path: String,
    /// One sentence for the documentation.
    pub help: String,
    /// Type and range.
    pub key_type: KeyType,
    /// Whether `off` is a value, too.
    pub accepts_off: bool,
    /// The value of a key that is not set.
    pub default: DefaultValue,
    /// Whether a change takes effect after a restart only.
    pub needs_restart: bool,
}

/// Type, unit and range of a key. Ranges include both ends.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyType {
    /// `true` or `false`.
    Bool,
    /// An integer.
    Integer(RangeInclusive<u64>),
    /// Any number.
    Number(RangeInclusive<f64>),
    /// A size in bytes, written with a unit.
    Bytes(RangeInclusive<u64>),
    /// A duration, written with a unit.
    Duration(RangeInclusive<Duration>),
    /// A string of 1 to [`TEXT_BYTES_MAX`](super::TEXT_BYTES_MAX) bytes.
    Text,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// Absolute path of a directory.
    Directory,
    /// Absolute path of a file that must exist. It may hold a secret.
    File,
    /// IP address and port.
    Address,
    /// `http://` or `https://` address of a server, without credentials.
    Url,
    /// `http://` address of a proxy, without credentials.
    Proxy,
    /// Names of labels and their values.
    Labels,
    /// Names of HTTP headers and their values, which are never shown.
    Headers,
    /// Names of HTTP headers and the files that hold their values.
    HeaderFiles,
}

/// The value of a key that is not set.
#[derive(Clone, Debug, PartialEq)]
pub enum DefaultValue {
    /// This one.
    Value(Value),
    /// Computed from other settings or from the machine: a phrase for the documentation.
    Computed(&'static str),
    /// None: the feature is off.
    None,
    /// The key must be set. Error messages show this example.
    Required(String),
}

impl Key {
    /// Describes the values that the key accepts, in Markdown.
    pub fn describe(&self) -> String {
        let off = if self.accepts_off { ", or `\"off\"`" } else { "" };
        format!("{}{off}", self.key_type.describe())
    }
}

impl KeyType {
    fn describe(&self) -> String {
        match self {
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Integer(range) => format!("integer, {}", format_range(range, |number| *number)),
            Self::Number(range) => format!("number, {}", format_range(range, |number| *number)),
            Self::Bytes(range) => {
                format!("size, {}", format_range(range, |bytes| format_bytes(*bytes)))
            }
            Self::Duration(range) => {
                format!("duration, {}", format_range(range, |duration| format_duration(*duration)))
            }
            Self::Text => "string".to_owned(),
            Self::OneOf(choices) => {
                let quoted = choices.iter().map(|choice| format!("`\"{choice}\"`"));
                quoted.collect::<Vec<_>>().join(", ")
            }
            Self::Directory => "absolute path".to_owned(),
            Self::File => "absolute path of a file".to_owned(),
            Self::Address => "IP address and port".to_owned(),
            Self::Url => "`http://` or `https://` address".to_owned(),
            Self::Proxy => "`http://` address".to_owned(),
            Self::Labels | Self::Headers => "table of strings".to_owned(),
            Self::HeaderFiles => "table of absolute paths of files".to_owned(),
        }
    }

    /// Shows a value without the secrets that it may hold: values of headers, credentials in
    /// addresses.
    pub fn show(&self, value: &Value) -> String {
        match (self, value) {
            (Self::Bytes(_), Value::Integer(bytes)) => format_bytes(*bytes),
            (Self::Url | Self::Proxy, Value::Text(url)) => without_secrets(url),
            (Self::Headers, Value::Table(headers)) => format!("{:?}", headers.keys()),
            (_, Value::Bool(on)) => on.to_string(),
            (_, Value::Integer(number)) => number.to_string(),
            (_, Value::Number(number)) => number.to_string(),
            (_, Value::Text(text)) => text.clone(),
            (_, Value::Duration(duration)) => format_duration(*duration),
            (_, Value::Table(table)) => format!("{table:?}"),
            (_, Value::Off) => "off".to_owned(),
        }
    }
}

/// Formats a range: `1s to 1h`.
pub(super) fn format_range<T, U: Display>(
    range: &RangeInclusive<T>,
    format: impl Fn(&T) -> U,
) -> String {
    format!("{} to {}", format(range.start()), format(range.end()))
}
