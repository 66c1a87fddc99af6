//! The text of the configuration file, and the lines and columns of its bytes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;
use upload::config::shorten;
use upload::config::units::format_bytes;

use super::error::{Origin, Problem};

/// The file that is read if no other is named and this one exists.
pub const DEFAULT_FILE: &str = "/etc/everytick/everytick.toml";
/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The text of a file.
#[derive(Debug)]
pub(super) struct SourceText {
    path: Arc<Path>,
    text: String,
    /// Offsets of the lines.
    lines: Vec<usize>,
}

impl SourceText {
    /// Reads the file at `named`, or [`DEFAULT_FILE`] if it exists.
    pub fn read(named: Option<&Path>) -> Result<Option<Self>, Problem> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        if named.is_none() && !fs::exists(path).unwrap_or(true) {
            return Ok(None);
        }
        Self::new(path, read_bytes(path)?).map(Some)
    }

    /// Takes the content of a file.
    pub fn new(path: &Path, bytes: Vec<u8>) -> Result<Self, Problem> {
        let (text, is_utf8) = match String::from_utf8(bytes) {
            Ok(text) => (text, true),
            Err(error) => {
                let end = error.utf8_error().valid_up_to();
                let mut bytes = error.into_bytes();
                bytes.truncate(end);
                (String::from_utf8(bytes).unwrap_or_default(), false)
            }
        };
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        let text = Self { path: path.into(), text, lines };
        match is_utf8 {
            true => Ok(text),
            false => {
                Err(Problem::at(text.at(text.text.len()), "not UTF-8; save the file as UTF-8"))
            }
        }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the line and column of a byte.
    pub fn at(&self, offset: usize) -> Origin {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(start..offset).unwrap_or_default();
        Origin::File { path: self.path.clone(), line, column: before.chars().count() + 1 }
    }

    /// Parses the text as TOML.
    pub fn parse(&self) -> Result<Spanned<DeTable<'_>>, Problem> {
        DeTable::parse(&self.text).map_err(|error| {
            let span = error.span().unwrap_or(self.text.len()..self.text.len());
            let at = self.at(span.start);
            let (message, step) = self.explain(error.message(), span);
            Problem::at(at, format!("not TOML: {message}; {step}"))
        })
    }

    /// Returns a message and the next step, better ones than the parser's for common mistakes.
    fn explain<'a>(&self, message: &'a str, span: Range<usize>) -> (&'a str, String) {
        let rest = self.text.get(span.start..).unwrap_or_default();
        if message.starts_with("duplicate key") {
            let name = self.text.get(span).unwrap_or_default().lines().next().unwrap_or_default();
            return (message, format!("keep only one `{}`", shorten(name)));
        }
        if message.starts_with("string values must be quoted") {
            return match rest.starts_with(['\n', '\r']) || rest.is_empty() {
                true => ("a key without a value", "write its value after the =".into()),
                false => ("a string without quotes", "write it as in node = \"web-1\"".into()),
            };
        }
        let before = self.text.get(..span.start).unwrap_or_default();
        if rest.starts_with(':') || before.ends_with(':') {
            return ("a key with a colon", "write key = value, as this is not YAML".into());
        }
        (message, "see https://toml.io for the syntax".into())
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Problem> {
    let problem = |text: &str| Problem::new(format!("{}: {text}", path.display()));
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => problem("no such file; check the path after --config"),
        _ => problem(&format!(
            "cannot read the file: {error}; make it readable for the user that everytick runs as"
        )),
    };
    // Opening a pipe would block until it has a writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(problem("not a regular file; give the path of a file after --config"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let max = format_bytes(FILE_BYTES_MAX);
        return Err(problem(&format!(
            "the file is larger than {max}; a configuration is a few pages, so check the path"
        )));
    }
    Ok(bytes)
}

/// Returns why a file of secrets or certificates cannot be read, if so.
pub(super) fn read_error(path: &str) -> Option<String> {
    // Opening a pipe would block until it has a writer.
    match fs::metadata(path).and_then(|found| found.is_file().then(|| File::open(path)).transpose())
    {
        Ok(Some(_)) => None,
        Ok(None) => Some("not a regular file".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_from_1() {
        let text = SourceText::new(Path::new("a.toml"), "a\n\u{e4}b = 1\n".into()).ok();
        let at = |offset| text.as_ref().map(|text| text.at(offset).to_string());
        assert_eq!(at(0).as_deref(), Some("a.toml:1:1"));
        assert_eq!(at(1).as_deref(), Some("a.toml:1:2"));
        assert_eq!(at(2).as_deref(), Some("a.toml:2:1"));
        assert_eq!(at(4).as_deref(), Some("a.toml:2:2"));
        assert_eq!(at(10).as_deref(), Some("a.toml:3:1"));
        assert_eq!(at(99).as_deref(), Some("a.toml:3:1"));
    }
}
