//! Parsing: from what was written to a valid value of a key.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::address::{check_proxy, check_url};
use super::entries;
use super::input::{Input, InvalidValue};
use super::key::{Key, KeyType, format_range};
use super::units::{format_bytes, format_duration, parse_bytes, parse_duration};
use super::value::Value;

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
        let parsed = match &self.key_type {
            KeyType::Labels | KeyType::Headers | KeyType::HeaderFiles => {
                return entries::parse(&self.key_type, input);
            }
            KeyType::Bool => parse_bool(input),
            KeyType::Integer(range) => parse_number(input, range, "an integer").map(Value::Integer),
            KeyType::Number(range) => parse_number(input, range, "a number").map(Value::Number),
            KeyType::Duration(range) => {
                parse_unit(input, range, parse_duration, format_duration).map(Value::Duration)
            }
            KeyType::Bytes(range) => {
                parse_unit(input, range, parse_bytes, format_bytes).map(Value::Integer)
            }
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
        let text = input.valid_text();
        match self {
            Self::Text => return text,
            Self::Url => return check_url(text.as_deref().unwrap_or_default()).and(text),
            Self::Proxy => return check_proxy(text.as_deref().unwrap_or_default()).and(text),
            _ => {}
        }
        let is_valid = |text: &&str| match self {
            Self::OneOf(choices) => choices.contains(text),
            Self::Address => text.parse::<SocketAddr>().is_ok(),
            _ => text.starts_with('/'),
        };
        text.ok().filter(is_valid).ok_or_else(|| match self {
            Self::OneOf(choices) => format!("give one of \"{}\"", choices.join("\", \"")),
            Self::Address => "give an IP address and a port, as in \"127.0.0.1:7171\"".to_owned(),
            Self::File => "give the path of a file, as in \"/etc/everytick/token\"".to_owned(),
            _ => "give the absolute path of a directory, as in \"/var/lib/everytick\"".to_owned(),
        })
    }
}

fn parse_bool(input: &Input<'_>) -> Result<Value, String> {
    match input {
        Input::Bool(on) => Ok(Value::Bool(*on)),
        Input::Unquoted(text @ ("true" | "false")) => Ok(Value::Bool(*text == "true")),
        Input::Quoted("true" | "false") => Err("give true or false, without quotes".into()),
        _ => Err("give true or false".into()),
    }
}

/// Parses a number without a unit. `what`: the type with its article.
fn parse_number<T: FromStr + PartialOrd + Display>(
    input: &Input<'_>,
    range: &RangeInclusive<T>,
    what: &str,
) -> Result<T, String> {
    let parse = |text: &str| text.parse().ok().filter(|number| range.contains(number));
    input.number().and_then(parse).ok_or_else(|| {
        let quotes = match input {
            Input::Quoted(text) if parse(text).is_some() => ", without quotes",
            _ => "",
        };
        format!("give {what} from {} to {}{quotes}", range.start(), range.end())
    })
}

/// Parses a number with a unit.
fn parse_unit<T: PartialOrd + Copy>(
    input: &Input<'_>,
    range: &RangeInclusive<T>,
    parse: fn(&str) -> Result<T, String>,
    format: fn(T) -> String,
) -> Result<T, String> {
    let value = parse(input.text().or(input.number()).unwrap_or_default())?;
    match range.contains(&value) {
        true => Ok(value),
        false => Err(format!("give {}", format_range(range, |bound| format(*bound)))),
    }
}
