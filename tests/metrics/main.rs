//! What a running agent reports: metrics as Prometheus reads them, their documentation, and the
//! alerts on them.
#![allow(clippy::unwrap_used)]

mod alerts;
mod document;
mod parser;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everytick::budget::{Cause, CpuByCause, Lowered};
use everytick::debuginfod::DownloadCounts;
use everytick::host::LimitationReason;
use everytick::kernel::abi::Counters;
use everytick::limits::TimeShare;
use everytick::log::LogCounts;
use everytick::metrics::server::{HttpCounts, Server, ServerConfig};
use everytick::metrics::{
    BudgetState, HealthState, LabelValues, LedgerTotals, Metric, MetricKind, OwnUsage, PATHS,
    ProcessUsage, ReloadCounts, SeriesCounts, Snapshot, TABLE, WindowCounts, page, render,
};
use everytick::session::{SamplerTime, SessionCounts};
use everytick::symbolization::NameCounts;
use everytick::tables::{CacheCounts, TableCounts};
use parser::{Family, parse};
use profile::{CaptureLedger, Cpu, CpuTicks, Loss, NotSampled, StackEnd, TickOutcome};
use upload::Failure;
use upload::delivery::{self, Attempts, DebugInfoCounts, Ledger, SinkCounts};
use zerocopy::FromZeros;

const SECOND: u64 = 1_000_000_000;

/// Returns a snapshot in which every value is different, so that swapped values are found.
fn snapshot() -> Snapshot {
    let mut cpu = CpuByCause::default();
    cpu[Cause::Tables] = Duration::from_secs(2);
    Snapshot {
        started_unix_ns: 1_700_000_000 * SECOND,
        health: HealthState {
            window: Duration::from_secs(10),
            since_sampling: Some(Duration::from_secs(100)),
            since_window: Some(Duration::from_secs(3)),
            ..HealthState::default()
        },
        totals: totals(),
        session: session(),
        symbols: NameCounts {
            symbolized: 301,
            unsymbolized: std::array::from_fn(|index| 302 + index as u64),
            cut: 331,
            without_debug_info: 332,
        },
        downloads: DownloadCounts {
            outcomes: std::array::from_fn(|index| 341 + index as u64),
            bytes: 361,
            pending: 362,
        },
        windows: WindowCounts {
            closed: 401,
            accepted: 402,
            empty: 403,
            lost: BTreeMap::from([("publisher died", 404)]),
            last_unix_ns: 1_700_000_100 * SECOND + SECOND / 2,
            accepted_unix_ns: 1_700_000_090 * SECOND,
        },
        series: SeriesCounts {
            last: 501,
            of_hour: 504,
            merged: [502, 505],
            merged_samples: [503, 506],
        },
        delivery: delivery(&["files", "parca"]),
        own: own(),
        budget: BudgetState {
            frequency: 4,
            full_frequency: 19,
            lowered: Some(Lowered::Cpu { cause: Cause::Stacks, percent: 1.5 }),
            cpu,
            cpu_percent: 0.25,
            cpu_percent_max: 1.0,
            memory: 901,
            memory_max: 902,
        },
        reloads: ReloadCounts {
            applied: 951,
            rejected: 952,
            has_failed: true,
            read_unix_ns: 5 * SECOND,
        },
        http: HttpCounts {
            answered: 961,
            refused: std::array::from_fn(|index| 962 + index as u64),
            paused: Duration::from_secs(970),
        },
        log: LogCounts { written: 971, dropped: 972, suppressed: 973 },
        host_limitations: vec![LimitationReason::CapSysPtrace],
    }
}

fn totals() -> LedgerTotals {
    let mut cpu = CpuTicks::at_full_rate(Cpu(0), 110, 101);
    cpu.add_not_sampled(NotSampled::Budget, 118);
    let mut ledger = CaptureLedger {
        cpus: vec![cpu],
        aggregated: 111,
        guessed: 112,
        ..CaptureLedger::default()
    };
    ledger.outcomes[TickOutcome::LostRingFull as usize] = 113;
    ledger.lost[Loss::WindowFull as usize] = 114;
    ledger.user_ends[StackEnd::NoRow as usize] = 115;
    ledger.kernel_ends[StackEnd::NoRow as usize] = 116;
    let mut totals = LedgerTotals::default();
    totals.add(&ledger, 117);
    totals
}

fn session() -> SessionCounts {
    let cache =
        CacheCounts { loaded: 201, damaged: 202, mismatched: 203, store_failed: 204, errno: 5 };
    let tables = TableCounts {
        tables: 205,
        rows: 206,
        slab_bytes: 207,
        left_out: 208,
        evicted: 209,
        refused: 210,
        in_backoff: 217,
        unreadable: 211,
        cache,
    };
    SessionCounts {
        sampler: sampler(),
        map_bytes: 212,
        side_band_lost: 213,
        tables,
        finished: 214,
        processes: 215,
        executables: 216,
        ..SessionCounts::default()
    }
}

fn sampler() -> SamplerTime {
    let mut counters = Counters::new_zeroed();
    counters.time_classes[40] = 5; // 2,048 to 2,560 ns
    counters.time_classes[127] = 1;
    (counters.ticks, counters.time_total, counters.time_max) = (6, 3 * SECOND, 2 * SECOND);
    SamplerTime::of(&[counters])
}

fn delivery(sinks: &[&str]) -> delivery::Counts {
    let named = sinks.iter().zip(1..).map(|(name, at)| ((*name).to_owned(), sink(at * 1000)));
    delivery::Counts {
        refused: [(Failure::DiskFull, 801)].into_iter().collect(),
        spool_bytes: 802,
        spool_bytes_max: 803,
        sinks: named.collect(),
        ..delivery::Counts::default()
    }
}

fn sink(base: u64) -> SinkCounts {
    let lost = [(Failure::Rejected, base + 5), (Failure::SpoolFull, 10)].into_iter().collect();
    let later = [(Failure::Unreachable, base + 6)].into_iter().collect();
    SinkCounts {
        ledger: Ledger {
            found: base,
            closed: base + 1,
            delivered: base + 2,
            partly: base + 3,
            pending: base + 4,
            lost,
        },
        attempts: Attempts { later, ..Attempts::default() },
        responses: [("503", base + 14)].into_iter().collect(),
        rejected: base + 7,
        bytes_sent: base + 8,
        debug_info: DebugInfoCounts {
            stored: base + 11,
            no_debug_info: base + 12,
            postponed: base + 13,
        },
        cpu_wait: Duration::from_secs(base + 15),
        spool_bytes: base + 9,
        oldest_age: Some(Duration::from_millis(base)),
        quarantined: base + 10,
        last_error: None,
    }
}

fn own() -> OwnUsage {
    let usage = |seconds, resident| ProcessUsage {
        cpu: Duration::from_secs(seconds),
        resident,
        peak: resident + 1,
    };
    OwnUsage { agent: usage(21, 22), symbolizer: usage(23, 24), file_helper: usage(25, 26) }
}

/// Parses the rendered page, and checks that it has every metric in the order and form of the
/// table.
fn families(snapshot: &Snapshot) -> Vec<Family> {
    let families = parse(&render(snapshot)).unwrap();
    assert_eq!(families.len(), TABLE.len());
    for (family, metric) in families.iter().zip(TABLE) {
        let rendered = (family.name.as_str(), family.kind.as_str(), family.help.as_str());
        assert_eq!(rendered, (metric.name, metric.kind.text(), metric.help));
        check_labels(family, metric);
    }
    families
}

fn check_labels(family: &Family, metric: &Metric) {
    let names: Vec<&str> = metric.labels.iter().map(|label| label.name).collect();
    for series in &family.series {
        let own =
            |label: &&(String, String)| metric.kind != MetricKind::Histogram || label.0 != "le";
        let labels: Vec<_> = series.labels.iter().filter(own).collect();
        assert_eq!(labels.iter().map(|label| &label.0).collect::<Vec<_>>(), names, "{series:?}");
        for ((_, value), label) in labels.iter().zip(metric.labels) {
            let LabelValues::Closed(values) = label.values else { continue };
            assert!(
                values().contains(&value.as_str()),
                "{value} is not a value of {}: {series:?}",
                label.name
            );
        }
    }
}

/// Returns the value of the series with these labels.
fn value(families: &[Family], name: &str, labels: &[(&str, &str)]) -> f64 {
    let family = families.iter().find(|family| family.name == name).unwrap();
    family.value(labels).unwrap_or_else(|| panic!("{name} {labels:?} is not in {family:?}"))
}

#[test]
fn page_parses_as_prometheus_text() {
    families(&snapshot());
}

#[test]
fn metrics_are_served_over_http() {
    let config = ServerConfig {
        paths: &PATHS,
        handler: Arc::new(|path: &str| page(path, snapshot, HealthState::default)),
        host_names: Vec::new(),
        counters: Arc::default(),
        cpu: Arc::new(Mutex::new(TimeShare::unlimited())),
    };
    let server = Server::start((Ipv4Addr::LOCALHOST, 0).into(), config).unwrap();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert_eq!(parse(body).unwrap().len(), TABLE.len());
}

#[test]
fn closed_labels_start_with_zeros() {
    for (family, metric) in families(&Snapshot::default()).iter().zip(TABLE) {
        let values = metric.labels.iter().map(|label| match label.values {
            LabelValues::Closed(values) => Some(values().len()),
            LabelValues::Open(_) => None,
        });
        let has_sink = metric.labels.iter().any(|label| label.name == "sink");
        match values.collect::<Option<Vec<_>>>() {
            None if has_sink => assert!(family.series.is_empty(), "{family:?}"),
            Some(numbers) if metric.kind != MetricKind::Histogram => {
                assert_eq!(family.series.len(), numbers.iter().product::<usize>(), "{family:?}");
            }
            _ => assert!(!family.series.is_empty(), "{family:?}"),
        }
    }
}

#[test]
fn values_have_their_names_and_labels() {
    let families = families(&snapshot());
    let value = |name: &str, labels: &[(&str, &str)]| value(&families, name, labels);
    assert_eq!(value("everytick_ticks_due_total", &[]), 228.0);
    assert_eq!(value("everytick_ticks_missed_total", &[]), 9.0);
    assert_eq!(value("everytick_ticks_not_sampled_total", &[("reason", "budget")]), 118.0);
    assert_eq!(value("everytick_ticks_total", &[("outcome", "ring full")]), 113.0);
    assert_eq!(value("everytick_samples_total", &[]), 111.0);
    assert_eq!(value("everytick_samples_lost_total", &[("reason", "window full")]), 114.0);
    let end = |side| value("everytick_stacks_total", &[("side", side), ("end", "no unwind row")]);
    assert_eq!((end("user"), end("kernel")), (115.0, 116.0));
    assert_eq!(value("everytick_frames_total", &[]), 117.0);
    let cache = |result| value("everytick_unwind_cache_tables_total", &[("result", result)]);
    assert_eq!(
        ["loaded", "damaged", "mismatched", "not_stored"].map(cache),
        [201.0, 202.0, 203.0, 204.0]
    );
    let refused = |reason| value("everytick_http_refused_total", &[("reason", reason)]);
    assert_eq!((refused("client rate"), refused("timeout")), (962.0, 969.0));
    assert_eq!(value("everytick_http_paused_seconds_total", &[]), 970.0);
    let lacks = |reason| value("everytick_host_limitation", &[("reason", reason)]);
    assert_eq!((lacks("CAP_SYS_PTRACE"), lacks("BTF")), (1.0, 0.0));
    let lines = |result| value("everytick_log_lines_total", &[("result", result)]);
    assert_eq!(["written", "dropped", "suppressed"].map(lines), [971.0, 972.0, 973.0]);
    let cpu = |part| value("everytick_cpu_seconds_total", &[("part", part)]);
    assert_eq!(["agent", "symbolizer", "file_helper", "sampler"].map(cpu), [21.0, 23.0, 25.0, 3.0]);
    assert_eq!(value("everytick_window_closed_timestamp_seconds", &[]), 1_700_000_100.5);
    assert_eq!(value("everytick_budget_cpu_ratio", &[]), 0.0025);
    assert_eq!(value("everytick_sampling_frequency_configured_hertz", &[]), 19.0);
    assert_eq!(value("everytick_sampling_lowered", &[("cause", "stacks")]), 1.0);
    assert_eq!(value("everytick_sampling_lowered", &[("cause", "memory")]), 0.0);
    assert_eq!(value("everytick_cause_cpu_seconds_total", &[("cause", "tables")]), 2.0);
    assert_eq!(value("everytick_config_reload_failed", &[]), 1.0);
    assert_eq!(value("everytick_healthy", &[]), 1.0);
    assert_eq!(value("everytick_ready", &[]), 0.0);
}

#[test]
fn lost_windows_include_those_that_delivery_rejects() {
    let families = families(&snapshot());
    let lost = |reason| value(&families, "everytick_windows_lost_total", &[("reason", reason)]);
    assert_eq!(["publisher died", "disk_full", "timeout"].map(lost), [404.0, 801.0, 0.0]);
}

#[test]
fn each_sink_has_its_own_series() {
    let families = families(&snapshot());
    for (sink, base) in [("files", 1000.0), ("parca", 2000.0)] {
        let value = |name: &str| value(&families, name, &[("sink", sink)]);
        assert_eq!(value("everytick_batches_found_total"), base);
        assert_eq!(value("everytick_batches_pending"), base + 4.0);
        assert_eq!(value("everytick_sent_bytes_total"), base + 8.0);
        assert_eq!(value("everytick_spool_oldest_age_seconds"), base / 1000.0);
        let files = |result| {
            let labels = [("sink", sink), ("result", result)];
            crate::value(&families, "everytick_debuginfo_files_total", &labels)
        };
        assert_eq!(
            ["stored", "no_debug_info", "postponed"].map(files),
            [11.0, 12.0, 13.0].map(|n| base + n)
        );
    }
}

#[test]
fn lost_batches_are_counted_by_reason_and_in_total() {
    let families = families(&snapshot());
    let batches = |name, label| value(&families, name, &[("sink", "files"), label]);
    let lost = |reason| batches("everytick_batches_lost_total", ("reason", reason));
    assert_eq!(["rejected", "spool_full", "timeout"].map(lost), [1005.0, 10.0, 0.0]);
    let retried = |reason| batches("everytick_batches_retried_total", ("reason", reason));
    assert_eq!(["unreachable", "timeout"].map(retried), [1006.0, 0.0]);
    let all = |result| batches("everytick_batches_total", ("result", result));
    assert_eq!(["delivered", "partly", "lost"].map(all), [1002.0, 1003.0, 1015.0]);
}

#[test]
fn sampler_time_is_a_histogram() {
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
fn sink_names_are_escaped() {
    let names = ["a\"b", "a\\b", "a\nb", "\\n", "\"} 1\nx{y=\"", "", " ", "é 🦀", "a\rb\0c", "\\"];
    let families = families(&Snapshot { delivery: delivery(&names), ..snapshot() });
    for (name, at) in names.iter().zip(1u32..) {
        let pending = value(&families, "everytick_batches_pending", &[("sink", name)]);
        assert_eq!(pending, f64::from(at) * 1000.0 + 4.0);
    }
}

#[test]
fn table_follows_prometheus_conventions() {
    let mut seen = BTreeMap::new();
    for Metric { name, help, labels, .. } in TABLE {
        assert!(seen.insert(name, ()).is_none(), "{name} is listed twice");
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.starts_with("everytick_") && name.chars().all(is_allowed), "{name}");
        for unit in ["_ms", "_ns", "_microseconds", "_kib", "_percent", "_megabytes"] {
            assert!(!name.contains(unit), "{name} is not in a base unit");
        }
        assert!(help.ends_with('.') && help.len() <= 160, "{name}: {help}");
        for label in *labels {
            assert!(!["le", "quantile", "job", "instance"].contains(&label.name), "{name}");
        }
    }
}
