//! End-to-end tests with real servers: profiles sent to Parca and the OpenTelemetry Collector can
//! be read back by function and by label.
//!
//! The tests run one at a time, because each server and the agent need the machine to themselves.
//!
//! `./dev test --stores` runs these tests. A plain `cargo test` does not, because the first build
//! of the servers takes minutes; see `tests/stores/build.sh`.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "stores/collector.rs"]
mod collector;
mod common;
#[path = "stores/daemonset.rs"]
mod daemonset;
#[path = "stores/node.rs"]
mod node;
#[path = "stores/parca.rs"]
mod parca;
#[path = "stores/sampled.rs"]
mod sampled;
#[path = "stores/servers.rs"]
mod servers;
#[path = "stores/split.rs"]
mod split;
#[path = "../upload/tests/window_builder/mod.rs"]
mod window_builder;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::agent::text;
use common::alone;
use object::{Object, ObjectSymbol};
use profile::pprof::proto as pb;
use servers::Server;
use split::{assert_split, count, split};
use upload::delivery::{Counts, Delivery, DeliveryConfig, NamedSink};
use upload::spool::SpoolConfig;
use upload::{Batch, DebugInfoSource, SinkConfig};
use window_builder::{PERIOD, WindowBuilder, now};

/// Returns the configuration of a sink for a server at `address`.
fn sink(name: &str, address: impl Display, settings: &[(&str, &str)]) -> SinkConfig {
    let url = format!("http://{address}");
    SinkConfig::parse(name, &[&[("url", url.as_str())], settings].concat()).unwrap()
}

/// Starts a delivery to one sink, with its spool in `directory`.
fn start(
    directory: &Path,
    sink: SinkConfig,
    debug_info: Option<Arc<dyn DebugInfoSource>>,
) -> Delivery {
    let config = DeliveryConfig {
        spool: SpoolConfig { directory: directory.to_owned(), ..SpoolConfig::default() },
        sinks: vec![NamedSink { name: "store".into(), settings: sink }],
    };
    Delivery::start(&config, debug_info).unwrap()
}

/// Delivers batches to one sink; returns the final counts.
fn deliver(sink: SinkConfig, batches: impl IntoIterator<Item = Batch>) -> Counts {
    let directory = tempfile::tempdir().unwrap();
    let delivery = start(directory.path(), sink, None);
    for batch in batches {
        delivery.accept(&batch).unwrap();
    }
    delivery.stop(Duration::from_secs(300))
}

/// Asserts that each batch was delivered at the first attempt.
fn assert_delivered(counts: &Counts, batches: u64) {
    let sink = &counts.sinks["store"];
    let ledger = sink.ledger;
    assert_eq!((ledger.delivered, ledger.closed), (batches, batches), "{counts:?}");
    assert_eq!(sink.attempts.delivered, batches, "{counts:?}");
    counts.check().unwrap();
}

/// Returns a window of a node with two processes; the first one has the known split.
fn window(node: &str, start_unix_ns: u64, samples: i64) -> Batch {
    let mut window = WindowBuilder::new(start_unix_ns);
    let shop = [
        ("node", node),
        ("comm", "shop-worker"),
        ("executable", "shop"),
        ("cgroup", "/kubepods/pod1/c1"),
        ("pod_uid", "5f4a1c2e-0000-4000-8000-000000000001"),
        ("container_id", "c1"),
    ];
    for (function, tenths) in [("hot", 6), ("warm", 3), ("cold", 1)] {
        window.call(&shop, function, samples * tenths / 10);
    }
    window.call(&[("node", node), ("comm", "idler")], "wait", 1);
    window.build()
}

#[test]
fn parca_returns_functions_labels_units_and_split() {
    let _alone = alone();
    let server = Server::parca();
    let start = now() - 60_000_000_000;
    let windows = (0..3).map(|n| window("n1", start + n * 10_000_000_000, 100));
    let sink = sink("parca", &server.address, &[]);
    assert_delivered(&deliver(sink, windows), 3);

    let profile = parca::merged(&server, r#"{comm="shop-worker"}"#, 300);
    assert_split(&split(&profile));
    let unit = profile.sample_type[0];
    assert_eq!((text(&profile, unit.r#type), text(&profile, unit.unit)), ("cpu", "nanoseconds"));
    let period = profile.period_type.unwrap();
    assert_eq!(
        (text(&profile, period.r#type), text(&profile, period.unit)),
        ("cpu", "nanoseconds")
    );
    assert_eq!(parca::total(&profile), 300 * PERIOD);

    let expected = [
        ("node", "n1"),
        ("executable", "shop"),
        ("cgroup", "/kubepods/pod1/c1"),
        ("pod_uid", "5f4a1c2e-0000-4000-8000-000000000001"),
        ("container_id", "c1"),
    ];
    let series = parca::series(&server, r#"{comm="shop-worker"}"#, &expected.map(|(name, _)| name));
    assert_eq!(series.len(), 1, "{series:?}");
    let (labels, times) = &series[0];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(*labels, BTreeMap::from(expected));
    let starts = (0..3).map(|n| parca::rfc3339(start / 1_000_000_000 + n * 10));
    assert_eq!(*times, starts.collect::<Vec<_>>(), "each window at its own time");
    assert_eq!(parca::values(&server, "comm"), ["idler", "shop-worker"]);
}

/// Sends three windows to a Collector and checks what it received.
fn check_collector(server: &Server, sink: SinkConfig) {
    let start = now() - 60_000_000_000;
    let windows = (0..3).map(|n| window("n1", start + n * 10_000_000_000, 100));
    assert_delivered(&deliver(sink, windows), 3);

    let received = collector::received(server, 303);
    let shop: Vec<_> =
        received.iter().filter(|sample| sample.attributes["service.name"] == "shop").collect();
    let total: i64 = shop.iter().map(|sample| sample.value).sum();
    assert_eq!(total, 300);
    let mut shares = BTreeMap::new();
    let mut times = BTreeSet::new();
    for sample in &shop {
        count(&mut shares, sample.stack.iter().map(String::as_str), sample.value, total);
        times.insert(sample.time_unix_ns);
        assert_eq!(sample.stack[1..], ["main"]);
        assert_eq!(sample.sample_type, ("samples".into(), "count".into()));
        assert_eq!(sample.period_type, ("cpu".into(), "nanoseconds".into()));
        assert_eq!((sample.period, sample.duration_ns), (PERIOD, 10_000_000_000));
        for (key, value) in [
            ("host.name", "n1"),
            ("k8s.node.name", "n1"),
            ("k8s.pod.uid", "5f4a1c2e-0000-4000-8000-000000000001"),
            ("container.id", "c1"),
            ("process.executable.name", "shop"),
            ("process.title", "shop-worker"),
            ("process.linux.cgroup", "/kubepods/pod1/c1"),
        ] {
            assert_eq!(sample.attributes.get(key).map(String::as_str), Some(value), "{sample:?}");
        }
    }
    assert_split(&shares);
    let expected = (0..3).map(|n| (start + n * 10_000_000_000) as i64).collect();
    assert_eq!(times, expected, "each window at its own time");
}

#[test]
fn the_collector_receives_profiles_over_grpc() {
    let _alone = alone();
    let (server, _) = Server::collector();
    check_collector(&server, sink("otlp", &server.address, &[("protocol", "grpc")]));
}

#[test]
fn the_collector_receives_profiles_over_http() {
    let _alone = alone();
    let (server, http) = Server::collector();
    check_collector(&server, sink("otlp", http, &[("protocol", "http")]));
}

#[test]
fn one_parca_accepts_batches_of_a_thousand_agents() {
    let _alone = alone();
    let server = Server::parca();
    let start = now() - 60_000_000_000;
    let names: Vec<String> = (0..1_000).map(|n| format!("node-{n:04}")).collect();
    // Windows of different agents start at different times.
    let windows = (0..).zip(&names).map(|(n, node)| busy_window(node, start + n * 10_000_000));
    let sink = sink("parca", &server.address, &[]);
    assert_delivered(&deliver(sink, windows), 1_000);

    let found: BTreeSet<String> = parca::values(&server, "node").into_iter().collect();
    assert_eq!(found, names.into_iter().collect());
    let profile = parca::merged(&server, r#"{executable="app-07"}"#, 10_000);
    assert_eq!(parca::total(&profile), 10_000 * PERIOD);
    assert_split(&split(&profile));
    let profile = parca::merged(&server, r#"{node="node-0500"}"#, 200);
    assert_eq!(parca::total(&profile), 200 * PERIOD, "the samples of one agent");
}

/// Returns a window of a node with twenty processes, each with the known split.
fn busy_window(node: &str, start_unix_ns: u64) -> Batch {
    let mut window = WindowBuilder::new(start_unix_ns);
    for process in 0..20 {
        let executable = format!("app-{process:02}");
        let labels = [("node", node), ("comm", "worker"), ("executable", executable.as_str())];
        for (function, count) in [("hot", 6), ("warm", 3), ("cold", 1)] {
            window.call(&labels, function, count);
        }
    }
    window.build()
}

#[test]
fn parca_symbolizes_with_uploaded_debug_info() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let program = compile("split", directory.path());
    let bytes = std::fs::read(&program).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let build_id = hex(file.build_id().unwrap().unwrap());
    // Two bytes into each function: a possible frame address that differs from the symbol address.
    let address =
        |name: &str| file.symbols().find(|symbol| symbol.name() == Ok(name)).unwrap().address() + 2;

    let mut window = WindowBuilder::new(now() - 60_000_000_000);
    let labels = [("node", "n1"), ("comm", "split")];
    let path = program.to_str().unwrap();
    let main = window.address(path, &build_id, address("main"));
    for (function, count) in [("hot", 60), ("warm", 30), ("cold", 10)] {
        let frame = window.address(path, &build_id, address(function));
        window.sample(&labels, &[frame, main], count);
    }
    let server = Server::parca();
    let sink = sink("parca", &server.address, &[("symbolize", "server")]);
    let source = Arc::new(SingleFile { build_id, path: program });
    let spool = tempfile::tempdir().unwrap();
    let delivery = start(spool.path(), sink, Some(source));
    delivery.accept(&window.build()).unwrap();

    let has_names = |profile: &pb::Profile| !profile.function.is_empty();
    let profile = parca::merged_when(&server, r#"{comm="split"}"#, has_names);
    assert_eq!(parca::total(&profile), 100 * PERIOD);
    assert_split(&split(&profile));
    assert_delivered(&delivery.stop(Duration::ZERO), 1);
    let callers: BTreeSet<String> =
        profile.function.iter().map(|f| text(&profile, f.name).into()).collect();
    assert!(callers.contains("main"), "{callers:?}");
}

/// Serves the debug info of a single executable.
struct SingleFile {
    build_id: String,
    path: PathBuf,
}

impl DebugInfoSource for SingleFile {
    fn open(&self, build_id: &str) -> Option<File> {
        (build_id == self.build_id).then(|| File::open(&self.path).ok()).flatten()
    }
}

/// Compiles a program of `tests/stores`; `split` has the known functions.
fn compile(name: &str, directory: &Path) -> PathBuf {
    let out = directory.join(name);
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores").join(format!("{name}.c"));
    let mut command = std::process::Command::new("gcc");
    command.args(["-O1", "-g", "-fno-inline", "-Wl,--build-id"]).arg("-o").arg(&out).arg(source);
    assert!(command.status().unwrap().success());
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
