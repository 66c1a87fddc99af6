//! The labels of a series as Pyroscope takes them.
//!
//! It wants `__name__` and `service_name`, allows 30 labels of bounded length, and keeps names that begin
//! with two underscores to itself. What does not fit is left out, the least important first, and counted.

use profile::Labels;
use profile::labels::{CGROUP, COMM, CONTAINER_ID, EXECUTABLE, MERGED, NODE, POD_UID};

use super::proto::LabelPair;

/// Longest name, in bytes. Source: `validation.max-length-label-name`.
const NAME_MAX: usize = 1024;
/// Longest value, in bytes. Source: `validation.max-length-label-value`.
const VALUE_MAX: usize = 2048;
/// The name of profiles of CPU time. Pyroscope's own agents use it, so its pages know it.
const PROFILE_NAME: &str = "process_cpu";
/// The service of samples that no process is known of; what the server itself writes there.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// Our own labels, the most important first. Those that a user adds come after them, by name.
const BY_IMPORTANCE: [&str; 7] = [NODE, EXECUTABLE, COMM, POD_UID, CONTAINER_ID, MERGED, CGROUP];

/// Labels of a series, sorted by name, and what was lost of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SeriesLabels {
    /// At most as many as the server takes.
    pub pairs: Vec<LabelPair>,
    /// Labels that were left out, or whose value was cut.
    pub lost: u64,
}

/// Chooses the labels of a series; at most `max` of them, but always `__name__` and `service_name`.
pub(super) fn choose(series: &Labels, max: usize) -> SeriesLabels {
    let mut named: Vec<(&str, &str)> = series
        .iter()
        .filter(|(name, value)| *name != "service_name" && !value.is_empty())
        .collect();
    named.sort_by_key(|(name, _)| (importance(name), *name));
    let offered = named.len();
    named.retain(|(name, _)| is_allowed(name));
    named.truncate(max.saturating_sub(2));
    let left_out = offered - named.len();

    named.push(("__name__", PROFILE_NAME));
    named.push(("service_name", service_name(series)));
    named.sort_unstable();
    let cut = named.iter().filter(|(_, value)| value.len() > VALUE_MAX).count();
    SeriesLabels { pairs: named.iter().map(pair).collect(), lost: (left_out + cut) as u64 }
}

fn importance(name: &str) -> usize {
    BY_IMPORTANCE.iter().position(|known| *known == name).unwrap_or(BY_IMPORTANCE.len())
}

fn is_allowed(name: &str) -> bool {
    !name.is_empty() && !name.starts_with("__") && name.len() <= NAME_MAX
}

fn service_name(series: &Labels) -> &str {
    ["service_name", EXECUTABLE, COMM]
        .iter()
        .filter_map(|name| series.get(name))
        .find(|value| !value.is_empty())
        .unwrap_or(UNKNOWN_SERVICE)
}

fn pair((name, value): &(&str, &str)) -> LabelPair {
    let value = &value[..value.floor_char_boundary(VALUE_MAX)];
    LabelPair { name: (*name).to_owned(), value: value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    fn chosen(pairs: &[(&str, &str)], max: usize) -> (Vec<(String, String)>, u64) {
        let SeriesLabels { pairs, lost } = choose(&labels(pairs), max);
        (pairs.into_iter().map(|pair| (pair.name, pair.value)).collect(), lost)
    }

    fn value<'a>(chosen: &'a [(String, String)], name: &str) -> Option<&'a str> {
        chosen.iter().find(|pair| pair.0 == name).map(|pair| pair.1.as_str())
    }

    #[test]
    fn the_service_is_the_label_else_the_executable_else_the_name_of_the_process() {
        let check = |pairs: &[(&str, &str)], expected| {
            assert_eq!(value(&chosen(pairs, 30).0, "service_name"), Some(expected), "{pairs:?}");
        };
        check(&[("service_name", "shop"), ("executable", "node"), ("comm", "MainThread")], "shop");
        check(&[("executable", "node"), ("comm", "MainThread")], "node");
        check(&[("executable", ""), ("comm", "kworker/0:1")], "kworker/0:1");
        check(&[("service_name", ""), ("comm", "kworker/0:1")], "kworker/0:1");
        check(&[("merged", "true")], "unknown_service");
        check(&[], "unknown_service");
    }

    #[test]
    fn thirty_one_labels_lose_the_last_that_the_user_added() {
        let names: Vec<String> = (0..29).map(|n| format!("user_{n:02}")).collect();
        let mut pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        pairs.push(("node", "n1"));
        let (all, lost) = chosen(&pairs, 32);
        assert_eq!((all.len(), lost), (32, 0));
        let (fewer, lost) = chosen(&pairs, 30);
        assert_eq!((fewer.len(), lost), (30, 2));
        assert_eq!(value(&fewer, "node"), Some("n1"));
        assert_eq!(value(&fewer, "user_26"), Some("v"));
        assert_eq!((value(&fewer, "user_27"), value(&fewer, "user_28")), (None, None));
        assert!(fewer.is_sorted(), "{fewer:?}");
    }

    #[test]
    fn however_little_room_there_is_the_two_that_the_server_wants_are_there() {
        let (few, lost) = chosen(&[("node", "n1"), ("comm", "x")], 1);
        let names: Vec<&str> = few.iter().map(|pair| pair.0.as_str()).collect();
        assert_eq!((names, lost), (vec!["__name__", "service_name"], 2));
    }

    #[test]
    fn names_of_the_server_and_endless_text_are_kept_from_it() {
        let long_name = "n".repeat(NAME_MAX + 1);
        let long_value = "ä".repeat(VALUE_MAX);
        let pairs =
            [("__name__", "mine"), (long_name.as_str(), "v"), ("cgroup", long_value.as_str())];
        let (kept, lost) = chosen(&pairs, 30);
        assert_eq!(value(&kept, "__name__"), Some("process_cpu"));
        assert_eq!(value(&kept, "cgroup").map(str::len), Some(VALUE_MAX));
        assert_eq!((kept.len(), lost), (3, 3));
    }
}
