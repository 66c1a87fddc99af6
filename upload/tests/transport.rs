//! Failures between a sink and its server: timeouts, certificates, tokens and proxies. Most tests
//! cover gRPC and HTTP.
#![allow(clippy::unwrap_used)]

mod wire;

use std::fs;
use std::path::Path;

use tokio::net::TcpListener;
use upload::config::ConfigError;
use upload::sinks::otlp::{Config, Protocol, Sink};
use upload::transport::{BasicAuth, Connection, Tls};
use upload::{Answer, Failure};
use wire::batches::window;
use wire::certificates::{self, Authority};
use wire::proxy::Proxy;
use wire::server::{RecordedRequest, Reply, Server, grpc, http};
use wire::{assert_delivered, connection, short, text};

const BOTH: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

fn sink_of(connection: Connection, protocol: Protocol) -> Result<Sink, ConfigError> {
    Sink::new(&Config { connection, protocol: Some(protocol), ..Config::default() }, None)
}

async fn send(connection: &Connection, protocol: Protocol) -> Answer {
    sink_of(connection.clone(), protocol).unwrap().send(&window(0, 1, 2)).await
}

fn reason(answer: &Answer) -> Option<Failure> {
    let (kind, reason, _) = short(answer);
    assert_eq!(kind, "later", "the batch is retried: {answer:?}");
    reason
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for protocol in BOTH {
        let answer = send(&connection(&url), protocol).await;
        assert_eq!(reason(&answer), Some(Failure::Unreachable));
        assert!(text(&answer).contains(&url) && text(&answer).contains("refused"), "{answer:?}");
    }
}

#[tokio::test]
async fn an_unknown_host_is_unreachable() {
    for protocol in BOTH {
        let answer = send(&connection("http://no-such-host.invalid:4317"), protocol).await;
        assert_eq!(reason(&answer), Some(Failure::Unreachable), "{answer:?}");
        assert!(text(&answer).contains("no-such-host.invalid"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_returning_server_gets_the_batch() {
    for protocol in BOTH {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut sink = sink_of(connection(&format!("http://127.0.0.1:{port}")), protocol).unwrap();
        drop(listener);
        assert_eq!(reason(&sink.send(&window(0, 1, 2)).await), Some(Failure::Unreachable));
        let server = Server::on(port, vec![]).await;
        assert_delivered(&sink.send(&window(0, 1, 2)).await);
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_broken_connection_is_retried() {
    for protocol in BOTH {
        for reply in [Reply::Disconnect, Reply::Truncate] {
            let server = Server::start(vec![reply]).await;
            let mut sink = sink_of(connection(&server.url()), protocol).unwrap();
            let answer = sink.send(&window(0, 1, 2)).await;
            assert_eq!(reason(&answer), Some(Failure::Unreachable), "{answer:?}");
            assert_delivered(&sink.send(&window(0, 1, 2)).await);
        }
    }
}

#[tokio::test]
async fn a_timeout_drops_the_connection() {
    for protocol in BOTH {
        let server = Server::start(vec![Reply::Hang]).await;
        let limited = Connection { timeout_seconds: 0.3, ..connection(&server.url()) };
        let mut sink = sink_of(limited, protocol).unwrap();
        let answer = sink.send(&window(0, 1, 2)).await;
        assert_eq!(reason(&answer), Some(Failure::Timeout), "{answer:?}");
        assert!(text(&answer).contains("within 0.3 s"), "{answer:?}");
        assert_delivered(&sink.send(&window(0, 1, 2)).await);
        assert_eq!(server.connections(), 2, "the hung connection is not reused");
    }
}

#[tokio::test]
async fn a_silent_port_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for (scheme, protocol) in
        [("http", Protocol::Grpc), ("https", Protocol::Grpc), ("https", Protocol::Http)]
    {
        let directory = tempfile::tempdir().unwrap();
        let ca_file = (scheme == "https").then(|| Authority::new("ours").file(directory.path()));
        let limited = Connection {
            timeout_seconds: 0.3,
            tls: Tls { ca_file, ..Tls::default() },
            ..connection(&format!("{scheme}://{address}"))
        };
        assert_eq!(reason(&send(&limited, protocol).await), Some(Failure::Timeout));
    }
}

/// Starts a server with TLS; returns it with a connection that trusts its authority.
async fn start_tls(
    directory: &Path,
    script: Vec<Reply>,
    clients: Option<&Authority>,
) -> (Server, Connection) {
    let authority = Authority::new("ours");
    let tls = certificates::server(&authority.sign("localhost"), clients);
    let server = Server::with_tls(script, tls).await;
    let connection = Connection {
        tls: Tls { ca_file: Some(authority.file(directory)), ..Tls::default() },
        ..connection(&server.url())
    };
    (server, connection)
}

#[tokio::test]
async fn only_the_configured_authority_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    for protocol in BOTH {
        let (_server, connection) = start_tls(directory.path(), vec![], None).await;
        assert_delivered(&send(&connection, protocol).await);
        Authority::new("theirs").file(directory.path());
        let answer = send(&connection, protocol).await;
        assert_eq!(reason(&answer), Some(Failure::Tls), "{answer:?}");
        assert!(text(&answer).contains("certificate"), "{answer:?}");
        let tls = Tls { insecure_skip_verify: true, ..Tls::default() };
        assert_delivered(&send(&Connection { tls, ..connection }, protocol).await);
    }
}

#[tokio::test]
async fn a_certificate_must_have_the_host_name() {
    let directory = tempfile::tempdir().unwrap();
    for protocol in BOTH {
        let (server, connection) = start_tls(directory.path(), vec![], None).await;
        let url = format!("https://127.0.0.1:{}", server.port());
        let answer = send(&Connection { url, ..connection }, protocol).await;
        assert_eq!(reason(&answer), Some(Failure::Tls), "{answer:?}");
    }
}

#[tokio::test]
async fn client_certificates_are_sent() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clients = Authority::new("clients");
    for protocol in BOTH {
        let (_server, connection) = start_tls(ours.path(), vec![], Some(&clients)).await;
        let with = |directory: &Path, authority: &Authority| {
            let (cert, key) = authority.sign("agent").files(directory);
            let tls = Tls { cert_file: Some(cert), key_file: Some(key), ..connection.tls.clone() };
            Connection { tls, ..connection.clone() }
        };
        assert_delivered(&send(&with(ours.path(), &clients), protocol).await);
        for wrong in [connection.clone(), with(theirs.path(), &Authority::new("others"))] {
            let answer = send(&wrong, protocol).await;
            let reason = reason(&answer);
            // With TLS 1.3, the rejection follows our request, and a reset may discard it.
            assert!(matches!(reason, Some(Failure::Tls | Failure::Unreachable)), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn rotated_certificates_need_no_restart() {
    let directory = tempfile::tempdir().unwrap();
    for protocol in BOTH {
        let clients = Authority::new("clients");
        let (_server, connection) = start_tls(directory.path(), vec![], Some(&clients)).await;
        let (cert, key) = Authority::new("others").sign("agent").files(directory.path());
        let tls = Tls { cert_file: Some(cert), key_file: Some(key), ..connection.tls.clone() };
        let mut sink = sink_of(Connection { tls, ..connection }, protocol).unwrap();
        assert_eq!(short(&sink.send(&window(0, 1, 2)).await).0, "later");
        clients.sign("agent").files(directory.path());
        assert_delivered(&sink.send(&window(0, 1, 2)).await);
    }
}

/// Starts a server that requires this `authorization` header.
async fn start_with_token(token: &'static str) -> Server {
    Server::with(vec![], None, move |request: &RecordedRequest| {
        let is_authorized =
            request.headers.get("authorization").is_some_and(|value| value == token);
        match (is_authorized, request.is_grpc) {
            (true, _) => Reply::Message(vec![]),
            // Some servers repeat the rejected token in the error.
            (false, true) => Reply::Grpc(16, "unknown token hunter2", None, vec![]),
            (false, false) => Reply::Http(401, vec![], b"unknown token hunter2".to_vec()),
        }
    })
    .await
}

#[tokio::test]
async fn a_corrected_token_is_picked_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    for protocol in BOTH {
        let server = start_with_token("Bearer right").await;
        fs::write(&path, "hunter2\n").unwrap();
        let bearer = Connection {
            bearer_token_file: Some(path.clone()),
            insecure: true,
            ..connection(&server.url())
        };
        let mut sink = sink_of(bearer, protocol).unwrap();
        let answer = sink.send(&window(0, 1, 2)).await;
        assert_eq!(reason(&answer), Some(Failure::Unauthenticated));
        assert!(!format!("{answer:?}").contains("hunter2"), "{answer:?}");
        assert!(!format!("{sink:?}").contains("hunter2"));
        // The file is rewritten in place within a second, with the same length and time.
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "right\n\n\n").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_delivered(&sink.send(&window(0, 1, 2)).await);
    }
}

#[tokio::test]
async fn a_missing_token_file_is_retried() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    for protocol in BOTH {
        let server = start_with_token("Bearer right").await;
        fs::write(&path, "right").unwrap();
        let bearer = Connection {
            bearer_token_file: Some(path.clone()),
            insecure: true,
            ..connection(&server.url())
        };
        let mut sink = sink_of(bearer, protocol).unwrap();
        fs::remove_file(&path).unwrap();
        let answer = sink.send(&window(0, 1, 2)).await;
        assert_eq!(reason(&answer), Some(Failure::Unauthenticated));
        assert!(text(&answer).contains(path.to_str().unwrap()), "{answer:?}");
        fs::write(&path, "right").unwrap();
        assert_delivered(&sink.send(&window(0, 1, 2)).await);
    }
}

#[tokio::test]
async fn all_kinds_of_headers_are_sent() {
    let directory = tempfile::tempdir().unwrap();
    let (password, key) = (directory.path().join("password"), directory.path().join("key"));
    fs::write(&password, "open sesame").unwrap();
    fs::write(&key, "k").unwrap();
    for protocol in BOTH {
        let server = start_with_token("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").await;
        let with_headers = Connection {
            basic_auth: Some(BasicAuth {
                username: "Aladdin".into(),
                password_file: password.clone(),
            }),
            headers: [("X-Cluster".to_owned(), "blue".to_owned())].into(),
            header_files: [("x-api-key".to_owned(), key.clone())].into(),
            tenant: Some("t1".into()),
            insecure: true,
            ..connection(&server.url())
        };
        assert_delivered(&send(&with_headers, protocol).await);
        let headers = &server.requests()[0].headers;
        let expected = [("x-cluster", "blue"), ("x-api-key", "k"), ("x-scope-orgid", "t1")];
        expected.iter().for_each(|(name, value)| assert_eq!(headers[*name], value));
        assert!(headers["user-agent"].to_str().unwrap().starts_with("everytick/"));
    }
}

#[tokio::test]
async fn credentials_are_not_sent_unencrypted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    fs::write(&path, "hunter2").unwrap();
    for protocol in BOTH {
        let server = Server::start(vec![]).await;
        let bearer =
            Connection { bearer_token_file: Some(path.clone()), ..connection(&server.url()) };
        let error = sink_of(bearer, protocol).err().unwrap().to_string();
        assert!(error.contains("unencrypted") && error.contains("insecure = true"), "{error}");
        assert!(server.requests().is_empty());
    }
}

#[tokio::test]
async fn requests_go_through_the_proxy() {
    let directory = tempfile::tempdir().unwrap();
    for protocol in BOTH {
        for is_encrypted in [false, true] {
            let (server, direct) = match is_encrypted {
                true => start_tls(directory.path(), vec![], None).await,
                false => {
                    let server = Server::start(vec![]).await;
                    let direct = connection(&server.url());
                    (server, direct)
                }
            };
            let proxy = Proxy::start(None).await;
            let through = Connection { proxy: Some(proxy.url()), ..direct };
            assert_delivered(&send(&through, protocol).await);
            let port = server.port();
            let line = match (protocol, is_encrypted) {
                (Protocol::Http, false) => {
                    format!("POST http://localhost:{port}/v1development/profiles HTTP/1.1")
                }
                _ => format!("CONNECT localhost:{port} HTTP/1.1"),
            };
            assert_eq!(proxy.lines(), [line]);
            assert_eq!(server.requests().len(), 1);
        }
    }
}

#[tokio::test]
async fn proxy_credentials_are_sent() {
    let directory = tempfile::tempdir().unwrap();
    for protocol in BOTH {
        let (_server, direct) = start_tls(directory.path(), vec![], None).await;
        let proxy = Proxy::start(Some("Basic dXNlcjpodW50ZXIy")).await;
        let with = |user: &str| {
            let url = format!("http://{user}localhost:{}", proxy.port());
            Connection { proxy: Some(url), ..direct.clone() }
        };
        assert_delivered(&send(&with("user:hunter2@"), protocol).await);
        let answer = send(&with("user:hunter3@"), protocol).await;
        assert_eq!(reason(&answer), Some(Failure::Unauthenticated), "{answer:?}");
        assert!(!format!("{answer:?}").contains("hunter3"), "{answer:?}");
    }
}

#[tokio::test]
async fn the_error_names_an_unreachable_proxy() {
    let directory = tempfile::tempdir().unwrap();
    for protocol in BOTH {
        let (_server, direct) = start_tls(directory.path(), vec![], None).await;
        let unreachable = Connection { proxy: Some("http://127.0.0.1:1".into()), ..direct };
        let answer = send(&unreachable, protocol).await;
        assert_eq!(reason(&answer), Some(Failure::Unreachable), "{answer:?}");
        assert!(text(&answer).contains("the proxy http://127.0.0.1:1: "), "{answer:?}");
    }
}

#[tokio::test]
async fn a_large_response_is_truncated() {
    let body = vec![b'x'; 16 << 20];
    let server = Server::start(vec![Reply::Http(503, vec![], body)]).await;
    let answer = send(&connection(&server.url()), Protocol::Http).await;
    assert_eq!(reason(&answer), Some(Failure::Unavailable));
    assert!(text(&answer).len() < 400);
}

#[tokio::test]
async fn a_server_without_the_service_is_retried() {
    let server = Server::start(vec![http(404), http(404)]).await;
    let answer = send(&connection(&server.url()), Protocol::Http).await;
    assert_eq!(reason(&answer), Some(Failure::Protocol));
    let answer = send(&connection(&server.url()), Protocol::Grpc).await;
    assert_eq!(reason(&answer), Some(Failure::Protocol));
    assert!(text(&answer).contains("scripted error"), "{answer:?}");
    assert!(text(&answer).contains("feature-gates"), "{answer:?}");
    let server = Server::start(vec![Reply::Http(200, vec![], b"hello".to_vec()), grpc(99)]).await;
    let answer = send(&connection(&server.url()), Protocol::Grpc).await;
    assert_eq!(reason(&answer), Some(Failure::Protocol));
    let answer = send(&connection(&server.url()), Protocol::Grpc).await;
    assert_eq!(short(&answer), ("rejected", Some(Failure::Rejected), None), "unknown gRPC code");
}
