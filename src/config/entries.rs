//! Tables whose names people choose: labels and headers.

use std::ops::Range;

use profile::labels::is_reserved;
use toml::de::DeValue;
use toml::{Table, Value};

use super::given::{Given, Raw, cut};
use super::kind::{Bad, Kind, is_path, text};

/// Pyroscope takes 30 labels of a series, of which up to ten are ours.
const LABELS_MAX: usize = 16;
/// More is no use that we know of.
const HEADERS_MAX: usize = 32;

/// Longest name of either.
const NAME_BYTES_MAX: usize = 128;

/// Reads a table of the file, or `NAME=TEXT,NAME=TEXT`.
pub(super) fn read(kind: Kind, raw: Raw<'_>) -> Result<Value, Bad> {
    let most = if kind == Kind::Labels { LABELS_MAX } else { HEADERS_MAX };
    let pairs = pairs(raw)?;
    if pairs.len() > most {
        let found = format!("a table of {} names", pairs.len());
        return Err(Bad::new(found, format!("give at most {most}")));
    }
    let entry = |pair: &Pair<'_>| match pair.problem(kind) {
        None => {
            let text = pair.given.text().unwrap_or_default();
            Ok((pair.name.clone(), Value::String(text.to_owned())))
        }
        Some((found, give)) => {
            Err(Bad { entry: Some((cut(&pair.name), pair.at.clone())), found, give })
        }
    };
    pairs.iter().map(entry).collect::<Result<Table, Bad>>().map(Value::Table)
}

/// A name and its text.
struct Pair<'a> {
    name: String,
    at: Option<Range<usize>>,
    given: Given<'a>,
}

impl Pair<'_> {
    /// Says what it is and what to do, if it cannot be taken. What may be a secret is not shown.
    fn problem(&self, kind: Kind) -> Option<(String, String)> {
        let name = match kind {
            Kind::Labels => label_problem(&self.name),
            _ => header_problem(&self.name, kind == Kind::Headers),
        };
        if let Some((found, give)) = name {
            return Some((found.to_owned(), give));
        }
        match (kind, text(&self.given)) {
            (Kind::HeaderFiles, Ok(text)) if is_path(text) => None,
            (Kind::HeaderFiles, _) => Some((
                "no absolute path".into(),
                "give that of a file, as in \"/etc/everytick/header\"".into(),
            )),
            (_, Ok(_)) => None,
            (Kind::Labels, Err(give)) => Some((self.given.shown(), give)),
            (_, Err(_)) => Some((
                self.given.word().into(),
                "give a text of 1 to 1024 bytes without control characters, in quotes".into(),
            )),
        }
    }
}

fn pairs(raw: Raw<'_>) -> Result<Vec<Pair<'_>>, Bad> {
    match raw {
        Raw::Toml(value) => {
            let DeValue::Table(table) = value.get_ref() else {
                return Err(Bad::new(
                    Given::of(raw).word(),
                    "give a table, as in { name = \"text\" }",
                ));
            };
            let pairs = table.iter().map(|(name, value)| Pair {
                name: name.get_ref().to_string(),
                at: Some(name.span()),
                given: Given::of(Raw::Toml(value)),
            });
            Ok(pairs.collect())
        }
        Raw::Text(text) => text.split(',').map(loose_pair).collect(),
    }
}

fn loose_pair(text: &str) -> Result<Pair<'_>, Bad> {
    let Some((name, text)) = text.split_once('=') else {
        return Err(Bad::new("no list of names and texts", "give NAME=TEXT,NAME=TEXT"));
    };
    Ok(Pair { name: name.trim().to_owned(), at: None, given: Given::Loose(text.trim()) })
}

/// Says what a name is and what to do, if it cannot be a header's.
fn header_problem(name: &str, is_shown: bool) -> Option<(&'static str, String)> {
    /// Headers whose text is a secret.
    const SECRET: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_token) {
        return Some(("no name of a header", "give one such as X-Team".into()));
    }
    let is_secret = SECRET.iter().any(|secret| name.eq_ignore_ascii_case(secret));
    (is_shown && is_secret).then(|| {
        ("a secret", "write it into a file, and the path of that below header_files".into())
    })
}

/// Says what a name is and what to do, if it cannot be a label's. Parca takes the names of Prometheus only.
fn label_problem(name: &str) -> Option<(&'static str, String)> {
    let is_letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let is_name = name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|b| is_letter(b) || b.is_ascii_digit());
    if !is_name || name.len() > NAME_BYTES_MAX || name.starts_with("__") {
        let give = "use letters, digits and _, a letter first, as in team_name".into();
        return Some(("no name of a label", give));
    }
    is_reserved(name)
        .then(|| ("a label that everytick writes itself", "choose another name".into()))
}
