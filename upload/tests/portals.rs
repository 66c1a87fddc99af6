//! Something other than the server answers, with a success: a login page, a captive portal, a load
//! balancer. No profile counts as delivered, and all are once the server is back.
#![allow(clippy::unwrap_used)]

mod wire;

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use upload::delivery::{Delivery, DeliveryConfig, NamedSink};
use upload::sinks::{otlp, parca, pyroscope};
use upload::spool::SpoolConfig;
use upload::{Answer, Batch, DebugInfoSource, Failure, SinkConfig, UploadStatus};
use wire::batches::window;
use wire::server::{Reply, Server};
use wire::{connection, short, text};

const PAGE: &[u8] = b"<!DOCTYPE html><html><title>Sign in</title></html>";
const JSON: &[u8] = br#"{"error":"unauthenticated","message":"sign in"}"#;

/// A sink of any kind.
enum AnySink {
    Otlp(Box<otlp::Sink>),
    Parca(Box<parca::Sink>),
    Pyroscope(Box<pyroscope::Sink>),
}

impl AnySink {
    async fn send(&mut self, batch: &Batch) -> Answer {
        match self {
            Self::Otlp(sink) => sink.send(batch).await,
            Self::Parca(sink) => sink.send(batch).await,
            Self::Pyroscope(sink) => sink.send(batch).await,
        }
    }
}

fn otlp(server: &Server, protocol: otlp::Protocol) -> otlp::Config {
    let connection = connection(&server.url());
    otlp::Config { connection, protocol: Some(protocol), ..otlp::Config::default() }
}

fn otlp_sink(server: &Server, protocol: otlp::Protocol) -> AnySink {
    AnySink::Otlp(Box::new(otlp::Sink::new(&otlp(server, protocol), None).unwrap()))
}

fn http_sinks(server: &Server) -> [(&'static str, AnySink); 2] {
    let connection = connection(&server.url());
    let pyroscope = pyroscope::Config { connection, ..pyroscope::Config::default() };
    let pyroscope = pyroscope::Sink::new(&pyroscope, None).unwrap();
    [
        ("otlp", otlp_sink(server, otlp::Protocol::Http)),
        ("pyroscope", AnySink::Pyroscope(Box::new(pyroscope))),
    ]
}

fn grpc_sinks(server: &Server) -> [(&'static str, AnySink); 2] {
    let connection = connection(&server.url());
    let parca = parca::Config { connection, ..parca::Config::default() };
    let parca = parca::Sink::new(&parca, None).unwrap();
    [("otlp", otlp_sink(server, otlp::Protocol::Grpc)), ("parca", AnySink::Parca(Box::new(parca)))]
}

fn reply(status: u16, content_type: &str, body: &[u8]) -> Reply {
    let headers = match content_type {
        "" => vec![],
        content_type => vec![("content-type", content_type.to_owned())],
    };
    Reply::Http(status, headers, body.to_vec())
}

/// Asserts that a sink keeps its batch as long as it gets this reply, and delivers it then.
async fn assert_kept(server: &Server, name: &str, sink: &mut AnySink, portal: &Reply) {
    let batch = window(0, 2, 3);
    for _ in 0..2 {
        server.script(vec![portal.clone()]);
        let answer = sink.send(&batch).await;
        assert_eq!(short(&answer).0, "later", "{name} {portal:?}: {answer:?}");
        assert_eq!(short(&answer).1, Some(Failure::Protocol), "{name} {portal:?}: {answer:?}");
    }
    let answer = sink.send(&batch).await;
    assert_eq!(short(&answer).0, "delivered", "{name} {portal:?}: {answer:?}");
}

#[tokio::test]
async fn a_success_without_the_message_of_the_protocol_is_retried() {
    let portals = [
        reply(200, "text/html; charset=utf-8", PAGE),
        reply(200, "application/json", JSON),
        reply(200, "application/json", b"{}"),
        reply(200, "text/plain", b"OK"),
        reply(200, "", b""),
        reply(200, "", PAGE),
        reply(200, "text/html", b""),
        reply(201, "text/html", PAGE),
        reply(204, "", b""),
        reply(302, "text/html", PAGE),
        reply(307, "", b""),
        reply(200, "application/x-protobuf", PAGE),
        reply(200, "application/proto", JSON),
        reply(200, "application/grpc", PAGE),
    ];
    let server = Server::start(vec![]).await;
    for portal in portals {
        for (name, mut sink) in http_sinks(&server) {
            assert_kept(&server, name, &mut sink, &portal).await;
        }
    }
}

#[tokio::test]
async fn a_success_that_is_not_grpc_is_retried() {
    let no_message = vec![("content-type", "application/grpc".into()), ("grpc-status", "0".into())];
    let portals = [
        reply(200, "text/html; charset=utf-8", PAGE),
        reply(200, "application/json", JSON),
        reply(200, "", b""),
        reply(204, "", b""),
        reply(302, "text/html", PAGE),
        reply(200, "application/grpc", PAGE),
        reply(200, "application/grpc-web", b"\0\0\0\0\0"),
        reply(200, "application/x-protobuf", b""),
        Reply::Http(200, no_message, vec![]),
    ];
    let server = Server::start(vec![]).await;
    for portal in portals {
        for (name, mut sink) in grpc_sinks(&server) {
            assert_kept(&server, name, &mut sink, &portal).await;
        }
    }
}

#[tokio::test]
async fn the_reason_names_status_type_and_text() {
    let server = Server::start(vec![reply(200, "text/html", PAGE)]).await;
    let mut sink = otlp_sink(&server, otlp::Protocol::Http);
    let answer = sink.send(&window(0, 1, 1)).await;
    let expected = "200 text/html instead of a protobuf message: <!DOCTYPE html>";
    assert!(text(&answer).starts_with(expected), "{answer:?}");
}

#[tokio::test]
async fn the_page_of_a_portal_shows_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "hunter2-hunter2").unwrap();
    for content_type in ["text/html", "application/x-protobuf"] {
        let page = b"<html>your token hunter2-hunter2 has expired</html>";
        let server = Server::start(vec![reply(200, content_type, page)]).await;
        let mut config = otlp(&server, otlp::Protocol::Http);
        config.connection.bearer_token_file = Some(file.clone());
        config.connection.insecure = true;
        let answer = otlp::Sink::new(&config, None).unwrap().send(&window(0, 1, 1)).await;
        assert_eq!(short(&answer).0, "later");
        assert!(!text(&answer).contains("hunter2"), "{answer:?}");
    }
}

/// Delivers one batch to an OTLP receiver with this configuration until `is_done`.
fn deliver_until(
    config: otlp::Config,
    is_done: impl Fn(&upload::delivery::SinkCounts) -> bool,
) -> upload::delivery::SinkCounts {
    let root = tempfile::tempdir().unwrap();
    let spool = SpoolConfig { directory: root.path().join("spool"), ..SpoolConfig::default() };
    let sinks = vec![NamedSink { name: "otlp".into(), settings: SinkConfig::Otlp(config) }];
    let delivery = Delivery::start(&DeliveryConfig { spool, sinks }, None).unwrap();
    delivery.accept(&window(0, 1, 1)).unwrap();
    let start = Instant::now();
    loop {
        let counts = delivery.counts();
        counts.check().unwrap();
        if is_done(&counts.sinks["otlp"]) {
            return counts.sinks["otlp"].clone();
        }
        assert!(start.elapsed() < Duration::from_secs(60), "timed out: {counts:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_survives_a_portal_and_a_server_error() {
    let script = vec![reply(200, "text/html", PAGE), reply(500, "", b"oops")];
    let server = Server::start(script).await;
    let mut config = otlp(&server, otlp::Protocol::Http);
    config.retry_server_errors = true;
    let sink = deliver_until(config, |sink| sink.ledger.delivered == 1);
    assert_eq!(sink.attempts.later.count(Failure::Protocol), 1);
    assert_eq!(sink.attempts.later.count(Failure::Unavailable), 1);
    let responses: Vec<_> = sink.responses.iter().collect();
    assert_eq!(responses, [("200", 2), ("500", 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_error_loses_the_batch_by_default_as_otlp_says() {
    let server = Server::start(vec![reply(500, "", b"oops")]).await;
    let config = otlp(&server, otlp::Protocol::Http);
    let sink = deliver_until(config, |sink| sink.ledger.lost.total() == 1);
    assert_eq!(sink.ledger.lost.count(Failure::Rejected), 1);
    assert_eq!(sink.responses.count("500"), 1);
}

/// Serves this program as every executable, and records what became of its upload.
#[derive(Default)]
struct ThisProgram(Mutex<Vec<UploadStatus>>);

impl DebugInfoSource for ThisProgram {
    fn open(&self, _build_id: &str) -> Option<File> {
        File::open(std::env::current_exe().unwrap()).ok()
    }

    fn on_upload(&self, status: UploadStatus) {
        self.0.lock().unwrap().push(status);
    }
}

#[tokio::test]
async fn debug_info_that_a_portal_takes_is_not_stored() {
    for (status, content_type) in [(200, "text/html"), (200, "application/proto"), (204, "")] {
        let server =
            Server::with(vec![], None, move |request| match request.path.contains("debuginfo") {
                true => reply(status, content_type, PAGE),
                false => Reply::Message(vec![]),
            })
            .await;
        let connection = connection(&server.url());
        let config = pyroscope::Config {
            connection,
            debug_info: Some(true),
            ..pyroscope::Config::default()
        };
        let program = Arc::new(ThisProgram::default());
        let source: Arc<dyn DebugInfoSource> = program.clone();
        let mut sink = pyroscope::Sink::new(&config, Some(&source)).unwrap();
        assert_eq!(short(&sink.send(&window(0, 1, 1)).await).0, "delivered");
        let start = Instant::now();
        while program.0.lock().unwrap().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(60), "timed out");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let statuses = program.0.lock().unwrap().clone();
        assert_eq!(statuses, [UploadStatus::Postponed], "{status} {content_type}");
    }
}
