//! The labels of a series as Pyroscope accepts them.
//!
//! It requires `__name__` and `service_name`, allows 30 labels of bounded length, and reserves
//! names that begin with two underscores. Labels that do not fit are left out, the least
//! important first, and counted.

use profile::Labels;
use profile::labels::{CGROUP, COMM, CONTAINER_ID, EXECUTABLE, MERGED, NODE, POD_UID};

/// Longest name, in bytes. Source: `validation.max-length-label-name`.
const NAME_MAX: usize = 1024;
/// Longest value, in bytes. Source: `validation.max-length-label-value`.
const VALUE_MAX: usize = 2048;
/// The name of CPU profiles. Pyroscope's own agents use it, so its pages show it.
const PROFILE_NAME: &str = "process_cpu";
/// The service of samples without a known process; the server writes the same.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// Our own labels, the most important first. Labels of the user come after them, by name.
const BY_IMPORTANCE: [&str; 7] = [NODE, EXECUTABLE, COMM, POD_UID, CONTAINER_ID, MERGED, CGROUP];

/// The labels of a series that are sent, and how many were lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SeriesLabels {
    /// At most as many as the server accepts.
    pub labels: Labels,
    /// Labels that were left out or whose value was cut.
    pub lost: u64,
}

/// Chooses at most `max` labels of a series, but always `__name__` and `service_name`.
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
    let cut = named.iter().filter(|(_, value)| value.len() > VALUE_MAX).count();
    let labels = Labels(named.into_iter().map(label).collect());
    SeriesLabels { labels, lost: (left_out + cut) as u64 }
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

fn label((name, value): (&str, &str)) -> (String, String) {
    let value = &value[..value.floor_char_boundary(VALUE_MAX)];
    (name.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    fn chosen(pairs: &[(&str, &str)], max: usize) -> (Vec<(String, String)>, u64) {
        let SeriesLabels { labels, lost } = choose(&labels(pairs), max);
        (labels.0.into_iter().collect(), lost)
    }

    fn value<'a>(chosen: &'a [(String, String)], name: &str) -> Option<&'a str> {
        chosen.iter().find(|pair| pair.0 == name).map(|pair| pair.1.as_str())
    }

    #[test]
    fn service_name_falls_back_to_executable_and_comm() {
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
    fn surplus_labels_of_the_user_are_left_out() {
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
    fn required_labels_are_always_sent() {
        let (few, lost) = chosen(&[("node", "n1"), ("comm", "x")], 1);
        let names: Vec<&str> = few.iter().map(|pair| pair.0.as_str()).collect();
        assert_eq!((names, lost), (vec!["__name__", "service_name"], 2));
    }

    #[test]
    fn reserved_names_and_long_text_are_left_out() {
        let long_name = "n".repeat(NAME_MAX + 1);
        let long_value = "ä".repeat(VALUE_MAX);
        let pairs =
            [("__name__", "mine"), (long_name.as_str(), "v"), ("cgroup", long_value.as_str())];
        let (sent, lost) = chosen(&pairs, 30);
        assert_eq!(value(&sent, "__name__"), Some("process_cpu"));
        assert_eq!(value(&sent, "cgroup").map(str::len), Some(VALUE_MAX));
        assert_eq!((sent.len(), lost), (3, 3));
    }
}
