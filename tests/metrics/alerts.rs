//! The alerts in `deploy/alerts.yaml` use metrics and labels that exist.

use std::collections::BTreeSet;

use everytick::metrics::{Metric, MetricKind, TABLE};

const RULES: &str = include_str!("../../deploy/alerts.yaml");

/// The parts of an alert that the tests look at.
#[derive(Debug, Default)]
struct Alert {
    name: String,
    expression: String,
    /// All keys of the alert, such as `for` and `severity`.
    keys: BTreeSet<String>,
}

/// Parses the rules. Supports a subset of YAML: one key per line, with its value behind it.
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

/// Returns the metrics of ours in an expression, each with the labels that it matches on.
fn metrics_in(expression: &str) -> Vec<(&str, Vec<&str>)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = expression.match_indices("everytick_").map(|(at, _)| at);
    let metrics = starts.map(|start| {
        let rest = &expression[start..];
        let (word, rest) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
        let braces = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let matchers = braces.map_or("", |(inside, _)| inside).split(',');
        let labels = matchers.filter_map(|m| Some(m.split(['=', '!']).next()?.trim()));
        (word, labels.filter(|label| !label.is_empty()).collect())
    });
    metrics.collect()
}

fn metric(word: &str) -> Option<&'static Metric> {
    TABLE.iter().find(|metric| {
        let part = word.strip_prefix(metric.name).unwrap_or("no");
        part.is_empty()
            || metric.kind == MetricKind::Histogram && ["_bucket", "_sum", "_count"].contains(&part)
    })
}

#[test]
fn alerts_use_existing_metrics_and_labels() {
    let alerts = alerts();
    assert!(alerts.len() >= 5, "{alerts:?}");
    for Alert { name, expression, .. } in &alerts {
        let metrics = metrics_in(expression);
        assert!(!metrics.is_empty(), "{name} uses no metric of ours: {expression}");
        for (word, labels) in metrics {
            let metric =
                metric(word).unwrap_or_else(|| panic!("{name} uses the unknown metric {word}"));
            for label in labels {
                let is_there = metric.labels.iter().any(|known| known.name == label);
                assert!(is_there, "{name}: {word} has no label {label}");
            }
        }
    }
}

#[test]
fn alerts_have_a_severity_and_a_description() {
    let mut names = BTreeSet::new();
    for Alert { name, keys, .. } in alerts() {
        for key in ["expr", "for", "severity", "summary", "description"] {
            assert!(keys.contains(key), "{name} has no {key}");
        }
        assert!(names.insert(name.clone()), "{name} is listed twice");
    }
}

#[test]
fn alerts_use_counters_within_a_rate() {
    for Alert { name, expression, .. } in alerts() {
        for (at, word) in
            expression.match_indices("everytick_").map(|(at, _)| (at, &expression[at..]))
        {
            let word = word.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
            let is_counter = metric(word).is_some_and(|metric| metric.kind == MetricKind::Counter);
            let before = &expression[..at];
            let is_rate = before.ends_with("increase(") || before.ends_with("rate(");
            assert_eq!(is_counter, is_rate, "{name}: {word} in {expression}");
        }
    }
}

#[test]
fn expressions_are_parsed() {
    let expression = "rate(everytick_a_total{x=\"1\",y!~\"2|3\"}[5m]) / everytick_b > 0";
    assert_eq!(
        metrics_in(expression),
        [("everytick_a_total", vec!["x", "y"]), ("everytick_b", vec![])]
    );
    assert!(metric("everytick_sampler_tick_seconds_bucket").is_some());
    assert!(metric("everytick_ticks_total_bucket").is_none());
    assert!(metric("everytick_ticks").is_none());
}
