//! What a running agent tells: metrics as Prometheus reads them, their documentation, and the alerts that go by them.
#![allow(clippy::unwrap_used)]

mod alerts;
mod document;
mod parser;

use std::collections::BTreeMap;
use std::time::Duration;

use everytick::kernel::abi::Counters;
use everytick::metrics::{
    Budget, Kind, Metric, Names, Own, Part, Reasons, Reloads, Series, Sink, Snapshot, State, TABLE,
    Totals, Values, Walks, Windows, render,
};
use everytick::session::SamplerTime;
use everytick::tables::{CacheCounts, TableCounts};
use parser::{Family, parse};
use profile::{CaptureLedger, Cpu, CpuTicks, Loss, StackEnd, TickOutcome};
use zerocopy::FromZeros;

const SECOND: u64 = 1_000_000_000;

/// An agent that has been through everything: no two values are the same by chance.
fn snapshot() -> Snapshot {
    Snapshot {
        started_unix_ns: 1_700_000_000 * SECOND,
        state: State {
            period: Duration::from_secs(10),
            since_sampling: Some(Duration::from_secs(100)),
            since_window: Some(Duration::from_secs(3)),
            ..State::default()
        },
        totals: totals(),
        walks: walks(),
        names: Names { named: 301, unnamed: 302 },
        windows: Windows {
            closed: 401,
            accepted: 402,
            empty: 403,
            lost: reasons(&[("no space on the disk", 404), ("the agent is behind", 0)]),
            last_unix_ns: 1_700_000_100 * SECOND + SECOND / 2,
            accepted_unix_ns: 1_700_000_090 * SECOND,
        },
        series: Series { last: 501, merged: 502, merged_samples: 503 },
        sinks: vec![sink("parca", 600), sink("files", 700)],
        spool: (801, 802),
        own: own(),
        budget: Budget {
            step: 2,
            frequency: 4,
            user_frames: 64,
            cpu_percent: 0.25,
            cpu_percent_max: 1.0,
            memory: 901,
            memory_max: 902,
        },
        reloads: Reloads { done: 951, failed: 952, is_stale: true, read_unix_ns: 5 * SECOND },
    }
}

fn totals() -> Totals {
    let mut ledger = CaptureLedger {
        cpus: vec![CpuTicks { cpu: Cpu(0), due: 110, ticks: 101 }],
        aggregated: 111,
        guessed: 112,
        ..CaptureLedger::default()
    };
    ledger.outcomes[TickOutcome::LostRingFull as usize] = 113;
    ledger.lost[Loss::WindowFull as usize] = 114;
    ledger.user_ends[StackEnd::NoRow as usize] = 115;
    ledger.kernel_ends[StackEnd::NoRow as usize] = 116;
    let mut totals = Totals::default();
    totals.add(&ledger, 117);
    totals
}

fn walks() -> Walks {
    let cache = CacheCounts { taken: 201, damaged: 202, unkept: 203, ..CacheCounts::default() };
    let tables = TableCounts {
        tables: 204,
        rows: 205,
        left_out: 206,
        evicted: 207,
        refused: 208,
        unreadable: 209,
        cache,
        ..TableCounts::default()
    };
    Walks {
        processes: 210,
        executables: 211,
        events_lost: 212,
        finished: 213,
        tables,
        table_bytes: 214,
    }
}

fn sink(name: &str, base: u64) -> Sink {
    Sink {
        name: name.into(),
        pending: base + 1,
        delivered: base + 2,
        partly: base + 3,
        lost: reasons(&[("refused", base + 4), ("the spool is full", 10)]),
        retried: reasons(&[("unreachable", base + 5)]),
        sent_bytes: base + 6,
        spool_bytes: base + 7,
        oldest: Some(Duration::from_millis(base)),
    }
}

fn reasons(all: &[(&'static str, u64)]) -> Reasons {
    all.iter().copied().collect()
}

fn own() -> Own {
    let mut counters = Counters::new_zeroed();
    counters.time_classes[40] = 5; // 2,048 to 2,560 ns
    counters.time_classes[127] = 1;
    (counters.ticks, counters.time_total, counters.time_max) = (6, 3 * SECOND, 2 * SECOND);
    let part = |seconds, resident| Part { cpu: Duration::from_secs(seconds), resident };
    Own {
        agent: part(21, 22),
        symbolizer: part(23, 24),
        opener: part(25, 26),
        sampler: SamplerTime::of(&[counters]),
        map_bytes: 27,
    }
}

/// Reads what is rendered; every metric is there, in the order of the table, as the table says.
fn families(snapshot: &Snapshot) -> Vec<Family> {
    let families = parse(&render(snapshot)).unwrap();
    assert_eq!(families.len(), TABLE.len());
    for (family, metric) in families.iter().zip(TABLE) {
        let said = (family.name.as_str(), family.kind.as_str(), family.help.as_str());
        assert_eq!(said, (metric.name, metric.kind.text(), metric.help));
        check_labels(family, metric);
    }
    families
}

fn check_labels(family: &Family, metric: &Metric) {
    let names: Vec<&str> = metric.labels.iter().map(|label| label.name).collect();
    for series in &family.series {
        let own = |label: &&(String, String)| metric.kind != Kind::Histogram || label.0 != "le";
        let labels: Vec<_> = series.labels.iter().filter(own).collect();
        assert_eq!(labels.iter().map(|label| &label.0).collect::<Vec<_>>(), names, "{series:?}");
        for ((_, value), label) in labels.iter().zip(metric.labels) {
            let Values::Closed(values) = label.values else { continue };
            assert!(values().contains(&value.as_str()), "{value} is not in the list: {series:?}");
        }
    }
}

/// The value of the series with these labels.
fn value(families: &[Family], name: &str, labels: &[(&str, &str)]) -> f64 {
    let family = families.iter().find(|family| family.name == name).unwrap();
    family.value(labels).unwrap_or_else(|| panic!("{name} {labels:?} is not in {family:?}"))
}

#[test]
fn prometheus_can_read_it_all() {
    families(&snapshot());
}

#[test]
fn an_agent_that_has_just_begun_tells_zeros_where_lists_are_closed() {
    for (family, metric) in families(&Snapshot::default()).iter().zip(TABLE) {
        let values = metric.labels.iter().map(|label| match label.values {
            Values::Closed(values) => Some(values().len()),
            Values::Open(_) => None,
        });
        match values.collect::<Option<Vec<_>>>() {
            Some(_) if metric.kind == Kind::Histogram => {}
            Some(numbers) => assert_eq!(family.series.len(), numbers.iter().product::<usize>(), "{family:?}"),
            None => assert!(family.series.len() <= 1, "{family:?}"),
        }
    }
}

#[test]
fn values_arrive_under_their_names() {
    let families = families(&snapshot());
    let value = |name: &str, labels: &[(&str, &str)]| value(&families, name, labels);
    assert_eq!(value("everytick_ticks_due_total", &[]), 110.0);
    assert_eq!(value("everytick_ticks_missed_total", &[]), 9.0);
    assert_eq!(value("everytick_ticks_total", &[("outcome", "ring full")]), 113.0);
    assert_eq!(value("everytick_samples_total", &[]), 111.0);
    assert_eq!(value("everytick_samples_lost_total", &[("reason", "window full")]), 114.0);
    let end = |side| value("everytick_stacks_total", &[("side", side), ("end", "no unwind row")]);
    assert_eq!((end("user"), end("kernel")), (115.0, 116.0));
    assert_eq!(value("everytick_frames_total", &[]), 117.0);
    let cache = |what| value("everytick_unwind_cache_tables_total", &[("result", what)]);
    assert_eq!(["taken", "damaged", "unkept"].map(cache), [201.0, 202.0, 203.0]);
    let lost = [("reason", "no space on the disk")];
    assert_eq!(value("everytick_windows_lost_total", &lost), 404.0);
    assert_eq!(value("everytick_window_closed_timestamp_seconds", &[]), 1_700_000_100.5);
    assert_eq!(value("everytick_budget_cpu_ratio", &[]), 0.0025);
    assert_eq!(value("everytick_config_stale", &[]), 1.0);
    assert_eq!(value("everytick_healthy", &[]), 1.0);
    assert_eq!(value("everytick_ready", &[]), 0.0);
}

#[test]
fn each_sink_has_its_own_series() {
    let families = families(&snapshot());
    for (sink, base) in [("parca", 600.0), ("files", 700.0)] {
        let parcels = |result| {
            value(&families, "everytick_parcels_total", &[("sink", sink), ("result", result)])
        };
        let all = ["delivered", "partly", "lost"].map(parcels);
        assert_eq!(all, [base + 2.0, base + 3.0, base + 4.0 + 10.0]);
        let lost = [("sink", sink), ("reason", "refused")];
        assert_eq!(value(&families, "everytick_parcels_lost_total", &lost), base + 4.0);
        let age = value(&families, "everytick_spool_oldest_age_seconds", &[("sink", sink)]);
        assert_eq!(age, base / 1000.0);
    }
}

#[test]
fn the_samplers_own_time_is_a_histogram() {
    let families = families(&snapshot());
    let family = families.iter().find(|f| f.name == "everytick_sampler_tick_seconds").unwrap();
    let bucket = |bound: f64| {
        let is_it = |(name, value): &(String, String)| name == "le" && value.parse() == Ok(bound);
        family.series.iter().find(|series| series.labels.iter().any(is_it)).unwrap().value
    };
    assert_eq!([2.048e-6, 4.096e-6, 16.777216e-3].map(bucket), [0.0, 5.0, 5.0]);
    let part = |suffix: &str| {
        let name = format!("{}{suffix}", family.name);
        family.series.iter().find(|series| series.name == name).unwrap().value
    };
    assert_eq!((part("_count"), part("_sum")), (6.0, 3.0));
    assert_eq!(value(&families, "everytick_sampler_tick_max_seconds", &[]), 2.0);
}

#[test]
fn a_sink_may_have_any_name() {
    let names = ["a\"b", "a\\b", "a\nb", "\\n", "\"} 1\nx{y=\"", "", " ", "é 🦀", "a\rb\0c", "\\"];
    let sinks = names.map(|name| sink(name, 1000)).to_vec();
    let families = families(&Snapshot { sinks, ..snapshot() });
    for name in names {
        assert_eq!(value(&families, "everytick_parcels_pending", &[("sink", name)]), 1001.0);
    }
}

#[test]
fn the_table_follows_its_own_rules() {
    let mut seen = BTreeMap::new();
    for Metric { name, help, labels, .. } in TABLE {
        assert!(seen.insert(name, ()).is_none(), "{name} comes twice");
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.starts_with("everytick_") && name.chars().all(is_allowed), "{name}");
        for unit in ["_ms", "_ns", "_microseconds", "_kib", "_percent", "_megabytes"] {
            assert!(!name.contains(unit), "{name} is in no base unit");
        }
        assert!(help.ends_with('.') && help.len() <= 160, "{name}: {help}");
        for label in *labels {
            assert!(!["le", "quantile", "job", "instance"].contains(&label.name), "{name}");
        }
    }
}
