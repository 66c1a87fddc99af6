//! The Parca sink against a scripted server: content of requests, and handling of failures.
#![allow(clippy::unwrap_used)]

mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use upload::Symbolize;
use upload::sinks::parca::{Config, Sink};
use upload::transport::Compression;
use upload::{Answer, Batch, Failure};
use wire::batches::{BUILD_ID, DURATION, START, samples, window, with_labels};
use wire::parca_rules::{ReceivedSeries, WRITE_RAW, read};
use wire::server::{Reply, Server, grpc};
use wire::{assert_delivered, connection, short, text};

fn settings(server: &Server) -> Config {
    Config { connection: connection(&server.url()), ..Config::default() }
}

fn sink(server: &Server) -> Sink {
    Sink::new(&settings(server), None).unwrap()
}

/// Returns all received series, checked against the rules of Parca.
fn received(server: &Server) -> Vec<ReceivedSeries> {
    server.bodies(WRITE_RAW).iter().flat_map(|body| read(body)).collect()
}

/// Asserts that every sample arrived exactly once.
fn assert_whole(received: &[ReceivedSeries], processes: usize, functions: usize) {
    let mut by_process: BTreeMap<&str, i64> = BTreeMap::new();
    for series in received {
        *by_process.entry(&series.labels["executable"]).or_default() += series.samples();
    }
    assert_eq!(by_process.len(), processes);
    assert!(by_process.values().all(|sum| *sum == samples(functions)), "{by_process:?}");
}

#[tokio::test]
async fn profiles_arrive_by_label_and_function() {
    let server = Server::start(vec![]).await;
    assert_delivered(&sink(&server).send(&window(3, 5, 8)).await);
    let received = received(&server);
    assert_eq!(server.requests().len(), 1, "all series fit into one request");
    assert_whole(&received, 5, 8);
    let first = &received[0];
    assert_eq!(first.labels["comm"], "worker-0000");
    assert_eq!(first.labels["node"], "n1");
    assert!(first.is_compressed);
    assert_eq!(first.profile.time_nanos, START + 3 * DURATION);
    assert_eq!(first.profile.duration_nanos, DURATION);
    let leaves = first.by_leaf();
    // Functions 1 and 5 have a kernel leaf; the others have an inlined one.
    assert_eq!(leaves["do_syscall_64"], 2 + 6);
    assert_eq!(leaves["inlined"], 1 + 3 + 4 + 5 + 7 + 8);
}

#[tokio::test]
async fn a_symbolizing_server_gets_addresses() {
    let server = Server::start(vec![]).await;
    let settings = Config { symbolize: Symbolize::Server, ..settings(&server) };
    let mut sink = Sink::new(&settings, None).unwrap();
    assert_delivered(&sink.send(&window(0, 1, 4)).await);
    let received = &received(&server)[0];
    let expected: BTreeMap<String, i64> =
        [("do_syscall_64", 2), ("0x2000", 1), ("0x2020", 3), ("0x2030", 4)]
            .map(|(name, count)| (name.to_owned(), count))
            .into();
    assert_eq!(received.by_leaf(), expected);
    let profile = &received.profile;
    assert!(profile.string_table.iter().any(|text| text == BUILD_ID));
    assert!(!profile.string_table.iter().any(|text| text == "main"), "function names are not sent");
}

#[tokio::test]
async fn label_names_are_sanitized() {
    let server = Server::start(vec![]).await;
    let labels = [("k8s.cluster-name", "blue"), ("k8s_cluster_name", "red"), ("__name__", "mine")];
    assert_delivered(&sink(&server).send(&with_labels(window(0, 2, 2), &labels)).await);
    let labels = &received(&server)[0].labels;
    assert_eq!((&*labels["k8s_cluster_name"], &*labels["k8s_cluster_name_"]), ("red", "blue"));
    assert_eq!(labels["_name__"], "mine");
}

#[tokio::test]
async fn compression_none_sends_plain_messages() {
    let server = Server::start(vec![]).await;
    let mut settings = settings(&server);
    settings.connection.compression = Compression::None;
    assert_delivered(&Sink::new(&settings, None).unwrap().send(&window(0, 1, 3)).await);
    assert!(!received(&server)[0].is_compressed);
}

#[tokio::test]
async fn a_large_window_is_sent_in_several_requests() {
    let server = Server::start(vec![]).await;
    let mut settings = Config { request_bytes_max: 64 << 10, ..settings(&server) };
    settings.connection.compression = Compression::None;
    let mut sink = Sink::new(&settings, None).unwrap();
    assert_delivered(&sink.send(&window(0, 6, 900)).await);
    let sizes: Vec<usize> = server.bodies(WRITE_RAW).iter().map(|body| body.len()).collect();
    assert!(sizes.len() > 6 && sizes.iter().all(|size| *size <= 64 << 10), "{sizes:?}");
    assert_whole(&received(&server), 6, 900);
}

#[tokio::test]
async fn a_size_limit_is_learned_from_the_server() {
    let text = "grpc: received message larger than max (300000 vs. 100000)";
    let too_large = Reply::Grpc(8, text, None, vec![]);
    let server = Server::with(vec![], None, move |request| match request.body.len() > 100_000 {
        true => too_large.clone(),
        false => Reply::Message(vec![]),
    })
    .await;
    let mut settings = settings(&server);
    settings.connection.compression = Compression::None;
    let mut sink = Sink::new(&settings, None).unwrap();
    assert_delivered(&sink.send(&window(0, 8, 900)).await);
    let first_count = server.requests().len();
    let accepted = |from: usize| {
        let requests = server.requests();
        let bodies = requests[from..].iter().filter(|request| request.body.len() <= 100_000);
        bodies.flat_map(|request| read(&request.body)).collect::<Vec<_>>()
    };
    assert_whole(&accepted(0), 8, 900);
    assert_delivered(&sink.send(&window(1, 8, 900)).await);
    let requests = server.requests();
    let rejected = |requests: &[wire::server::RecordedRequest]| {
        requests.iter().filter(|request| request.body.len() > 100_000).count()
    };
    assert!(rejected(&requests[..first_count]) > 0);
    assert_eq!(rejected(&requests[first_count..]), 0, "the sink remembers the size limit");
    assert_whole(&accepted(first_count), 8, 900);
}

#[tokio::test]
async fn only_the_stack_too_large_is_rejected() {
    let text = "grpc: received message larger than max";
    let server = Server::with(vec![], None, move |request| match request.body.len() > 900 {
        true => Reply::Grpc(8, text, None, vec![]),
        false => Reply::Message(vec![]),
    })
    .await;
    let mut batch = window(0, 2, 4);
    let sample = &mut batch.profile.sample[0];
    sample.location_id = (0..2_000).map(|i| 1 + i % 5).collect();
    let mut settings = settings(&server);
    settings.connection.compression = Compression::None;
    let mut sink = Sink::new(&settings, None).unwrap();
    let answer = sink.send(&batch).await;
    assert_eq!(
        short(&answer),
        ("later", Some(Failure::TooLarge), None),
        "nothing is delivered yet"
    );
    let answer = sink.send(&batch).await;
    let Answer::Partly { rejected, text, .. } = &answer else { panic!("{answer:?}") };
    assert_eq!(*rejected, 1, "the stack has one sample");
    assert!(text.contains("larger than max"), "{text}");
}

#[tokio::test]
async fn grpc_statuses_map_to_answers() {
    use Failure::*;
    let table = [
        (3, ("rejected", Some(Rejected), None)),
        (4, ("later", Some(Timeout), None)),
        (7, ("later", Some(Unauthenticated), None)),
        (8, ("later", Some(Throttled), None)),
        (9, ("rejected", Some(Rejected), None)),
        (12, ("later", Some(Protocol), None)),
        (13, ("later", Some(Unavailable), None)),
        (14, ("later", Some(Unavailable), None)),
        (16, ("later", Some(Unauthenticated), None)),
    ];
    for (code, expected) in table {
        let server = Server::start(vec![grpc(code)]).await;
        let answer = sink(&server).send(&window(0, 1, 2)).await;
        assert_eq!(short(&answer), expected, "{code}");
        assert!(text(&answer).contains("scripted error"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_retry_resends_only_what_is_missing() {
    let server = Server::start(vec![Reply::Default, Reply::Default, grpc(14)]).await;
    let mut settings = Config { request_bytes_max: 64 << 10, ..settings(&server) };
    settings.connection.compression = Compression::None;
    let mut sink = Sink::new(&settings, None).unwrap();
    let batch: Batch = window(0, 6, 900);
    assert_eq!(short(&sink.send(&batch).await).0, "later");
    let before = server.requests().len();
    assert_eq!(before, 3);
    assert_delivered(&sink.send(&batch).await);
    let requests = server.requests();
    let good = requests[..2].iter().chain(&requests[3..]);
    assert_whole(&good.flat_map(|request| read(&request.body)).collect::<Vec<_>>(), 6, 900);
}

#[tokio::test]
async fn gives_up_after_ten_server_errors() {
    let server = Server::with(vec![], None, |_| grpc(13)).await;
    let (mut sink, batch) = (sink(&server), window(0, 1, 2));
    for _ in 0..9 {
        assert_eq!(short(&sink.send(&batch).await), ("later", Some(Failure::Unavailable), None));
    }
    let answer = sink.send(&batch).await;
    assert_eq!(short(&answer), ("rejected", Some(Failure::Rejected), None));
    assert_eq!(
        short(&sink.send(&window(1, 1, 2)).await).0,
        "later",
        "each batch has its own count"
    );
}

#[tokio::test]
async fn retry_after_of_a_proxy_sets_the_delay() {
    let headers = vec![("retry-after", "30".to_owned())];
    let server = Server::start(vec![Reply::Http(429, headers, vec![])]).await;
    let answer = sink(&server).send(&window(0, 1, 2)).await;
    let expected = ("later", Some(Failure::Throttled), Some(Duration::from_secs(30)));
    assert_eq!(short(&answer), expected, "{answer:?}");
}

#[tokio::test]
async fn a_batch_without_counts_is_rejected() {
    let server = Server::start(vec![]).await;
    let mut batch = window(0, 1, 1);
    batch.profile.sample_type.remove(0);
    let answer = sink(&server).send(&batch).await;
    assert_eq!(short(&answer), ("rejected", Some(Failure::Defect), None));
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn an_empty_window_needs_no_request() {
    let server = Server::start(vec![]).await;
    let answer = sink(&server).send(&window(0, 0, 0)).await;
    assert_eq!(answer, Answer::Delivered { bytes: 0 });
    assert!(server.requests().is_empty());
}
