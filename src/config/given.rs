//! A value as somebody gave it, before it is known what it should be.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::DeValue;

/// Characters of a value that errors show.
const SHOWN_MAX: usize = 40;

/// A value and how it was given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw<'a> {
    /// In the file.
    Toml(&'a Spanned<DeValue<'a>>),
    /// By a variable or a flag, which have no quotes and no types.
    Text(&'a str),
}

/// A single value.
#[derive(Debug, PartialEq)]
pub(super) enum Given<'a> {
    /// Text in quotes.
    Text(&'a str),
    /// Text that may stand for anything.
    Loose(&'a str),
    /// A number, as Rust reads it.
    Number(Cow<'a, str>),
    Switch(bool),
    /// What no key takes as a single value.
    Other(&'static str),
}

impl<'a> Given<'a> {
    pub fn of(raw: Raw<'a>) -> Self {
        let value = match raw {
            Raw::Text(text) => return Self::Loose(text),
            Raw::Toml(value) => value.get_ref(),
        };
        match value {
            DeValue::String(text) => Self::Text(text),
            DeValue::Integer(number) if number.radix() == 10 => {
                Self::Number(number.as_str().into())
            }
            DeValue::Integer(number) => {
                let read = i64::from_str_radix(number.as_str(), number.radix());
                Self::Number(read.map_or(number.to_string(), |number| number.to_string()).into())
            }
            DeValue::Float(number) => Self::Number(number.as_str().into()),
            DeValue::Boolean(on) => Self::Switch(*on),
            DeValue::Datetime(_) => Self::Other("a date or time"),
            DeValue::Array(_) => Self::Other("a list"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    pub fn text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) | Self::Loose(text) => Some(text),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<&str> {
        match self {
            Self::Number(number) => Some(number),
            Self::Loose(text) => Some(text),
            _ => None,
        }
    }

    /// Says what kind of value it is.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Loose(_) => "a text",
            Self::Number(_) => "a number",
            Self::Switch(_) => "true or false",
            Self::Other(what) => what,
        }
    }

    /// Shows it in an error.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) | Self::Loose(text) => format!("{:?}", cut(text)),
            Self::Number(number) => cut(number),
            Self::Switch(on) => on.to_string(),
            Self::Other(what) => (*what).to_owned(),
        }
    }
}

/// The beginning of a text, if it is long.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
