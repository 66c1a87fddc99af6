//! `deploy/alerts.yaml` asks for nothing that the agent does not tell.

use std::collections::BTreeSet;

use everytick::metrics::{Kind, Metric, TABLE};

const RULES: &str = include_str!("../../deploy/alerts.yaml");

/// An alert, as far as it matters here.
#[derive(Debug, Default)]
struct Alert {
    name: String,
    expression: String,
    /// Everything else that it has, by its key.
    keys: BTreeSet<String>,
}

/// Reads the rules. Not all of YAML: each key has its own line, an expression stands behind its key.
fn alerts() -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::new();
    for line in RULES.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let Some((key, value)) = line.split_once(':') else { continue };
        if key == "- alert" {
            alerts.push(Alert { name: value.trim().to_owned(), ..Alert::default() });
        } else if let Some(alert) = alerts.last_mut() {
            if key == "expr" {
                alert.expression = value.trim().to_owned();
            }
            assert!(alert.keys.insert(key.to_owned()), "{} has two of {key}", alert.name);
        }
    }
    alerts
}

/// Words of ours in an expression, and the labels that are asked for in the braces behind each.
fn named(expression: &str) -> Vec<(&str, Vec<&str>)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = expression.match_indices("everytick_").map(|(at, _)| at);
    let named = starts.map(|start| {
        let rest = &expression[start..];
        let (word, rest) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
        let braces = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let matchers = braces.map_or("", |(inside, _)| inside).split(',');
        let labels = matchers.filter_map(|m| Some(m.split(['=', '!']).next()?.trim()));
        (word, labels.filter(|label| !label.is_empty()).collect())
    });
    named.collect()
}

fn metric(word: &str) -> Option<&'static Metric> {
    TABLE.iter().find(|metric| {
        let part = word.strip_prefix(metric.name).unwrap_or("no");
        part.is_empty()
            || metric.kind == Kind::Histogram && ["_bucket", "_sum", "_count"].contains(&part)
    })
}

#[test]
fn every_metric_in_an_alert_is_in_the_table() {
    let alerts = alerts();
    assert!(alerts.len() >= 5, "{alerts:?}");
    for Alert { name, expression, .. } in &alerts {
        let named = named(expression);
        assert!(!named.is_empty(), "{name} goes by no metric of ours: {expression}");
        for (word, labels) in named {
            let metric = metric(word).unwrap_or_else(|| panic!("{name} asks for {word}"));
            for label in labels {
                let is_there = metric.labels.iter().any(|known| known.name == label);
                assert!(is_there, "{name}: {word} has no label {label}");
            }
        }
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    let mut names = BTreeSet::new();
    for Alert { name, keys, .. } in alerts() {
        for key in ["expr", "for", "severity", "summary", "description"] {
            assert!(keys.contains(key), "{name} has no {key}");
        }
        assert!(names.insert(name.clone()), "{name} comes twice");
    }
}

#[test]
fn counters_are_asked_for_what_they_rose_by() {
    for Alert { name, expression, .. } in alerts() {
        for (at, word) in
            expression.match_indices("everytick_").map(|(at, _)| (at, &expression[at..]))
        {
            let word = word.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
            let is_counter = metric(word).is_some_and(|metric| metric.kind == Kind::Counter);
            let before = &expression[..at];
            let is_rate = before.ends_with("increase(") || before.ends_with("rate(");
            assert_eq!(is_counter, is_rate, "{name}: {word} in {expression}");
        }
    }
}

#[test]
fn names_and_labels_are_found_in_expressions() {
    let expression = "rate(everytick_a_total{x=\"1\",y!~\"2|3\"}[5m]) / everytick_b > 0";
    assert_eq!(named(expression), [("everytick_a_total", vec!["x", "y"]), ("everytick_b", vec![])]);
    assert!(metric("everytick_sampler_tick_seconds_bucket").is_some());
    assert!(metric("everytick_ticks_total_bucket").is_none());
    assert!(metric("everytick_ticks").is_none());
}
