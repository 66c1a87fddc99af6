//! What somebody may have meant by a name that is not known.

use strsim::damerau_levenshtein;

/// Longer names are no slips of the finger.
const NAME_BYTES_MAX: usize = 64;

/// What other programs call it, and what it is called here.
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

/// Finds the name that is meant, if one is near: by a few letters, by a part of it, or by what others call it.
/// Letters may be large or small, and `-` counts as `_`.
pub(super) fn closest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let name = plain(name);
    let distances = candidates
        .into_iter()
        .filter_map(|candidate| Some((distance(&name, &plain(candidate))?, candidate)));
    distances.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace(['-', ' '], "_")
}

/// Says how far apart two names are, if one could be meant by the other.
fn distance(name: &str, candidate: &str) -> Option<usize> {
    /// Any slip of a few letters is nearer than a name that has the other as a part.
    const PART: usize = NAME_BYTES_MAX;
    let is_called = |(other, ours): &(&str, &str)| {
        let same = candidate == *ours || candidate.ends_with(&format!("_{ours}"));
        name == *other && same
    };
    if OTHER_NAMES.iter().any(is_called) {
        return Some(1);
    }
    let edits = damerau_levenshtein(name, candidate);
    if edits <= name.len().max(candidate.len()) / 3 {
        return Some(edits);
    }
    let is_part = name.len() >= 3 && candidate.contains(name)
        || candidate.len() >= 3 && name.contains(candidate);
    is_part.then(|| PART + name.len().abs_diff(candidate.len()))
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn names_are_found_by_slips_parts_and_what_others_call_them() {
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
