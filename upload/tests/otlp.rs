//! The OTLP sink against a scripted receiver: content of requests, and handling of failures.
#![allow(clippy::unwrap_used)]

mod wire;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use prost::Message;
use upload::sinks::otlp::{Config, Protocol, Sink};
use upload::{Answer, Failure};
use wire::batches::{BUILD_ID, samples, window, with_labels};
use wire::otlp_rules::{EXPORT, PATH, ReceivedProfile, read};
use wire::server::{Reply, Server, grpc, http};
use wire::{assert_delivered, connection, short, text};

const BOTH: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

fn settings(server: &Server, protocol: Protocol) -> Config {
    Config { connection: connection(&server.url()), protocol: Some(protocol), ..Config::default() }
}

fn sink(server: &Server, protocol: Protocol) -> Sink {
    Sink::new(&settings(server, protocol), None).unwrap()
}

/// Returns all received profiles, checked against the rules of OTLP.
fn received(server: &Server) -> Vec<ReceivedProfile> {
    let requests = server.requests();
    requests
        .iter()
        .for_each(|request| assert_eq!(request.path, if request.is_grpc { EXPORT } else { PATH }));
    requests.iter().flat_map(|request| read(&request.body)).collect()
}

/// Asserts that every sample arrived exactly once.
fn assert_whole(received: &[ReceivedProfile], processes: usize, functions: usize) {
    let mut by_service: BTreeMap<&str, i64> = BTreeMap::new();
    for profile in received {
        *by_service.entry(&profile.resource["service.name"]).or_default() += profile.samples();
    }
    assert_eq!(by_service.len(), processes);
    assert!(by_service.values().all(|sum| *sum == samples(functions)), "{by_service:?}");
}

#[tokio::test]
async fn profiles_arrive_by_resource_and_function() {
    for protocol in BOTH {
        let server = Server::start(vec![]).await;
        assert_delivered(&sink(&server, protocol).send(&window(0, 5, 8)).await);
        let received = received(&server);
        assert_eq!(server.requests().len(), 1, "everything fits into one request");
        assert_whole(&received, 5, 8);
        let first = &received[0];
        let expected = [
            ("host.name", "n1"),
            ("process.executable.name", "app-0000"),
            ("service.name", "app-0000"),
        ];
        assert_eq!(first.resource, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        let leaves = first.by_leaf();
        assert_eq!((leaves["do_syscall_64"], leaves["inlined"]), (2 + 6, 1 + 3 + 4 + 5 + 7 + 8));
    }
}

#[tokio::test]
async fn frames_carry_their_attributes() {
    let server = Server::start(vec![]).await;
    assert_delivered(&sink(&server, Protocol::Grpc).send(&window(0, 1, 4)).await);
    let samples = received(&server).remove(0).samples;
    let with_count = |count: i64| samples.iter().find(|sample| sample.value == count).unwrap();
    let kernel = &with_count(2).frames[0];
    assert_eq!((&*kernel.file, kernel.kind.as_deref()), ("[kernel.kallsyms]", Some("kernel")));
    let leaf = &with_count(1).frames[0];
    assert_eq!(leaf.functions, ["inlined", "function_00000"]);
    assert_eq!((leaf.build_id.as_deref(), leaf.kind.as_deref()), (Some(BUILD_ID), Some("native")));
    assert_eq!(leaf.address, 0x2000);
    let bare = &with_count(4).frames[1];
    assert_eq!((bare.address, bare.functions.len(), &*bare.file), (0x9000, 0, "/usr/bin/app"));
    assert_eq!(with_count(4).attributes["everytick.stack.cut"], "user: no unwind row");
    assert_eq!(with_count(3).attributes["everytick.stack.guessed"], "frame pointers");
    assert_eq!(with_count(1).attributes["process.title"], "worker-0000");
}

#[tokio::test]
async fn containers_become_resources_with_static_labels() {
    let server = Server::start(vec![]).await;
    let labels = [
        ("container_id", "c0ffee"),
        ("pod_uid", "d00d"),
        ("cgroup", "/kubepods/pod/c0ffee"),
        ("team", "blue"),
        ("service.name", "shop"),
    ];
    let batch = with_labels(window(0, 1, 1), &labels);
    assert_delivered(&sink(&server, Protocol::Http).send(&batch).await);
    let received = received(&server).remove(0);
    let expected = [
        ("container.id", "c0ffee"),
        ("host.name", "n1"),
        ("k8s.node.name", "n1"),
        ("k8s.pod.uid", "d00d"),
        ("process.executable.name", "app-0000"),
        ("service.name", "shop"),
        ("team", "blue"),
    ];
    assert_eq!(received.resource, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    assert_eq!(received.samples[0].attributes["process.linux.cgroup"], "/kubepods/pod/c0ffee");
}

#[tokio::test]
async fn profile_ids_survive_a_retry() {
    let server = Server::start(vec![grpc(14)]).await;
    let mut sink = sink(&server, Protocol::Grpc);
    assert_eq!(short(&sink.send(&window(0, 2, 2)).await).0, "later");
    assert_delivered(&sink.send(&window(0, 2, 2)).await);
    assert_delivered(&sink.send(&window(1, 2, 2)).await);
    let ids: Vec<Vec<Vec<u8>>> = server
        .requests()
        .iter()
        .map(|request| read(&request.body).into_iter().map(|received| received.id).collect())
        .collect();
    assert_eq!(ids[0], ids[1]);
    assert!(ids[1].iter().all(|id| !ids[2].contains(id)));
}

#[tokio::test]
async fn requests_stay_below_the_configured_size() {
    for protocol in BOTH {
        let server = Server::start(vec![]).await;
        let settings = Config { request_bytes_max: 64 << 10, ..settings(&server, protocol) };
        assert_delivered(&Sink::new(&settings, None).unwrap().send(&window(0, 6, 900)).await);
        let sizes: Vec<usize> =
            server.requests().iter().map(|request| request.body.len()).collect();
        assert!(sizes.len() > 3 && sizes.iter().all(|size| *size <= 64 << 10), "{sizes:?}");
        assert_whole(&received(&server), 6, 900);
    }
}

#[tokio::test]
async fn a_request_too_large_is_split_in_half() {
    for protocol in BOTH {
        let too_large = match protocol {
            Protocol::Grpc => Reply::Grpc(8, "Received message larger than max", None, vec![]),
            Protocol::Http => http(413),
        };
        let server =
            Server::with(vec![], None, move |request| match request.body.len() > 100_000 {
                true => too_large.clone(),
                false => Reply::Message(vec![]),
            })
            .await;
        let mut sink = sink(&server, protocol);
        assert_delivered(&sink.send(&window(0, 4, 900)).await);
        let requests = server.requests();
        let good = requests.iter().filter(|request| request.body.len() <= 100_000);
        assert_whole(&good.flat_map(|request| read(&request.body)).collect::<Vec<_>>(), 4, 900);
        let before = requests.len();
        assert_delivered(&sink.send(&window(1, 4, 900)).await);
        assert!(server.requests()[before..].iter().all(|request| request.body.len() <= 100_000));
    }
}

#[tokio::test]
async fn gives_up_after_ten_413_responses() {
    for protocol in BOTH {
        let server = Server::with(vec![], None, |_| http(413)).await;
        let (mut rejected, batch) = (sink(&server, protocol), window(0, 3, 50));
        for _ in 0..9 {
            let answer = short(&rejected.send(&batch).await);
            assert_eq!(answer, ("later", Some(Failure::TooLarge), None));
        }
        assert_eq!(
            short(&rejected.send(&batch).await),
            ("rejected", Some(Failure::TooLarge), None)
        );
        assert_eq!(server.requests().len(), 10);

        let server = Server::start(vec![http(413); 5]).await;
        let mut sink = sink(&server, protocol);
        for _ in 0..5 {
            assert_eq!(short(&sink.send(&batch).await).0, "later");
        }
        assert_delivered(&sink.send(&batch).await);
        let good = &server.requests()[5..];
        let received: Vec<ReceivedProfile> =
            good.iter().flat_map(|request| read(&request.body)).collect();
        assert_whole(&received, 3, 50);
    }
}

/// Returns a `google.rpc.Status` with a RetryInfo.
fn retry_info(seconds: i64, milliseconds: i32) -> Vec<u8> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Status {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(message, repeated, tag = "3")]
        details: Vec<Any>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Any {
        #[prost(string, tag = "1")]
        type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }
    let mut value = vec![];
    // RetryInfo { retry_delay: Duration { seconds, nanos } }, encoded by hand.
    let mut delay = vec![0x08, u8::try_from(seconds).unwrap(), 0x10];
    prost::encoding::encode_varint(milliseconds as u64 * 1_000_000, &mut delay);
    value.extend([0x0a, delay.len() as u8]);
    value.extend(delay);
    let any = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value };
    Status { code: 8, details: vec![any] }.encode_to_vec()
}

#[tokio::test]
async fn grpc_statuses_map_to_answers() {
    use Failure::{Rejected, Throttled, Timeout, Unauthenticated, Unavailable};
    let table = [
        (1, ("later", Some(Unavailable), None)),
        (2, ("rejected", Some(Rejected), None)),
        (3, ("rejected", Some(Rejected), None)),
        (4, ("later", Some(Timeout), None)),
        (5, ("rejected", Some(Rejected), None)),
        (7, ("later", Some(Unauthenticated), None)),
        (8, ("rejected", Some(Throttled), None)),
        (10, ("later", Some(Unavailable), None)),
        (11, ("later", Some(Unavailable), None)),
        (12, ("later", Some(Failure::Protocol), None)),
        (13, ("rejected", Some(Rejected), None)),
        (14, ("later", Some(Unavailable), None)),
        (15, ("later", Some(Unavailable), None)),
        (16, ("later", Some(Unauthenticated), None)),
    ];
    for (code, expected) in table {
        let server = Server::start(vec![grpc(code)]).await;
        let answer = sink(&server, Protocol::Grpc).send(&window(0, 1, 2)).await;
        assert_eq!(short(&answer), expected, "{code}");
    }
}

#[tokio::test]
async fn retry_info_sets_the_delay() {
    let details = Reply::Grpc(8, "slow", Some(retry_info(3, 500)), vec![]);
    let server = Server::start(vec![details]).await;
    let answer = sink(&server, Protocol::Grpc).send(&window(0, 1, 2)).await;
    let expected = ("later", Some(Failure::Throttled), Some(Duration::from_millis(3500)));
    assert_eq!(short(&answer), expected, "{answer:?}");
}

#[tokio::test]
async fn damaged_status_details_are_ignored() {
    let headers = vec![("grpc-status-details-bin", "*** no base64 ***".to_owned())];
    let server = Server::start(vec![Reply::Grpc(14, "down", None, headers)]).await;
    let answer = sink(&server, Protocol::Grpc).send(&window(0, 1, 2)).await;
    assert_eq!(short(&answer), ("later", Some(Failure::Unavailable), None));
}

#[tokio::test]
async fn http_statuses_map_to_answers() {
    use Failure::{Rejected, Throttled, Timeout, Unauthenticated, Unavailable};
    let table = [
        (302, ("later", Some(Failure::Protocol), None)),
        (400, ("rejected", Some(Rejected), None)),
        (401, ("later", Some(Unauthenticated), None)),
        (403, ("later", Some(Unauthenticated), None)),
        (404, ("later", Some(Failure::Protocol), None)),
        (408, ("rejected", Some(Rejected), None)),
        (429, ("later", Some(Throttled), None)),
        (500, ("rejected", Some(Rejected), None)),
        (502, ("later", Some(Unavailable), None)),
        (503, ("later", Some(Unavailable), None)),
        (504, ("later", Some(Timeout), None)),
    ];
    for (status, expected) in table {
        let server = Server::start(vec![http(status)]).await;
        let answer = sink(&server, Protocol::Http).send(&window(0, 1, 2)).await;
        assert_eq!(short(&answer), expected, "{status}");
        assert!(text(&answer).contains("scripted error"), "{answer:?}");
    }
}

#[tokio::test]
async fn retry_after_is_seconds_or_a_date() {
    let at = SystemTime::now() + Duration::from_secs(7200);
    let date = httpdate::fmt_http_date(at);
    for (value, least, most) in [("17", 17, 17), (date.as_str(), 6000, 7200)] {
        let headers = vec![("retry-after", value.to_owned())];
        let server = Server::start(vec![Reply::Http(503, headers, vec![])]).await;
        let answer = sink(&server, Protocol::Http).send(&window(0, 1, 2)).await;
        let Answer::Later { after: Some(after), .. } = answer else {
            panic!("{value}: {answer:?}")
        };
        assert!((least..=most).contains(&after.as_secs()), "{value}: {after:?}");
    }
}

/// Returns an `ExportProfilesServiceResponse` with a partial success.
fn partial(rejected: i64, text: &str) -> Reply {
    use opentelemetry_proto::tonic::collector::profiles::v1development as proto;
    let partial = proto::ExportProfilesPartialSuccess {
        rejected_profiles: rejected,
        error_message: text.to_owned(),
    };
    let response = proto::ExportProfilesServiceResponse { partial_success: Some(partial) };
    Reply::Message(response.encode_to_vec())
}

#[tokio::test]
async fn a_partial_success_is_never_repeated() {
    for (protocol, down) in [(Protocol::Grpc, grpc(14)), (Protocol::Http, http(503))] {
        let server = Server::start(vec![partial(2, "label too long"), down]).await;
        let settings = Config { request_bytes_max: 64 << 10, ..settings(&server, protocol) };
        let mut sink = Sink::new(&settings, None).unwrap();
        let batch = window(0, 6, 900);
        assert_eq!(short(&sink.send(&batch).await).0, "later", "the second part is retried later");
        let answer = sink.send(&batch).await;
        let Answer::Partly { rejected, text, bytes } = &answer else { panic!("{answer:?}") };
        assert_eq!((*rejected, text.as_str()), (2, "label too long"));
        assert!(*bytes > 0);
        let mut requests = server.requests();
        let failed = requests.remove(1);
        assert_eq!(failed.body, requests[1].body, "the failed part is sent again");
        let all: Vec<ReceivedProfile> =
            requests.iter().flat_map(|request| read(&request.body)).collect();
        assert_whole(&all, 6, 900);
    }
}

#[tokio::test]
async fn a_warning_counts_as_delivered() {
    for protocol in BOTH {
        let server = Server::start(vec![partial(0, "use a newer version")]).await;
        assert_delivered(&sink(&server, protocol).send(&window(0, 1, 2)).await);
    }
}

#[tokio::test]
async fn gzip_is_dropped_if_unsupported() {
    let text = "grpc: Decompressor is not installed for grpc-encoding \"gzip\"";
    let server = Server::with(vec![], None, move |request| {
        match request.headers.contains_key("grpc-encoding") {
            true => Reply::Grpc(12, text, None, vec![]),
            false => Reply::Message(vec![]),
        }
    })
    .await;
    let mut sink = sink(&server, Protocol::Grpc);
    assert_delivered(&sink.send(&window(0, 1, 2)).await);
    assert_delivered(&sink.send(&window(1, 1, 2)).await);
    assert_eq!(server.requests().len(), 3, "the sink remembers that gzip is unsupported");
}

#[tokio::test]
async fn the_path_is_appended_to_the_url() {
    let server = Server::start(vec![]).await;
    let mut settings = settings(&server, Protocol::Http);
    settings.connection.url = format!("{}/tenant/a/", server.url());
    settings.path = "own/profiles".into();
    assert_delivered(&Sink::new(&settings, None).unwrap().send(&window(0, 1, 2)).await);
    assert_eq!(server.requests()[0].path, "/tenant/a/own/profiles");
}

#[tokio::test]
async fn a_truncated_secret_is_redacted() {
    let token: String = (0..200).map(|number| format!("{number:03}.")).collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, &token).unwrap();
    let message: &'static str = format!("token: {token}?").leak();
    let replies = [
        Reply::Grpc(16, message, None, vec![]),
        Reply::Http(403, vec![], message.into()),
        partial(1, message),
    ];
    for reply in replies {
        let server = Server::with(vec![], None, move |_| reply.clone()).await;
        for protocol in BOTH {
            let mut settings = settings(&server, protocol);
            settings.connection.bearer_token_file = Some(file.clone());
            settings.connection.insecure = true;
            let answer = Sink::new(&settings, None).unwrap().send(&window(0, 1, 2)).await;
            assert!(!format!("{answer:?}").contains("001.002."), "{answer:?}");
        }
    }
}
