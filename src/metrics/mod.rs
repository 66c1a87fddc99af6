//! What a running agent reports: metrics, health, readiness.
//!
//! [`TABLE`] is the one list of metrics: name, help, labels, and where each value comes from.
//! `docs/metrics.md` is generated from it. The agent fills a [`Snapshot`] on request, and [`page`]
//! formats the response. Everything here is a pure function, tested without an agent.

mod health;
mod metric;
mod pages;
mod prometheus;
mod series_writer;
pub mod server;
mod snapshot;
mod table;
mod totals;

pub use health::HealthState;
pub use metric::{Label, LabelValues, Metric, MetricKind};
pub use pages::{PATHS, page};
pub use prometheus::render;
pub use snapshot::{
    BudgetState, LossReason, OwnUsage, ProcessUsage, ReloadCounts, SeriesCounts, SeriesLimit,
    Snapshot, WindowCounts,
};
pub use table::TABLE;
pub use totals::{LedgerTotals, frames};
