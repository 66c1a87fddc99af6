//! Formats all metrics as a page of the Prometheus text format.
//!
//! HELP and TYPE must come once, before all series of a metric. Label values must be escaped.
//! prometheus-client does neither for us: it keeps values in a registry of its own where we have a
//! snapshot, writes OpenMetrics, and does not escape label values, so that a sink named `a"b`
//! breaks the page.

use std::fmt::Write;

use super::series_writer::{SeriesWriter, escape};
use super::snapshot::Snapshot;
use super::table::TABLE;

/// Formats all metrics.
pub fn render(snapshot: &Snapshot) -> String {
    let mut page = String::new();
    for metric in TABLE {
        let (name, kind) = (metric.name, metric.kind.text());
        let _ = writeln!(page, "# HELP {name} {}", escape(metric.help, false));
        let _ = writeln!(page, "# TYPE {name} {kind}");
        let labels: Vec<_> = metric.labels.iter().map(|label| label.name).collect();
        (metric.write)(snapshot, &mut SeriesWriter { name, labels: &labels, page: &mut page });
    }
    page
}
