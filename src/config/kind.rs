//! What keys take: each kind of value is read, checked and shown here.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use toml::Value;

use super::entries;
use super::given::{Given, Raw, cut};
use super::suggest::closest;
use super::units::{bytes, bytes_text, duration, duration_text};

/// Longest text, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 1024;

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number in a range.
    Whole { from: u64, to: u64 },
    /// Any number in a range.
    Number { from: f64, to: f64 },
    /// A text that is not empty.
    Text,
    /// One of some words.
    OneOf(&'static [&'static str]),
    /// A whole number of milliseconds to days.
    Duration { from: Duration, to: Duration },
    /// Bytes, with a unit.
    Bytes { from: u64, to: u64 },
    /// Absolute path of a directory.
    Directory,
    /// The same or `off`.
    DirectoryOrOff,
    /// Absolute path of a file that must be there. It may hold a secret.
    File,
    /// Address and port, or `off`.
    AddressOrOff,
    /// Where a server is, without credentials.
    Url,
    /// `http://` address of a proxy, without credentials.
    Proxy,
    /// Names of labels and their text.
    Labels,
    /// Names of HTTP headers and their text, which is never shown.
    Headers,
    /// Names of HTTP headers and the files that their text is in.
    HeaderFiles,
}

/// Why a value cannot be taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// Name and place of the entry, when it is one of a table.
    pub entry: Option<(String, Option<Range<usize>>)>,
    /// What was found, fit to be shown.
    pub found: String,
    /// What to give instead.
    pub give: String,
}

impl Bad {
    pub fn new(found: impl Into<String>, give: impl Into<String>) -> Self {
        Self { entry: None, found: found.into(), give: give.into() }
    }
}

impl Kind {
    /// Reads a value. Durations stay text, sizes become a number of bytes.
    pub fn read(self, raw: Raw<'_>) -> Result<Value, Bad> {
        if let Self::Labels | Self::Headers | Self::HeaderFiles = self {
            return entries::read(self, raw);
        }
        let given = Given::of(raw);
        let read = match self {
            Self::Switch => switch(&given),
            Self::Whole { from, to } => whole(&given, from, to),
            Self::Number { from, to } => number(&given, from, to),
            Self::Duration { from, to } => span(&given, from, to),
            Self::Bytes { from, to } => size(&given, from, to),
            Self::Text => text(&given).map(|text| Value::String(text.to_owned())),
            _ => self.of_text(given.text()).map(|text| Value::String(text.to_owned())),
        };
        read.map_err(|give| Bad::new(self.found(&given), give))
    }

    fn of_text(self, text: Option<&str>) -> Result<&str, String> {
        let text = text.filter(|text| is_text(text));
        let (is_good, give): (fn(&str) -> bool, &str) = match self {
            Self::OneOf(words) => return one_of(text, words),
            Self::Url => return url(text),
            Self::Proxy => return proxy(text),
            Self::Directory => {
                (is_path, "give the absolute path of a directory, as in \"/var/lib/everytick\"")
            }
            Self::DirectoryOrOff => (
                |text| text == OFF || is_path(text),
                "give the absolute path of a directory, as in \"/var/lib/everytick\", or \"off\"",
            ),
            Self::File => (is_path, "give that of a file, as in \"/etc/everytick/token\""),
            _ => (
                |text| text == OFF || text.parse::<SocketAddr>().is_ok(),
                "give an IP address and a port, as in \"127.0.0.1:7171\", or \"off\"",
            ),
        };
        text.filter(|text| is_good(text)).ok_or_else(|| give.to_owned())
    }

    /// Says what was found. What may be a secret is not shown: a token in place of the file that it is in.
    fn found(self, given: &Given<'_>) -> String {
        match (self, given.text()) {
            (Self::File, Some(_)) => "no absolute path".to_owned(),
            (Self::Url | Self::Proxy, Some(text)) if text.contains('@') => {
                "an address with a name or password in it".to_owned()
            }
            _ => given.shown(),
        }
    }

    /// Shows a value that was read, as TOML. Text of headers is left out.
    pub fn shown(self, value: &Value) -> String {
        match (self, value) {
            (Self::Bytes { .. }, Value::Integer(bytes)) => {
                format!("\"{}\"", bytes_text(bytes.unsigned_abs()))
            }
            (Self::Headers, Value::Table(headers)) => {
                let hide = |name: &String| (name.clone(), Value::String("(not shown)".into()));
                Value::Table(headers.keys().map(hide).collect()).to_string()
            }
            _ => value.to_string(),
        }
    }

    /// Tells people what it takes.
    pub fn words(self) -> String {
        match self {
            Self::Switch => "`true` or `false`".to_owned(),
            Self::Whole { from, to } => format!("whole number, {from} to {to}"),
            Self::Number { from, to } => format!("number, {from} to {to}"),
            Self::Text => "text".to_owned(),
            Self::OneOf(words) => {
                let quoted: Vec<String> =
                    words.iter().map(|word| format!("`\"{word}\"`")).collect();
                quoted.join(", ")
            }
            Self::Duration { from, to } => {
                format!("duration, {} to {}", duration_text(from), duration_text(to))
            }
            Self::Bytes { from, to } => {
                format!("size, {} to {}", bytes_text(from), bytes_text(to))
            }
            Self::Directory => "absolute path".to_owned(),
            Self::DirectoryOrOff => "absolute path or `\"off\"`".to_owned(),
            Self::File => "absolute path of a file".to_owned(),
            Self::AddressOrOff => "IP address and port, or `\"off\"`".to_owned(),
            Self::Url => "`http://` or `https://` address".to_owned(),
            Self::Proxy => "`http://` address".to_owned(),
            Self::Labels | Self::Headers => "table of names and texts".to_owned(),
            Self::HeaderFiles => "table of names and absolute paths of files".to_owned(),
        }
    }
}

/// What switches a directory or an address off.
pub(super) const OFF: &str = "off";

/// Says whether it is text that a person would write, of a length that everybody takes.
fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control)
}

/// Takes any text.
pub(super) fn text<'a>(given: &Given<'a>) -> Result<&'a str, String> {
    if let Given::Number(_) | Given::Switch(_) = given {
        return Err(format!("put it in quotes, as in \"{}\"", given.shown()));
    }
    let text = given.text().filter(|text| is_text(text));
    text.ok_or_else(|| "give a text of 1 to 1024 bytes without control characters".to_owned())
}

/// Says whether it is an absolute path.
pub(super) fn is_path(text: &str) -> bool {
    text.starts_with('/')
}

fn switch(given: &Given<'_>) -> Result<Value, String> {
    match given {
        Given::Switch(on) => Ok(Value::Boolean(*on)),
        Given::Loose(text @ ("true" | "false")) => Ok(Value::Boolean(*text == "true")),
        Given::Text("true" | "false") => Err("give true or false, without quotes".into()),
        _ => Err("give true or false".into()),
    }
}

fn whole(given: &Given<'_>, from: u64, to: u64) -> Result<Value, String> {
    let read = |text: &str| text.parse::<u64>().ok().filter(|number| (from..=to).contains(number));
    let number = given.number().and_then(read).and_then(|number| i64::try_from(number).ok());
    number.map(Value::Integer).ok_or_else(|| {
        let quotes = without_quotes(given, |text| read(text).is_some());
        format!("give a whole number from {from} to {to}{quotes}")
    })
}

fn number(given: &Given<'_>, from: f64, to: f64) -> Result<Value, String> {
    let read = |text: &str| text.parse::<f64>().ok().filter(|number| (from..=to).contains(number));
    given.number().and_then(read).map(Value::Float).ok_or_else(|| {
        let quotes = without_quotes(given, |text| read(text).is_some());
        format!("give a number from {from} to {to}{quotes}")
    })
}

fn without_quotes(given: &Given<'_>, is_good: impl Fn(&str) -> bool) -> &'static str {
    match given {
        Given::Text(text) if is_good(text) => ", without quotes",
        _ => "",
    }
}

fn span(given: &Given<'_>, from: Duration, to: Duration) -> Result<Value, String> {
    let read = duration(given.text().or(given.number()).unwrap_or_default())?;
    if !(from..=to).contains(&read) {
        return Err(format!("give {} to {}", duration_text(from), duration_text(to)));
    }
    Ok(Value::String(duration_text(read)))
}

fn size(given: &Given<'_>, from: u64, to: u64) -> Result<Value, String> {
    let read = bytes(given.text().or(given.number()).unwrap_or_default())?;
    let in_range = Some(read).filter(|bytes| (from..=to).contains(bytes));
    let read = in_range.and_then(|bytes| i64::try_from(bytes).ok());
    read.map(Value::Integer)
        .ok_or_else(|| format!("give {} to {}", bytes_text(from), bytes_text(to)))
}

fn one_of<'a>(text: Option<&'a str>, words: &[&str]) -> Result<&'a str, String> {
    let text = text.unwrap_or_default();
    if words.contains(&text) {
        return Ok(text);
    }
    Err(match closest(text, words.iter().copied()) {
        Some(word) => format!("did you mean \"{word}\"?"),
        None => format!("give one of \"{}\"", words.join("\", \"")),
    })
}

fn url(text: Option<&str>) -> Result<&str, String> {
    let give = || "give an address such as \"https://profiles.example:7070\"".to_owned();
    let text = text.ok_or_else(give)?;
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest else {
        let is_host = !text.contains([' ', '@', '/']);
        let begin = || format!("begin it with http:// or https://, as in \"http://{}\"", cut(text));
        return Err(if is_host { begin() } else { give() });
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err("leave that out and set basic_auth, whose password is in a file".into());
    }
    if authority.is_empty() || text.contains([' ', '?', '#']) {
        return Err(give());
    }
    Ok(text)
}

fn proxy(text: Option<&str>) -> Result<&str, String> {
    let give = || "give an address such as \"http://proxy.example:3128\"".to_owned();
    let text = text.ok_or_else(give)?;
    if text.contains('@') {
        return Err("leave that out, and give a proxy with a password by $HTTPS_PROXY".into());
    }
    let host = text.strip_prefix("http://").unwrap_or_default();
    if host.is_empty() || text.contains([' ', '?', '#']) { Err(give()) } else { Ok(text) }
}
