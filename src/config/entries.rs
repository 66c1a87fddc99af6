//! Tables whose names people choose: labels and headers.

use std::ops::Range;

use toml::de::DeValue;
use toml::{Table, Value};

use super::given::{Given, Raw, cut};
use super::kind::{Bad, Kind, is_path, is_text};

/// Pyroscope takes 30 labels of a series, of which up to ten are ours.
const LABELS_MAX: usize = 16;
/// More is no use that we know of.
const HEADERS_MAX: usize = 32;

/// Reads a table of the file, or `NAME=TEXT,NAME=TEXT`.
pub(super) fn read(kind: Kind, raw: Raw<'_>) -> Result<Value, Bad> {
    let most = if kind == Kind::Labels { LABELS_MAX } else { HEADERS_MAX };
    let pairs = pairs(raw)?;
    if pairs.len() > most {
        let found = format!("a table of {} names", pairs.len());
        return Err(Bad::new(found, format!("give at most {most}")));
    }
    let entry = |pair: &Pair<'_>| {
        let give = name_problem(kind, &pair.name).or_else(|| text_problem(kind, &pair.given));
        match (give, pair.given.text()) {
            (None, Some(text)) => Ok((pair.name.clone(), Value::String(text.to_owned()))),
            (give, _) => Err(pair.bad(kind, give.unwrap_or_default())),
        }
    };
    pairs.iter().map(entry).collect::<Result<Table, Bad>>().map(Value::Table)
}

struct Pair<'a> {
    name: String,
    at: Option<Range<usize>>,
    given: Given<'a>,
}

impl Pair<'_> {
    /// Text of headers and what should be a path may be a secret.
    fn bad(&self, kind: Kind, give: String) -> Bad {
        let found = match (kind, self.given.text()) {
            (Kind::Labels, _) | (_, None) => self.given.shown(),
            (Kind::HeaderFiles, Some(text)) if !is_path(text) => "no absolute path".to_owned(),
            _ => "a text".to_owned(),
        };
        Bad { entry: Some((cut(&self.name), self.at.clone())), found, give }
    }
}

fn pairs(raw: Raw<'_>) -> Result<Vec<Pair<'_>>, Bad> {
    match raw {
        Raw::Toml(value) => {
            let DeValue::Table(table) = value.get_ref() else {
                let found = Given::of(raw);
                let found = found.text().map_or_else(|| found.shown(), |_| "a text".to_owned());
                return Err(Bad::new(found, "give a table, as in { name = \"text\" }"));
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

/// Says what to do if a name cannot be taken.
fn name_problem(kind: Kind, name: &str) -> Option<String> {
    if kind == Kind::Labels {
        return label_problem(name);
    }
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(is_token) {
        return Some("name a header, as in X-Team".into());
    }
    let is_secret = ["authorization", "proxy-authorization", "cookie"]
        .iter()
        .any(|secret| name.eq_ignore_ascii_case(secret));
    (kind == Kind::Headers && is_secret).then(|| {
        format!("write it into a file and name that file below header_files, as in {name} = \"/etc/everytick/header\"")
    })
}

/// Parca takes the names of Prometheus only.
fn label_problem(name: &str) -> Option<String> {
    let is_letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let is_name = name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|b| is_letter(b) || b.is_ascii_digit());
    if !is_name || name.len() > 128 || name.starts_with("__") {
        return Some(
            "name labels with letters, digits and _, a letter first, as in team_name".into(),
        );
    }
    RESERVED.contains(&name).then(|| {
        format!("choose another name, because everytick writes the label {name} itself")
    })
}

/// Labels that everytick writes.
const RESERVED: [&str; 13] = [
    "node", "comm", "executable", "cgroup", "pod_uid", "container_id", "merged", "cut", "guessed",
    "thread", "pid", "tid", "cgroup_id",
];

fn text_problem(kind: Kind, given: &Given<'_>) -> Option<String> {
    let text = given.text().filter(|text| is_text(text));
    match kind {
        Kind::HeaderFiles if !text.is_some_and(is_path) => {
            Some("give the absolute path of a file, as in \"/etc/everytick/header\"".into())
        }
        _ if text.is_none() => {
            Some("give a text of 1 to 1024 bytes without control characters".into())
        }
        _ => None,
    }
}
