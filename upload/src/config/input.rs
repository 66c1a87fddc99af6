//! A value as it was written, before its key's type is applied.

use std::borrow::Cow;

/// Longest string, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Characters of a value that error messages show.
const SHOWN_CHARS_MAX: usize = 40;

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Input<'a> {
    /// A string in quotes.
    Quoted(&'a str),
    /// The text of a variable or flag, which has neither quotes nor a type.
    Unquoted(&'a str),
    /// A number, as [`str::parse`] reads it.
    Number(Cow<'a, str>),
    /// `true` or `false`.
    Bool(bool),
    /// Values by name.
    Table(Vec<InputEntry<'a>>),
    /// A type that no key has, with its article: "an array".
    Other(&'static str),
}

/// One entry of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct InputEntry<'a> {
    /// Name of a label or header.
    pub name: Cow<'a, str>,
    /// Offset of the name in the file, in bytes.
    pub offset: Option<usize>,
    /// Its value.
    pub value: Input<'a>,
}

/// Why a key does not accept a value. Secrets are not shown.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidValue {
    /// The entry at fault, if the value is a table.
    pub entry: Option<InvalidEntry>,
    /// The value, or what it is.
    pub found: String,
    /// What to give instead.
    pub advice: String,
    /// All values that the key accepts, if these are a few strings.
    pub choices: &'static [&'static str],
}

/// The name and place of an entry of a table.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidEntry {
    /// Its name, shortened.
    pub name: String,
    /// Offset of the name in the file, in bytes.
    pub offset: Option<usize>,
}

impl InvalidValue {
    pub(super) fn new(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { entry: None, found: found.into(), advice: advice.into(), choices: &[] }
    }

    pub(super) fn in_entry(self, entry: &InputEntry<'_>) -> Self {
        let entry = InvalidEntry { name: shorten(&entry.name), offset: entry.offset };
        Self { entry: Some(entry), ..self }
    }
}

impl<'a> Input<'a> {
    /// Returns the string, with or without quotes.
    pub(super) fn text(&self) -> Option<&'a str> {
        match self {
            Self::Quoted(text) | Self::Unquoted(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the string if it is one that a person would write; the error names what to write
    /// instead.
    pub(super) fn valid_text(&self) -> Result<&'a str, String> {
        if let Self::Number(_) | Self::Bool(_) = self {
            return Err(format!("put it in quotes, as in \"{}\"", self.show()));
        }
        let is_valid = |text: &&str| {
            (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
        };
        let advice =
            || format!("give a string of 1 to {TEXT_BYTES_MAX} bytes without control characters");
        self.text().filter(is_valid).ok_or_else(advice)
    }

    /// Returns the number, or text without quotes that may be one.
    pub(super) fn number(&self) -> Option<&str> {
        match self {
            Self::Number(number) => Some(number),
            Self::Unquoted(text) => Some(text),
            _ => None,
        }
    }

    /// Names the type, for values that must not be shown.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Quoted(_) | Self::Unquoted(_) => "a string",
            Self::Number(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Table(_) => "a table",
            Self::Other(name) => name,
        }
    }

    /// Shows the value in an error message.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Quoted(text) | Self::Unquoted(text) => format!("{:?}", shorten(text)),
            Self::Number(number) => shorten(number),
            Self::Bool(on) => on.to_string(),
            Self::Table(_) | Self::Other(_) => self.type_name().to_owned(),
        }
    }
}

/// Cuts long text for an error message.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
