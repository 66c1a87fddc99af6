//! Secrets are sent but never shown in logs of any library, answers, errors or `Debug` output.
//!
//! This test has a file of its own because the log subscriber is global to the process.
#![allow(clippy::unwrap_used)]

mod wire;

use std::fs;
use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::filter::LevelFilter;
use upload::sinks::otlp::{self, Protocol};
use upload::sinks::parca;
use upload::transport::{BasicAuth, Connection, Tls};
use wire::batches::window;
use wire::certificates::{self, Authority};
use wire::connection;
use wire::proxy::Proxy;
use wire::server::{Reply, Server};

/// Collects the log output.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn secrets_are_sent_but_never_shown() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    fs::write(&secret, "hunter2").unwrap();
    let authority = Authority::new("ours");
    let ca_file = Some(authority.file(directory.path()));
    let tls = || certificates::server(&authority.sign("localhost"), None);
    let proxy = Proxy::start(None).await;
    let by_user = |connection: Connection| Connection {
        basic_auth: Some(BasicAuth { username: "user".into(), password_file: secret.clone() }),
        ..connection
    };
    let by_token = |connection: Connection| Connection {
        bearer_token_file: Some(secret.clone()),
        ..connection
    };
    let mut shown = String::new();
    for reply in
        [Reply::Message(vec![]), Reply::Disconnect, Reply::Http(407, vec![], b"hunter2".to_vec())]
    {
        let server = Server::with(vec![], Some(tls()), move |_| reply.clone()).await;
        let all = Connection {
            header_files: [("x-api-key".to_owned(), secret.clone())].into(),
            headers: [("x-token".to_owned(), "hunter2".to_owned())].into(),
            proxy: Some(format!("http://user:hunter2@127.0.0.1:{}", proxy.port())),
            tls: Tls { ca_file: ca_file.clone(), ..Tls::default() },
            ..connection(&server.url())
        };
        for connection in [by_user(all.clone()), by_token(all)] {
            let settings = parca::Config { connection: connection.clone(), ..Default::default() };
            let mut sink = parca::Sink::new(&settings, None).unwrap();
            shown += &format!("{settings:?} {:?}", sink.send(&window(0, 1, 2)).await);
            for protocol in [Protocol::Grpc, Protocol::Http] {
                let settings = otlp::Config {
                    connection: connection.clone(),
                    protocol: Some(protocol),
                    ..Default::default()
                };
                let mut sink = otlp::Sink::new(&settings, None).unwrap();
                shown += &format!("{settings:?} {:?} {sink:?}", sink.send(&window(0, 1, 2)).await);
            }
        }
        let sent = server.requests().iter().filter(|s| s.headers["x-api-key"] == "hunter2").count();
        assert!(sent >= 6, "{sent}");
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("hyper"), "logs of libraries are captured");
    // In plain text and in the encoding of basic authentication.
    for secret in ["hunter2", "dXNlcjpodW50ZXIy"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
        assert!(!shown.contains(secret), "{shown}");
    }
}
