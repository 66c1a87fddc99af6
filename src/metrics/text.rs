//! The Prometheus text format, version 0.0.4, written from the table.
//!
//! Two things have to be right: HELP and TYPE once before all series of a metric, which the loop over the table gives, and
//! the escapes, which are three characters. prometheus-client does neither for us: it keeps values in a registry of its own
//! where we have a snapshot, writes OpenMetrics, and puts label values between quotes as they are, so that a sink named
//! `a"b` breaks the page.

use std::fmt::Write;
use std::time::Duration;

use super::snapshot::Snapshot;
use super::table::{Metric, TABLE};

/// Writes all metrics.
pub fn render(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for metric in TABLE {
        let (name, kind) = (metric.name, metric.kind.text());
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {}", escaped(metric.help, false));
        let _ = writeln!(text, "# TYPE {name} {kind}");
        (metric.read)(snapshot, &mut Out { metric, text: &mut text });
    }
    text
}

/// Takes the series of one metric.
#[derive(Debug)]
pub struct Out<'a> {
    metric: &'a Metric,
    text: &'a mut String,
}

impl Out<'_> {
    /// Writes the only series of a metric without labels.
    pub fn one(&mut self, value: impl Number) {
        self.each(&[], value);
    }

    /// Writes the series with these values of the metric's labels, in the order of the table.
    pub fn each(&mut self, values: &[&str], value: impl Number) {
        self.line("", values, None, value.number());
    }

    /// Writes a histogram without labels. `up_to`: upper bounds in seconds, rising, and what lies within each, that of the
    /// bounds before included. `sum`: in seconds.
    pub fn histogram(
        &mut self,
        up_to: impl Iterator<Item = (Duration, u64)>,
        count: u64,
        sum: f64,
    ) {
        for (bound, within) in up_to {
            self.line("_bucket", &[], Some(bound.as_secs_f64()), within.number());
        }
        self.line("_bucket", &[], Some(f64::INFINITY), count.number());
        self.line("_sum", &[], None, sum);
        self.line("_count", &[], None, count.number());
    }

    fn line(&mut self, suffix: &str, values: &[&str], bound: Option<f64>, value: f64) {
        let Metric { name, labels, .. } = self.metric;
        debug_assert_eq!(labels.len(), values.len(), "labels of {name}");
        let pair = |name: &str, value: &str| format!("{name}=\"{}\"", escaped(value, true));
        let named = labels.iter().zip(values).map(|(label, value)| pair(label.name, value));
        let bound = bound.map(|bound| pair("le", &written(bound)));
        let labels: Vec<String> = named.chain(bound).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.text, "{name}{suffix}{labels} {}", written(value));
    }
}

/// What a metric's value can be made of.
pub trait Number {
    /// As Prometheus has it: whole numbers are exact up to 2^53, times are in seconds, truth is 1.
    fn number(self) -> f64;
}

impl Number for u64 {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for u32 {
    fn number(self) -> f64 {
        f64::from(self)
    }
}

impl Number for f64 {
    fn number(self) -> f64 {
        self
    }
}

impl Number for bool {
    fn number(self) -> f64 {
        f64::from(u8::from(self))
    }
}

impl Number for Duration {
    fn number(self) -> f64 {
        self.as_secs_f64()
    }
}

fn written(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".into(),
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        _ => value.to_string(), // as short as it can be read back exactly, without an exponent
    }
}

/// Escapes what would end a help text or, with its quotes, a label's value.
fn escaped(text: &str, has_quotes: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if has_quotes => escaped.push_str("\\\""),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_prometheus_reads_them() {
        let all = [0.0, 1.0, 0.25, 1e21, 5.12e-7, -3.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let texts = all.map(written);
        let expected = [
            "0",
            "1",
            "0.25",
            "1000000000000000000000",
            "0.000000512",
            "-3",
            "NaN",
            "+Inf",
            "-Inf",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn what_would_end_a_value_is_escaped() {
        assert_eq!(escaped("a\"b\\c\nd é", true), "a\\\"b\\\\c\\nd é");
        assert_eq!(escaped("a\"b\\c\nd", false), "a\"b\\\\c\\nd");
    }
}
