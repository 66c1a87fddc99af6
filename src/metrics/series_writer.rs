//! Writes series in the Prometheus text format, version 0.0.4.

use std::fmt::Write;
use std::time::Duration;

/// Writes the series of one metric.
#[derive(Debug)]
pub struct SeriesWriter<'a> {
    /// Name of the metric.
    pub name: &'a str,
    /// Names of its labels.
    pub labels: &'a [&'static str],
    /// The page so far.
    pub page: &'a mut String,
}

impl SeriesWriter<'_> {
    /// Writes the only series of a metric without labels.
    pub fn value(&mut self, value: impl MetricValue) {
        self.labelled(&[], value);
    }

    /// Writes the series with these label values, in the order of the metric's labels.
    pub fn labelled(&mut self, values: &[&str], value: impl MetricValue) {
        self.line("", values, None, value.to_f64());
    }

    /// Writes a histogram without labels. `buckets`: rising upper bounds, and the number of
    /// observations up to each. `sum`: in seconds.
    pub fn histogram(
        &mut self,
        buckets: impl Iterator<Item = (Duration, u64)>,
        count: u64,
        sum: f64,
    ) {
        for (bound, observations) in buckets {
            self.line("_bucket", &[], Some(bound.as_secs_f64()), observations.to_f64());
        }
        self.line("_bucket", &[], Some(f64::INFINITY), count.to_f64());
        self.line("_sum", &[], None, sum);
        self.line("_count", &[], None, count.to_f64());
    }

    fn line(&mut self, suffix: &str, values: &[&str], bound: Option<f64>, value: f64) {
        let Self { name, labels, .. } = self;
        debug_assert_eq!(labels.len(), values.len(), "labels of {name}");
        let pair = |name: &str, value: &str| format!("{name}=\"{}\"", escape(value, true));
        let pairs = labels.iter().zip(values).map(|(label, value)| pair(label, value));
        let bound = bound.map(|bound| pair("le", &format_value(bound)));
        let pairs: Vec<String> = pairs.chain(bound).collect();
        let labels = match pairs.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", pairs.join(",")),
        };
        let _ = writeln!(self.page, "{name}{suffix}{labels} {}", format_value(value));
    }
}

/// A type that can be the value of a metric.
pub trait MetricValue {
    /// Converts to Prometheus' type: integers are exact up to 2^53, times are seconds, true is 1.
    fn to_f64(self) -> f64;
}

impl MetricValue for u64 {
    fn to_f64(self) -> f64 {
        self as f64
    }
}

impl MetricValue for u32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl MetricValue for f64 {
    fn to_f64(self) -> f64 {
        self
    }
}

impl MetricValue for bool {
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
}

impl MetricValue for Duration {
    fn to_f64(self) -> f64 {
        self.as_secs_f64()
    }
}

fn format_value(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".into(),
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        _ => value.to_string(), // the shortest text that parses back exactly, without an exponent
    }
}

/// Escapes what would end a help text or, with `quotes`, the value of a label.
pub(super) fn escape(text: &str, quotes: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if quotes => escaped.push_str("\\\""),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_in_prometheus_syntax() {
        let check = |value, expected| assert_eq!(format_value(value), expected);
        check(0.0, "0");
        check(1.0, "1");
        check(0.25, "0.25");
        check(1e21, "1000000000000000000000");
        check(5.12e-7, "0.000000512");
        check(-3.0, "-3");
        check(f64::NAN, "NaN");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
    }

    #[test]
    fn delimiters_are_escaped() {
        assert_eq!(escape("a\"b\\c\nd é", true), "a\\\"b\\\\c\\nd é");
        assert_eq!(escape("a\"b\\c\nd", false), "a\"b\\\\c\\nd");
    }
}
