//! Suggestions: the known name that an unknown one probably stands for.

use strsim::damerau_levenshtein;
use upload::config::InvalidValue;

/// Longer names are not typing mistakes.
const NAME_BYTES_MAX: usize = 64;

/// Names that other programs use, and ours.
const OTHER_NAMES: [(&str, &str); 28] = [
    ("hz", "frequency"),
    ("rate", "frequency"),
    ("sample_rate", "frequency"),
    ("sampling_rate", "frequency"),
    ("interval", "window"),
    ("period", "window"),
    ("duration", "window"),
    ("hostname", "node"),
    ("host_name", "node"),
    ("external_labels", "labels"),
    ("tags", "labels"),
    ("http_address", "listen"),
    ("port", "listen"),
    ("bind", "listen"),
    ("verbosity", "level"),
    ("path", "directory"),
    ("dir", "directory"),
    ("size", "max_bytes"),
    ("max_size", "max_bytes"),
    ("limit", "max_bytes"),
    ("retention", "max_age"),
    ("ttl", "max_age"),
    ("endpoint", "url"),
    ("address", "url"),
    ("server", "url"),
    ("host", "url"),
    ("kind", "type"),
    ("org_id", "tenant"),
];

/// Returns what to give instead of an invalid value.
pub(super) fn advice(invalid: &InvalidValue) -> String {
    let found = invalid.found.trim_matches('"');
    match closest(found, invalid.choices.iter().copied()) {
        Some(choice) => format!("did you mean \"{choice}\"?"),
        None => invalid.advice.clone(),
    }
}

/// Returns the candidate that `name` probably stands for: one that differs by a few letters,
/// contains the name or is contained in it, or has this name in other programs. Case is ignored,
/// and `-` equals `_`.
pub(super) fn closest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let name = normalize(name);
    let distances = candidates
        .into_iter()
        .filter_map(|candidate| Some((distance(&name, &normalize(candidate))?, candidate)));
    distances.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

fn normalize(name: &str) -> String {
    name.to_lowercase().replace(['-', ' '], "_")
}

/// Returns how far apart two names are, if one may stand for the other.
fn distance(name: &str, candidate: &str) -> Option<usize> {
    /// A name that contains the other is farther away than any typing mistake.
    const CONTAINED: usize = NAME_BYTES_MAX;
    let is_synonym = |(other, ours): &(&str, &str)| {
        name == *other && (candidate == *ours || candidate.ends_with(&format!("_{ours}")))
    };
    if OTHER_NAMES.iter().any(is_synonym) {
        return Some(1);
    }
    let edits = damerau_levenshtein(name, candidate);
    if edits <= name.len().max(candidate.len()) / 3 {
        return Some(edits);
    }
    let is_contained = name.len() >= 3 && candidate.contains(name)
        || candidate.len() >= 3 && name.contains(candidate);
    is_contained.then(|| CONTAINED + name.len().abs_diff(candidate.len()))
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn finds_typing_mistakes_parts_and_synonyms() {
        let candidates =
            ["frequency", "window", "node", "max_cpu", "url", "tls.ca_file", "bearer_token_file"];
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(closest(name, candidates), expected, "{name}");
        };
        check("frequenzy", Some("frequency"));
        check("Frequency", Some("frequency"));
        check("max-cpu", Some("max_cpu"));
        check("mode", Some("node"));
        check("cpu", Some("max_cpu"));
        check("ca_file", Some("tls.ca_file"));
        check("token", Some("bearer_token_file"));
        check("hz", Some("frequency"));
        check("interval", Some("window"));
        check("endpoint", Some("url"));
        check("zzz", None);
        check("", None);
        check(&"frequency".repeat(100), None);
    }
}
