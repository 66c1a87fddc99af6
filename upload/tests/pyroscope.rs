//! The Pyroscope sink against a strict fake: content of requests, and handling of failures.
#![allow(clippy::unwrap_used)]

mod pyroscope_server;
mod window_builder;

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use pyroscope_server::{Fault, Limits, Server};
use upload::sinks::pyroscope::{Config, Sink};
use upload::{Answer, Batch, DebugInfoSource, Failure, SinkConfig, Symbolize};
use window_builder::{PERIOD, WindowBuilder, now};

/// Returns the settings of a sink for a server, with a timeout of 2 s.
fn settings(server: &Server) -> Config {
    let mut settings = Config::default();
    settings.connection.url = server.url();
    settings.connection.timeout_seconds = 2.0;
    settings
}

fn sink(server: &Server) -> Sink {
    Sink::new(&settings(server), None).unwrap()
}

/// Returns a window with 60, 30 and 10 samples in three functions of each process.
fn window(processes: usize) -> Batch {
    let mut window = WindowBuilder::new(now());
    for process in 0..processes {
        let executable = format!("app-{process:03}");
        let labels = [("node", "n1"), ("comm", "worker"), ("executable", executable.as_str())];
        for (function, count) in [("hot", 60), ("warm", 30), ("cold", 10)] {
            window.call(&labels, function, count);
        }
    }
    window.build()
}

/// Asserts that every profile was stored exactly once.
fn assert_whole(server: &Server, processes: usize) {
    let stored = server.stored();
    let ids: BTreeSet<&str> = stored.iter().map(|profile| profile.id.as_str()).collect();
    assert_eq!((stored.len(), ids.len()), (processes, processes), "duplicate or missing profiles");
    let cpu = server.cpu_by_function();
    assert_eq!(cpu.len(), 3 * processes);
    for ((service, function), nanoseconds) in cpu {
        let count = match function.as_str() {
            "hot" => 60,
            "warm" => 30,
            _ => 10,
        };
        assert_eq!(nanoseconds, count * PERIOD, "{service} {function}");
    }
}

fn assert_delivered(answer: &Answer) {
    assert!(matches!(answer, Answer::Delivered { bytes } if *bytes > 0), "{answer:?}");
}

fn reason(answer: &Answer) -> Option<Failure> {
    match answer {
        Answer::Later { reason, .. } | Answer::Rejected { reason, .. } => Some(*reason),
        _ => None,
    }
}

#[tokio::test]
async fn profiles_arrive_by_function_and_label() {
    let server = Server::start();
    let batch = window(5);
    assert_delivered(&sink(&server).send(&batch).await);
    assert_whole(&server, 5);
    let stored = &server.stored()[0];
    assert_eq!(stored.labels["__name__"], "process_cpu");
    assert_eq!(stored.labels["service_name"], "app-000");
    assert_eq!((&*stored.labels["node"], &*stored.labels["comm"]), ("n1", "worker"));
    let profile = &stored.profile;
    let text = |index: i64| profile.string_table[index as usize].as_str();
    let types: Vec<_> =
        profile.sample_type.iter().map(|t| (text(t.r#type), text(t.unit))).collect();
    assert_eq!(types, [("cpu", "nanoseconds")]);
    let period = profile.period_type.unwrap();
    assert_eq!((text(period.r#type), text(period.unit)), ("cpu", "nanoseconds"));
    assert_eq!(profile.period, PERIOD);
    assert_eq!(profile.time_nanos, batch.profile.time_nanos);
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "five series fit into one request");
    assert_eq!(requests[0].headers["content-type"], "application/proto");
    assert_eq!(requests[0].headers["content-encoding"], "gzip");
}

#[tokio::test]
async fn a_request_has_at_most_64_profiles() {
    let server = Server::start();
    assert_delivered(&sink(&server).send(&window(1_001)).await);
    assert_whole(&server, 1_001);
    assert!(server.requests().iter().all(|request| request.profiles <= 64));
}

#[tokio::test]
async fn a_series_above_16000_samples_is_split() {
    let server = Server::start();
    let mut window = WindowBuilder::new(now());
    let main = window.function("main");
    for n in 0..16_001 {
        let address = window.address("/usr/lib/libjit.so", "beef", 0x1000 + n);
        window.sample(&[("comm", "jit")], &[address, main], 1);
    }
    assert_delivered(&sink(&server).send(&window.build()).await);
    let stored = server.stored();
    assert_eq!(stored.len(), 2);
    let samples: usize = stored.iter().map(|profile| profile.profile.sample.len()).sum();
    assert_eq!(samples, 16_001);
    assert_eq!(server.cpu_by_function().len(), 16_001);
    assert!(server.requests().iter().all(|request| request.status == 200));
}

#[tokio::test]
async fn a_large_series_is_split_below_the_burst() {
    let server = Server::start();
    let mut window = WindowBuilder::new(now());
    let long = "n".repeat(1_000);
    for n in 0..5_000 {
        window.call(&[("comm", "big")], &format!("{long}{n}"), 1);
    }
    assert_delivered(&sink(&server).send(&window.build()).await);
    assert!(server.stored().len() > 2, "5 MB exceed two bursts");
    assert_eq!(server.cpu_by_function().len(), 5_000);
    assert!(
        server.requests().iter().all(|request| request.status == 200),
        "a request exceeded the rate limit"
    );
}

#[tokio::test]
async fn the_rate_limit_is_observed() {
    let limits = Limits { bytes_per_second: 100_000.0, burst_bytes: 50_000.0, ..Limits::default() };
    let server = Server::with_limits(limits);
    let mut settings = settings(&server);
    settings.limits.bytes_per_second = 100_000;
    settings.limits.burst_bytes = 50_000;
    let mut sink = Sink::new(&settings, None).unwrap();
    for _ in 0..4 {
        assert_delivered(&sink.send(&window(64)).await);
    }
    let rejected = server.requests().iter().filter(|request| request.status == 429).count();
    assert_eq!(rejected, 0);
    assert_eq!(server.stored().len(), 4 * 64);
}

#[tokio::test]
async fn surplus_labels_are_dropped_and_reported() {
    let server = Server::start();
    let mut window = WindowBuilder::new(now());
    let names: Vec<String> = (0..30).map(|n| format!("user_{n:02}")).collect();
    let mut labels = vec![("comm", "app"), ("cut", "user: no rows"), ("guessed", "fp")];
    labels.extend(names.iter().map(|name| (name.as_str(), "v")));
    window.call(&labels, "hot", 1);
    let answer = sink(&server).send(&window.build()).await;
    let Answer::Partly { rejected: 0, text, .. } = &answer else { panic!("{answer:?}") };
    assert!(text.contains("5 labels"), "{text}");
    let stored = server.stored();
    assert_eq!(stored[0].labels.len(), 30, "including two labels of the sample");
    assert!(stored[0].labels.contains_key("comm") && !stored[0].labels.contains_key("user_29"));
}

#[tokio::test]
async fn a_deep_stack_is_cut_at_the_root() {
    let server = Server::start();
    let mut window = WindowBuilder::new(now());
    let stack: Vec<u64> = (0..1_200).map(|n| window.function(&format!("f{n}"))).collect();
    window.sample(&[("comm", "deep")], &stack, 7);
    let answer = sink(&server).send(&window.build()).await;
    let Answer::Partly { rejected: 0, text, .. } = &answer else { panic!("{answer:?}") };
    assert!(text.contains("1 stacks were cut"), "{text}");
    let stored = &server.stored()[0];
    assert_eq!(stored.profile.sample[0].location_id.len(), 1_000);
    assert_eq!(stored.labels["cut"], "user: deeper than 1000 frames");
    let leaf = ("deep".to_owned(), "f0".to_owned());
    assert_eq!(server.cpu_by_function()[&leaf], 7 * PERIOD, "the innermost frame is sent");
}

#[tokio::test]
async fn sample_labels_are_sent_if_configured() {
    let server = Server::start();
    let batch = {
        let mut window = WindowBuilder::new(now());
        window.call(&[("comm", "app"), ("thread", "t1"), ("guessed", "frame pointers")], "hot", 1);
        window.call(&[("comm", "app"), ("thread", "t2")], "hot", 2);
        window.build()
    };
    assert_delivered(&sink(&server).send(&batch).await);
    let guessed: Vec<_> =
        server.stored().iter().map(|profile| profile.labels.get("guessed").cloned()).collect();
    assert_eq!(guessed, [None, Some("frame pointers".to_owned())]);
    assert!(server.stored().iter().all(|profile| !profile.labels.contains_key("thread")));

    let server = Server::start();
    let settings = Config { sample_labels: false, ..settings(&server) };
    assert_delivered(&Sink::new(&settings, None).unwrap().send(&batch).await);
    let stored = server.stored();
    assert_eq!((stored.len(), stored[0].labels.contains_key("guessed")), (1, false));
}

#[tokio::test]
async fn retry_after_sets_the_delay() {
    let server = Server::start();
    let after = |value: &str| vec![("retry-after", value.to_owned())];
    server.inject_faults([
        Fault::Answer(429, after("7"), "slow down"),
        Fault::Answer(429, Vec::new(), r#"{"code":"resource_exhausted","message":"rate limit"}"#),
        Fault::Answer(503, Vec::new(), "<html>no backend</html>"),
    ]);
    let (mut sink, batch) = (sink(&server), window(3));
    let mut answers = Vec::new();
    for _ in 0..3 {
        match sink.send(&batch).await {
            Answer::Later { reason, after, .. } => answers.push((reason, after)),
            other => panic!("{other:?}"),
        }
    }
    let expected = [
        (Failure::Throttled, Some(Duration::from_secs(7))),
        (Failure::Throttled, None),
        (Failure::Unavailable, None),
    ];
    assert_eq!(answers, expected);
    assert_delivered(&sink.send(&batch).await);
    assert_whole(&server, 3);
}

#[tokio::test]
async fn only_failed_profiles_are_resent() {
    let server = Server::start();
    server.inject_faults([Fault::Profile(2, "internal", "try again")]);
    assert_delivered(&sink(&server).send(&window(5)).await);
    assert_whole(&server, 5);
    let profiles: Vec<usize> = server.requests().iter().map(|request| request.profiles).collect();
    assert_eq!(profiles, [5, 1]);
}

#[tokio::test]
async fn a_rejected_series_does_not_affect_others() {
    let server = Server::start();
    let reject = |index| Fault::Profile(index, "invalid_argument", "malformed");
    server.inject_faults([reject(2), reject(0)]);
    let answer = sink(&server).send(&window(5)).await;
    let Answer::Partly { rejected, text, .. } = &answer else { panic!("{answer:?}") };
    assert_eq!(*rejected, 100);
    assert!(text.contains("malformed"), "{text}");
    assert_eq!(server.stored().len(), 4);
}

#[tokio::test]
async fn gives_up_a_failing_series_after_the_others() {
    let server = Server::start();
    server.fail_service("app-002");
    let (mut sink, batch) = (sink(&server), window(100));
    for _ in 0..9 {
        assert_eq!(reason(&sink.send(&batch).await), Some(Failure::Unavailable));
    }
    assert_eq!(server.stored().len(), 99, "the other series are delivered at once");
    let answer = sink.send(&batch).await;
    assert!(matches!(answer, Answer::Partly { rejected: 100, .. }), "{answer:?}");
    assert_eq!(server.stored().len(), 99);
}

#[tokio::test]
async fn a_retry_resends_only_what_is_missing() {
    let server = Server::start();
    let throttle = |index| Fault::Profile(index, "resource_exhausted", "push rate limit");
    server.inject_faults([throttle(1), throttle(0)]);
    let (mut sink, batch) = (sink(&server), window(5));
    assert_eq!(reason(&sink.send(&batch).await), Some(Failure::Throttled));
    assert_eq!(server.stored().len(), 4);
    assert_delivered(&sink.send(&batch).await);
    assert_whole(&server, 5);
    let profiles: Vec<usize> = server.requests().iter().map(|request| request.profiles).collect();
    assert_eq!(profiles, [5, 1, 1]);
}

#[tokio::test]
async fn ids_survive_a_lost_response() {
    let server = Server::start();
    server.inject_faults([Fault::DisconnectAfter]);
    let (mut sink, batch) = (sink(&server), window(3));
    assert!(matches!(sink.send(&batch).await, Answer::Later { .. }));
    let first: BTreeSet<String> = server.stored().into_iter().map(|profile| profile.id).collect();
    assert_delivered(&sink.send(&batch).await);
    let all: BTreeSet<String> = server.stored().into_iter().map(|profile| profile.id).collect();
    assert_eq!((first.len(), &first), (3, &all), "the server can detect the duplicates");
}

#[tokio::test]
async fn windows_of_two_machines_are_both_sent() {
    let (server, start) = (Server::start(), now());
    let mut sink = sink(&server);
    for node in ["n1", "n2"] {
        let mut window = WindowBuilder::new(start);
        window.call(&[("node", node), ("comm", "app")], "hot", 1);
        assert_delivered(&sink.send(&window.build()).await);
    }
    assert_eq!(server.stored().len(), 2);
}

#[tokio::test]
async fn ids_survive_a_restart() {
    let (server, batch) = (Server::start(), window(3));
    let ids = |server: &Server| -> BTreeSet<String> {
        server.stored().into_iter().map(|profile| profile.id).collect()
    };
    assert_delivered(&sink(&server).send(&batch).await);
    let first = ids(&server);
    assert_delivered(&sink(&server).send(&batch).await);
    assert_eq!(ids(&server), first);
    assert_delivered(&sink(&server).send(&window(3)).await);
    assert_eq!(ids(&server).len(), 6);
}

#[tokio::test]
async fn a_broken_connection_is_retried() {
    let server = Server::start();
    server.inject_faults([Fault::DisconnectBefore, Fault::Hang]);
    let (mut sink, batch) = (sink(&server), window(2));
    assert!(matches!(sink.send(&batch).await, Answer::Later { .. }));
    assert_eq!(reason(&sink.send(&batch).await), Some(Failure::Timeout));
    assert_delivered(&sink.send(&batch).await);
    assert_whole(&server, 2);
}

fn too_large() -> Fault {
    Fault::Answer(413, Vec::new(), "<html>too large</html>")
}

#[tokio::test]
async fn a_profile_too_large_is_split() {
    let server = Server::start();
    server.inject_faults([too_large()]);
    let mut window = WindowBuilder::new(now());
    for function in 0..10 {
        let name = format!("{function}{}", "x".repeat(10_000));
        window.call(&[("executable", "app")], &name, 10);
    }
    assert_delivered(&sink(&server).send(&window.build()).await);
    assert_eq!(server.stored().len(), 2, "one series in two halves");
    let total: i64 = server.cpu_by_function().values().sum();
    assert_eq!(total, 100 * PERIOD);
}

#[tokio::test]
async fn gives_up_after_ten_413_responses() {
    let server = Server::start();
    // Each attempt sends all series, then the first one alone.
    server.inject_faults((0..18).map(|_| too_large()));
    let (mut sink, batch) = (sink(&server), window(20));
    for _ in 0..9 {
        let answer = sink.send(&batch).await;
        assert!(matches!(answer, Answer::Later { reason: Failure::TooLarge, .. }), "{answer:?}");
    }
    assert_eq!(server.requests().len(), 18);
    assert_delivered(&sink.send(&batch).await);
    assert_whole(&server, 20);

    let server = Server::start();
    server.inject_faults((0..100).map(|_| too_large()));
    let mut sink = Sink::new(&settings(&server), None).unwrap();
    for _ in 0..9 {
        assert!(matches!(sink.send(&batch).await, Answer::Later { .. }));
    }
    assert_eq!(reason(&sink.send(&batch).await), Some(Failure::Rejected));
    assert_eq!(server.requests().len(), 20);
}

#[tokio::test]
async fn a_window_too_old_is_rejected_at_once() {
    let server = Server::start();
    server.set_clock(2 * 3_600_000_000_000);
    let answer = sink(&server).send(&window(40)).await;
    let Answer::Rejected { reason: Failure::Rejected, text } = &answer else {
        panic!("{answer:?}")
    };
    assert!(text.contains("outside of ingestion window"), "{text}");
    assert_eq!(server.requests().len(), 2, "all series, then one alone to confirm");
    assert!(server.stored().is_empty());
}

#[tokio::test]
async fn a_wrong_tenant_or_path_is_retried() {
    let server = Server::start();
    server.require_tenant();
    let batch = window(1);
    assert_eq!(reason(&sink(&server).send(&batch).await), Some(Failure::Unauthenticated));
    let mut with_tenant = settings(&server);
    with_tenant.connection.tenant = Some("team-a".into());
    let mut wrong_path = with_tenant.clone();
    wrong_path.connection.url.push_str("/elsewhere");
    let answer = Sink::new(&wrong_path, None).unwrap().send(&batch).await;
    assert_eq!(reason(&answer), Some(Failure::Protocol), "{answer:?}");
    assert_delivered(&Sink::new(&with_tenant, None).unwrap().send(&batch).await);
    assert_eq!(server.stored()[0].tenant, "team-a");
}

#[tokio::test]
async fn a_batch_without_cpu_time_is_rejected() {
    let server = Server::start();
    let mut batch = window(1);
    batch.profile.sample_type.truncate(1);
    batch.profile.sample.iter_mut().for_each(|sample| sample.value.truncate(1));
    assert_eq!(reason(&sink(&server).send(&batch).await), Some(Failure::Defect));
    assert!(server.requests().is_empty());
}

/// Serves this program, which has debug info, under the build ID of the functions in
/// `window_builder`.
struct ThisProgram;

impl DebugInfoSource for ThisProgram {
    fn open(&self, build_id: &str) -> Option<File> {
        let is_known = build_id == "a1b2c3d4e5f60718";
        is_known.then(|| File::open(std::env::current_exe().unwrap()).unwrap())
    }
}

/// Waits up to a minute for an asynchronous effect.
async fn wait_for(holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("timeout after a minute");
}

#[tokio::test]
async fn a_symbolizing_server_gets_debug_info() {
    let server = Server::start();
    let settings = Config { symbolize: Symbolize::Server, ..settings(&server) };
    let source: Arc<dyn DebugInfoSource> = Arc::new(ThisProgram);
    let mut sink = Sink::new(&settings, Some(&source)).unwrap();
    assert_delivered(&sink.send(&window(1)).await);
    let profile = &server.stored()[0].profile;
    assert!(
        profile.location.iter().all(|location| location.line.is_empty() && location.address > 0)
    );
    assert!(profile.mapping.iter().all(|mapping| !mapping.has_functions));

    let id = "a1b2c3d4e5f60718";
    wait_for(|| server.files().get(id).is_some_and(|(is_finished, _)| *is_finished)).await;
    let (_, bytes) = server.files().remove(id).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    assert!(object::Object::has_debug_symbols(&elf));
    assert_delivered(&sink.send(&window(1)).await);
    let upload_checks = || {
        let requests = server.requests();
        requests.iter().filter(|request| request.path.ends_with("ShouldInitiateUpload")).count()
    };
    assert_eq!(upload_checks(), 1, "one check per file");
}

#[tokio::test]
async fn debug_info_is_not_uploaded_by_default() {
    let server = Server::start();
    let source: Arc<dyn DebugInfoSource> = Arc::new(ThisProgram);
    let mut sink = Sink::new(&settings(&server), Some(&source)).unwrap();
    assert_delivered(&sink.send(&window(1)).await);
    assert!(!server.stored()[0].profile.location[0].line.is_empty(), "symbolized by the agent");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(server.requests().iter().all(|request| request.path.ends_with("/Push")));
}

#[tokio::test]
async fn profiles_need_no_debug_info_service() {
    let server = Server::start();
    server.disable_debug_info();
    let settings = Config { debug_info: Some(true), ..settings(&server) };
    let source: Arc<dyn DebugInfoSource> = Arc::new(ThisProgram);
    let mut sink = Sink::new(&settings, Some(&source)).unwrap();
    for _ in 0..2 {
        assert_delivered(&sink.send(&window(1)).await);
    }
    wait_for(|| server.requests().iter().any(|request| request.path.contains("debuginfo"))).await;
    assert_delivered(&sink.send(&window(1)).await);
    assert_eq!(server.stored().len(), 3);
    assert!(server.files().is_empty());
}

#[test]
fn windows_arrive_once_after_an_outage() {
    let server = Server::start();
    let proxy = |status| Fault::Answer(status, Vec::new(), "<html>no backend</html>");
    server.inject_faults([proxy(503), Fault::DisconnectBefore, proxy(429)]);
    let directory = tempfile::tempdir().unwrap();
    let sink = SinkConfig::parse("pyroscope", &[("url", &server.url())]).unwrap();
    let settings = upload::delivery::DeliveryConfig {
        spool: upload::spool::SpoolConfig {
            directory: directory.path().to_owned(),
            ..upload::spool::SpoolConfig::default()
        },
        sinks: vec![upload::delivery::NamedSink { name: "main".into(), settings: sink }],
    };
    let delivery = upload::delivery::Delivery::start(&settings, None).unwrap();
    let batches: Vec<Batch> = (0..5).map(|_| window(3)).collect();
    batches.iter().for_each(|batch| delivery.accept(batch).unwrap());
    for _ in 0..1_200 {
        if delivery.counts().pending() > 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let counts = delivery.stop(Duration::from_secs(10));
    counts.check().unwrap();
    let ledger = counts.sinks["main"].ledger;
    assert_eq!((ledger.delivered, ledger.lost.total()), (5, 0), "{counts:?}");

    let stored = server.stored();
    let ids: BTreeSet<&str> = stored.iter().map(|profile| profile.id.as_str()).collect();
    assert_eq!((stored.len(), ids.len()), (15, 15));
    let sent: Vec<i64> = batches.iter().flat_map(|p| [p.profile.time_nanos; 3]).collect();
    let times: Vec<i64> = stored.iter().map(|profile| profile.profile.time_nanos).collect();
    assert_eq!(times, sent, "oldest first");
}
