//! Tables with names that users choose: labels and headers.

use profile::labels::is_reserved;

use super::input::{Input, InputEntry, InvalidValue};
use super::key::KeyType;
use super::value::Value;

/// Pyroscope takes 30 labels of a series, of which up to ten are ours.
const LABELS_MAX: usize = 16;
/// No known server needs more.
const HEADERS_MAX: usize = 32;
/// Longest name of a label or header.
const NAME_BYTES_MAX: usize = 128;

/// Headers whose values are always secrets, so that the configuration must not hold them.
const CREDENTIAL_HEADERS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// Whether the value of a header with this name is likely to be a secret.
pub fn is_secret_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "token", "key", "secret", "password", "cookie"].iter().any(|word| name.contains(word))
}

/// Parses a table of the file, or `NAME=VALUE,NAME=VALUE`.
pub(super) fn parse(key_type: &KeyType, input: &Input<'_>) -> Result<Value, InvalidValue> {
    let split;
    let entries = match input {
        Input::Table(entries) => entries,
        Input::Unquoted(text) => {
            split = text.split(',').map(split_entry).collect::<Result<_, _>>()?;
            &split
        }
        _ => {
            let advice = "give a table, as in { name = \"value\" }";
            return Err(InvalidValue::new(input.type_name(), advice));
        }
    };
    let max = if *key_type == KeyType::Labels { LABELS_MAX } else { HEADERS_MAX };
    if entries.len() > max {
        let found = format!("a table of {} entries", entries.len());
        return Err(InvalidValue::new(found, format!("give at most {max}")));
    }
    let parse = |entry| match parse_entry(key_type, entry) {
        Ok(value) => Ok((entry.name.to_string(), value.to_owned())),
        Err(invalid) => Err(invalid.in_entry(entry)),
    };
    entries.iter().map(parse).collect::<Result<_, _>>().map(Value::Table)
}

fn split_entry(text: &str) -> Result<InputEntry<'_>, InvalidValue> {
    let invalid = || InvalidValue::new("not a list of NAME=VALUE", "give NAME=VALUE,NAME=VALUE");
    let (name, value) = text.split_once('=').ok_or_else(invalid)?;
    let value = Input::Unquoted(value.trim());
    Ok(InputEntry { name: name.trim().into(), offset: None, value })
}

fn parse_entry<'a>(key_type: &KeyType, entry: &InputEntry<'a>) -> Result<&'a str, InvalidValue> {
    match key_type {
        KeyType::Labels => check_label_name(&entry.name)?,
        _ => check_header_name(&entry.name, *key_type == KeyType::Headers)?,
    }
    let value = entry.value.valid_text();
    match key_type {
        KeyType::Labels => value.map_err(|advice| InvalidValue::new(entry.value.show(), advice)),
        // A value of a header may be a secret, and so may what stands in place of a path.
        KeyType::Headers => value.map_err(|_| {
            let advice = "give a string of 1 to 1024 bytes without control characters, in quotes";
            InvalidValue::new(entry.value.type_name(), advice)
        }),
        _ => value.ok().filter(|path| path.starts_with('/')).ok_or_else(|| {
            let advice = "give the path of a file, as in \"/etc/everytick/header\"";
            InvalidValue::new("not an absolute path", advice)
        }),
    }
}

/// `is_shown`: whether the value is in the configuration itself and not in a file.
fn check_header_name(name: &str, is_shown: bool) -> Result<(), InvalidValue> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_token) {
        return Err(InvalidValue::new("not a header name", "give one such as X-Team"));
    }
    if is_shown && CREDENTIAL_HEADERS.iter().any(|secret| name.eq_ignore_ascii_case(secret)) {
        let advice = "write it into a file, and the path of that file below header_files";
        return Err(InvalidValue::new("a secret", advice));
    }
    Ok(())
}

/// Parca takes the label names of Prometheus only.
fn check_label_name(name: &str) -> Result<(), InvalidValue> {
    let is_letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let is_name = name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|b| is_letter(b) || b.is_ascii_digit());
    if !is_name || name.len() > NAME_BYTES_MAX || name.starts_with("__") {
        let advice = "use letters, digits and _, a letter first, as in team_name";
        return Err(InvalidValue::new("not a label name", advice));
    }
    if is_reserved(name) {
        return Err(InvalidValue::new(
            "a label that everytick writes itself",
            "choose another name",
        ));
    }
    Ok(())
}
