//! What makes up a metric.

use super::series_writer::SeriesWriter;
use super::snapshot::Snapshot;

/// The type of a metric in Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises, from 0 at the start of the agent.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

impl MetricKind {
    /// Returns the name of the type in the text format.
    pub fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A label of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its possible values.
    pub values: LabelValues,
}

impl Label {
    pub(super) const fn closed(name: &'static str, values: fn() -> Vec<&'static str>) -> Self {
        Self { name, values: LabelValues::Closed(values) }
    }

    pub(super) const fn open(name: &'static str, description: &'static str) -> Self {
        Self { name, values: LabelValues::Open(description) }
    }
}

/// The possible values of a label.
#[derive(Clone, Copy, Debug)]
pub enum LabelValues {
    /// One of a fixed list.
    Closed(fn() -> Vec<&'static str>),
    /// Any value, with a description.
    Open(&'static str),
}

/// Writes the series of one metric.
pub(super) type WriteSeries = fn(&Snapshot, &mut SeriesWriter<'_>);

/// A metric: one row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: MetricKind,
    /// One sentence, or two.
    pub help: &'static str,
    /// Its labels, in the order in which they are written.
    pub labels: &'static [Label],
    pub(super) write: WriteSeries,
}
