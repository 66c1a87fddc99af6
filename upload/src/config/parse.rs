//! Parsing: from what was written to a valid value of a key.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::address::{check_proxy, check_url};
use super::entries;
use super::input::{Input, InvalidValue};
use super::key::{Key, KeyType};
use super::units::{format_bytes, format_duration, parse_bytes, parse_duration};
use super::value::Value;

/// Longest string, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Turns off a directory or an address.
const OFF: &str = "off";

impl Key {
    /// Parses a value and checks its type and range.
    ///
    /// # Errors
    /// [`InvalidValue`] with what to give instead.
    pub fn parse(&self, input: &Input<'_>) -> Result<Value, InvalidValue> {
        if self.accepts_off && input.text() == Some(OFF) {
            return Ok(Value::Off);
        }
        let parsed = match self.key_type {
            KeyType::Labels | KeyType::Headers | KeyType::HeaderFiles => {
                return entries::parse(&self.key_type, input);
            }
            KeyType::Bool => parse_bool(input),
            KeyType::Integer { min, max } => parse_integer(input, min..=max),
            KeyType::Number { min, max } => parse_number(input, min..=max),
            KeyType::Duration { min, max } => parse_duration_in(input, min..=max),
            KeyType::Bytes { min, max } => parse_bytes_in(input, min..=max),
            _ => self.key_type.parse_text(input).map(|text| Value::Text(text.to_owned())),
        };
        parsed.map_err(|advice| self.invalid(input, advice))
    }

    fn invalid(&self, input: &Input<'_>, mut advice: String) -> InvalidValue {
        // A value that may be a secret is not shown: a token in place of its file, a password.
        let found = match (&self.key_type, input.text()) {
            (KeyType::File, Some(_)) => "not an absolute path".to_owned(),
            (KeyType::Url | KeyType::Proxy, Some(text)) if text.contains('@') => {
                "an address with credentials".to_owned()
            }
            _ => input.show(),
        };
        if self.accepts_off {
            advice.push_str(", or \"off\"");
        }
        let choices = match self.key_type {
            KeyType::OneOf(choices) => choices,
            _ => &[],
        };
        InvalidValue { choices, ..InvalidValue::new(found, advice) }
    }
}

impl KeyType {
    /// Checks a string; the error is what to give instead.
    fn parse_text<'a>(&self, input: &Input<'a>) -> Result<&'a str, String> {
        let text = check_text(input);
        match self {
            Self::Text => return text,
            Self::Url => return check_url(text.as_deref().unwrap_or_default()).and(text),
            Self::Proxy => return check_proxy(text.as_deref().unwrap_or_default()).and(text),
            _ => {}
        }
        let is_valid = |text: &&str| match self {
            Self::OneOf(choices) => choices.contains(text),
            Self::Address => text.parse::<SocketAddr>().is_ok(),
            _ => is_absolute(text),
        };
        text.ok().filter(is_valid).ok_or_else(|| match self {
            Self::OneOf(choices) => format!("give one of \"{}\"", choices.join("\", \"")),
            Self::Address => "give an IP address and a port, as in \"127.0.0.1:7171\"".to_owned(),
            Self::File => "give the path of a file, as in \"/etc/everytick/token\"".to_owned(),
            _ => "give the absolute path of a directory, as in \"/var/lib/everytick\"".to_owned(),
        })
    }
}

pub(super) fn is_absolute(path: &str) -> bool {
    path.starts_with('/')
}

/// Accepts a string that a person would write; the error is what to give instead.
pub(super) fn check_text<'a>(input: &Input<'a>) -> Result<&'a str, String> {
    if let Input::Number(_) | Input::Bool(_) = input {
        return Err(format!("put it in quotes, as in \"{}\"", input.show()));
    }
    let is_valid = |text: &&str| {
        (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
    };
    let advice =
        || format!("give a string of 1 to {TEXT_BYTES_MAX} bytes without control characters");
    input.text().filter(is_valid).ok_or_else(advice)
}

fn parse_bool(input: &Input<'_>) -> Result<Value, String> {
    match input {
        Input::Bool(on) => Ok(Value::Bool(*on)),
        Input::Unquoted(text @ ("true" | "false")) => Ok(Value::Bool(*text == "true")),
        Input::Quoted("true" | "false") => Err("give true or false, without quotes".into()),
        _ => Err("give true or false".into()),
    }
}

fn parse_integer(input: &Input<'_>, range: RangeInclusive<u64>) -> Result<Value, String> {
    let parse = |text: &str| text.parse().ok().filter(|number| range.contains(number));
    input.number().and_then(parse).map(Value::Integer).ok_or_else(|| {
        let quotes = without_quotes(input, |text| parse(text).is_some());
        format!("give an integer from {} to {}{quotes}", range.start(), range.end())
    })
}

fn parse_number(input: &Input<'_>, range: RangeInclusive<f64>) -> Result<Value, String> {
    let parse = |text: &str| text.parse().ok().filter(|number| range.contains(number));
    input.number().and_then(parse).map(Value::Number).ok_or_else(|| {
        let quotes = without_quotes(input, |text| parse(text).is_some());
        format!("give a number from {} to {}{quotes}", range.start(), range.end())
    })
}

/// Advice for a number that is valid but for its quotes.
fn without_quotes(input: &Input<'_>, is_valid: impl Fn(&str) -> bool) -> &'static str {
    match input {
        Input::Quoted(text) if is_valid(text) => ", without quotes",
        _ => "",
    }
}

fn parse_duration_in(input: &Input<'_>, range: RangeInclusive<Duration>) -> Result<Value, String> {
    let duration = parse_duration(input.text().or(input.number()).unwrap_or_default())?;
    if !range.contains(&duration) {
        let [min, max] = [*range.start(), *range.end()].map(format_duration);
        return Err(format!("give {min} to {max}"));
    }
    Ok(Value::Duration(duration))
}

fn parse_bytes_in(input: &Input<'_>, range: RangeInclusive<u64>) -> Result<Value, String> {
    let bytes = parse_bytes(input.text().or(input.number()).unwrap_or_default())?;
    if !range.contains(&bytes) {
        let [min, max] = [*range.start(), *range.end()].map(format_bytes);
        return Err(format!("give {min} to {max}"));
    }
    Ok(Value::Integer(bytes))
}
