//! Well-behaved, slow, excessive and non-HTTP clients.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::client_rate::Rate;
use super::config::ClientLimits;
use super::connections::ConnectionLimits;
use super::{Handler, HttpCounts, Page, PagePath, Refusal, Server, ServerConfig, ServerError};
use crate::limits::TimeShare;

/// More than the socket buffers of a connection hold.
const LARGE: usize = 64 << 20;
/// A test that waits longer than this for a response or a close has failed.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);
/// A time limit that never expires within a test.
const LONG: Duration = Duration::from_secs(600);
/// A time limit that expires at once.
const SHORT: Duration = Duration::from_millis(50);

/// A rate that no test reaches.
const FAST: Rate = Rate { per_second: 1e9, burst: 1e9 };

const PATIENT: ClientLimits = ClientLimits {
    connections: ConnectionLimits { open: 16, pages: 16, pages_of_client: 16 },
    client_rate: FAST,
    rate: FAST,
    delay: SHORT,
    head_time: LONG,
    connection_time: LONG,
};

const PATHS: [PagePath; 6] = [
    PagePath { path: "/", is_probe: false },
    PagePath { path: "/down", is_probe: false },
    PagePath { path: "/large", is_probe: false },
    PagePath { path: "/broken", is_probe: false },
    PagePath { path: "/panic", is_probe: false },
    PagePath { path: "/probe", is_probe: true },
];

fn config(handler: Arc<Handler>) -> ServerConfig {
    ServerConfig {
        paths: &PATHS,
        handler,
        host_names: Vec::new(),
        counters: Arc::default(),
        cpu: Arc::new(Mutex::new(TimeShare::unlimited())),
    }
}

fn page(path: &str) -> Page {
    match path {
        "/down" => Page::text(503, "no\n"),
        "/large" => Page::text(200, "x".repeat(LARGE)),
        "/broken" => Page::text(7, "no such status"),
        "/panic" => panic!("a panic on purpose"),
        _ => Page::text(200, "hello\n"),
    }
}

fn start_with(config: ServerConfig, limits: ClientLimits) -> Server {
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    Server::start_with_limits(address, config, limits).expect("starts")
}

fn start(limits: ClientLimits) -> Server {
    start_with(config(Arc::new(page)), limits)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).expect("connects");
    stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("accepts a timeout");
    stream
}

/// Reads until the server closes the connection. A reset counts as a close.
fn read_to_close(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server does not close: {error}"),
    }
    String::from_utf8(bytes).expect("text")
}

/// Sends a request and returns the response. The server need not read all of the request.
fn exchange(server: &Server, request: &[u8]) -> String {
    let mut stream = connect(server);
    let _ = stream.write_all(request);
    read_to_close(&mut stream)
}

fn get(server: &Server, path: &str) -> String {
    exchange(server, format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").as_bytes())
}

fn header<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = response.split_once("\r\n\r\n")?;
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").expect("a head").1
}

#[test]
fn get_returns_the_page_and_closes() {
    let server = start(PATIENT);
    let response = get(&server, "/?query=is+not+the+path");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert_eq!(header(&response, "Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(header(&response, "Content-Length"), Some("6"));
    assert_eq!(header(&response, "Connection"), Some("close"));
    assert_eq!(body(&response), "hello\n");
}

#[test]
fn head_returns_the_head_of_get() {
    let server = start(PATIENT);
    let response = exchange(&server, b"HEAD / HTTP/1.1\r\nHost: here\r\n\r\n");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert_eq!(header(&response, "Content-Length"), Some("6"));
    assert_eq!(body(&response), "");
}

#[test]
fn status_comes_from_the_page() {
    let server = start(PATIENT);
    assert!(get(&server, "/down").starts_with("HTTP/1.1 503 "));
    assert!(get(&server, "/broken").starts_with("HTTP/1.1 500 "));
    let response = get(&server, "/nowhere");
    assert!(response.starts_with("HTTP/1.1 404 Not Found\r\n"), "{response}");
    assert_eq!(body(&response), "There is no such page; / lists the pages.\n");
}

#[test]
fn other_methods_get_405() {
    let server = start(PATIENT);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = exchange(&server, request.as_bytes());
        let is_refused = response.starts_with("HTTP/1.1 405 Method Not Allowed\r\n");
        assert!(is_refused, "{method}: {response}");
        assert_eq!(header(&response, "Allow"), Some("GET, HEAD"), "{method}");
    }
}

#[test]
fn answers_a_client_that_shut_down_its_sending_side() {
    let server = start(PATIENT);
    let mut stream = connect(&server);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    assert!(read_to_close(&mut stream).ends_with("\r\n\r\nhello\n"));
}

#[test]
fn serves_one_request_per_connection() {
    let server = start(PATIENT);
    let twice = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2);
    assert_eq!(exchange(&server, twice.as_bytes()).matches("HTTP/1.1").count(), 1);
}

#[test]
fn garbage_gets_no_page_and_does_no_harm() {
    let server = start(PATIENT);
    let tls = [0x16, 3, 1, 0, 0xc8, 1, 0, 0, 0xc4, 3, 3];
    let h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let all: [&[u8]; 8] = [
        &tls,
        h2,
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost : \x01\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ];
    for garbage in all {
        let mut stream = connect(&server);
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(Shutdown::Write); // otherwise hyper waits for the rest
        let response = read_to_close(&mut stream);
        assert!(!response.contains("hello"), "{garbage:?}: {response}");
    }
    assert_eq!(body(&get(&server, "/")), "hello\n");
}

#[test]
fn oversized_heads_are_refused() {
    let server = start(PATIENT);
    let long = format!("GET / HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1 << 16));
    let path = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1 << 20));
    for head in [long, many, path] {
        // Unread request bytes reset the connection, which may discard the response.
        let response = exchange(&server, head.as_bytes());
        let is_refused = response.is_empty()
            || ["HTTP/1.1 431 ", "HTTP/1.1 414 "].iter().any(|start| response.starts_with(start));
        assert!(is_refused, "{response}");
    }
    let headers = "A: b\r\n".repeat(101);
    let response = exchange(&server, format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes());
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
    assert_eq!(body(&get(&server, "/")), "hello\n");
}

#[test]
fn an_unfinished_head_times_out() {
    let server = start(ClientLimits { head_time: SHORT, ..PATIENT });
    for prefix in ["", "GET", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut stream = connect(&server);
        stream.write_all(prefix.as_bytes()).expect("sent");
        // Hangs if the server does not close the connection.
        assert!(!read_to_close(&mut stream).contains("hello"));
    }
}

#[test]
fn trickling_a_head_does_not_extend_its_deadline() {
    let server = start(ClientLimits { head_time: SHORT, ..PATIENT });
    let mut stream = connect(&server);
    stream.write_all(b"GET / HTTP/1.1\r\n").expect("sent");
    // Each line arrives well within the limit. Without a deadline for the whole head, it would
    // be completed and answered.
    let is_cut = std::iter::repeat_n(b"A: b\r\n", 90).any(|line| {
        std::thread::sleep(SHORT / 10);
        stream.write_all(line).is_err()
    });
    let _ = stream.write_all(b"\r\n");
    assert!(is_cut || !read_to_close(&mut stream).contains("hello"));
}

#[test]
fn a_client_that_does_not_read_its_response_is_cut() {
    let server = start(ClientLimits {
        connections: ConnectionLimits { open: 1, ..PATIENT.connections },
        connection_time: SHORT,
        ..PATIENT
    });
    let mut lazy = connect(&server);
    lazy.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    wait_until_served(&server);
    let received = read_to_close(&mut lazy).len();
    assert!(received < LARGE, "all {received} bytes arrived");
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let server = start(ClientLimits {
        connections: ConnectionLimits { open: 3, ..PATIENT.connections },
        ..PATIENT
    });
    let busy: Vec<TcpStream> = (0..3).map(|_| lazy_client(&server)).collect();
    for _ in 0..100 {
        assert_eq!(read_to_close(&mut connect(&server)), "");
    }
    drop(busy);
    wait_until_served(&server);
}

#[test]
fn silent_clients_lock_out_no_other() {
    let server = start(ClientLimits {
        connections: ConnectionLimits { open: 3, ..PATIENT.connections },
        ..PATIENT
    });
    let _lazy = lazy_client(&server);
    let mut silent: Vec<TcpStream> = (0..2).map(|_| connect(&server)).collect();
    assert_eq!(body(&get(&server, "/")), "hello\n");
    assert_eq!(read_to_close(&mut silent[0]), "", "the longest wait is evicted");
    silent[1].write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    assert_eq!(body(&read_to_close(&mut silent[1])), "hello\n");
}

/// Returns a client that holds its connection: it stops reading after the first byte of a large
/// response.
fn lazy_client(server: &Server) -> TcpStream {
    let mut stream = connect(server);
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    stream.read_exact(&mut [0]).expect("the response begins");
    stream
}

/// Retries until a connection is free.
fn wait_until_served(server: &Server) {
    let is_served = |_: &u32| {
        std::thread::sleep(Duration::from_millis(10));
        get(server, "/").ends_with("hello\n")
    };
    assert!((0..6000).find(is_served).is_some(), "no connection becomes free");
}

#[test]
fn a_panicking_handler_ends_only_its_page() {
    let server = start(PATIENT);
    for _ in 0..20 {
        assert!(get(&server, "/panic").starts_with("HTTP/1.1 500 "));
    }
    assert_eq!(body(&get(&server, "/")), "hello\n");
}

fn refused(counts: HttpCounts, reason: Refusal) -> u64 {
    counts.refused[reason as usize]
}

#[test]
fn a_flood_builds_a_page_once_a_second() {
    let builds = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&builds);
    let handler = move |path: &str| {
        count.fetch_add(1, Ordering::Relaxed);
        page(path)
    };
    let server = start_with(config(Arc::new(handler)), PATIENT);
    let started = Instant::now();
    for _ in 0..300 {
        assert_eq!(body(&get(&server, "/")), "hello\n");
    }
    let builds = builds.load(Ordering::Relaxed);
    assert!(builds <= 1 + started.elapsed().as_secs(), "{builds} builds");
}

#[test]
fn requests_beyond_the_rate_of_a_client_get_429_and_probes_their_page() {
    let config = config(Arc::new(page));
    let counters = Arc::clone(&config.counters);
    let client_rate = Rate { per_second: 0.01, burst: 5.0 };
    let server = start_with(config, ClientLimits { client_rate, ..PATIENT });
    for _ in 0..5 {
        assert_eq!(body(&get(&server, "/")), "hello\n");
    }
    let started = Instant::now();
    for _ in 0..10 {
        let response = get(&server, "/");
        assert!(response.starts_with("HTTP/1.1 429 "), "{response}");
        assert_eq!(header(&response, "Retry-After"), Some("1"));
        assert_eq!(body(&get(&server, "/probe")), "hello\n");
    }
    assert!(started.elapsed() >= SHORT * 20, "each waits before its request is read");
    let counts = counters.counts();
    assert_eq!((counts.answered, refused(counts, Refusal::ClientRate)), (15, 10));
}

#[test]
fn requests_beyond_the_rate_of_all_clients_get_503_and_probes_their_page() {
    let rate = Rate { per_second: 0.01, burst: 3.0 };
    let server = start(ClientLimits { rate, ..PATIENT });
    let statuses: Vec<bool> =
        (0..5).map(|_| get(&server, "/").starts_with("HTTP/1.1 503 ")).collect();
    assert_eq!(statuses, [false, false, false, true, true]);
    assert_eq!(body(&get(&server, "/probe")), "hello\n");
}

#[test]
fn a_spent_cpu_share_slows_the_port_down_and_stops_nothing() {
    let config = config(Arc::new(page));
    let cpu = Arc::clone(&config.cpu);
    // One microsecond a second: the first connection spends the share.
    *cpu.lock().expect("no panic") = TimeShare::new(1e-6, Instant::now());
    let counters = Arc::clone(&config.counters);
    let server = start_with(config, PATIENT);
    let started = Instant::now();
    for _ in 0..4 {
        assert_eq!(body(&get(&server, "/probe")), "hello\n");
    }
    assert!(started.elapsed() >= Duration::from_millis(20), "{:?}", started.elapsed());
    assert!(counters.counts().paused >= Duration::from_millis(20));
}

#[test]
fn slow_readers_of_pages_lock_out_no_probe() {
    let connections = ConnectionLimits { open: 4, pages: 2, pages_of_client: 2 };
    let server = start(ClientLimits { connections, ..PATIENT });
    let _lazy = [lazy_client(&server), lazy_client(&server)];
    assert!(get(&server, "/").starts_with("HTTP/1.1 503 "));
    assert_eq!(body(&get(&server, "/probe")), "hello\n");
}

#[test]
fn five_hundred_silent_connections_lock_out_no_probe() {
    let config = config(Arc::new(page));
    let counters = Arc::clone(&config.counters);
    let server = start_with(config, ClientLimits { head_time: LONG, ..ClientLimits::default() });
    let mut silent: Vec<TcpStream> = (0..500).map(|_| connect(&server)).collect();
    for stream in &mut silent {
        let _ = stream.write_all(b"GET /probe HT"); // a few of them are closed already
    }
    for _ in 0..5 {
        assert_eq!(body(&get(&server, "/probe")), "hello\n");
    }
    assert!(refused(counters.counts(), Refusal::Connections) >= 400);
}

#[test]
fn a_page_that_is_never_built_delays_no_probe() {
    let handler = |path: &str| {
        if path == "/" {
            std::thread::sleep(Duration::from_secs(3));
        }
        page(path)
    };
    let server = start_with(config(Arc::new(handler)), PATIENT);
    let mut waiting = connect(&server);
    waiting.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let started = Instant::now();
    assert_eq!(body(&get(&server, "/probe")), "hello\n");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(body(&read_to_close(&mut waiting)), "hello\n");
}

#[test]
fn foreign_names_and_bodies_are_refused() {
    let config = config(Arc::new(page));
    let counters = Arc::clone(&config.counters);
    let server = start_with(config, PATIENT);
    let check = |request: &[u8], status: &str| {
        let response = exchange(&server, request);
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
        assert!(!response.contains("hello"), "{response}");
    };
    check(b"GET / HTTP/1.1\r\nHost: rebound.example.com\r\n\r\n", "421");
    check(b"GET / HTTP/1.1\r\n\r\n", "421");
    check(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", "413");
    let chunked = b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n";
    check(chunked, "413");
    let _ = exchange(&server, b"not http at all\r\n\r\n");
    // A malformed request is counted once its response is sent.
    let counts = || {
        let reasons = [Refusal::Host, Refusal::Body, Refusal::Malformed];
        reasons.map(|reason| refused(counters.counts(), reason))
    };
    let until = Instant::now() + TEST_TIMEOUT;
    while counts() != [2, 2, 1] && Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(counts(), [2, 2, 1]);
}

#[test]
fn a_large_page_arrives_whole() {
    let server = start(PATIENT);
    assert_eq!(body(&get(&server, "/large")).len(), LARGE);
}

#[test]
fn stop_cuts_connections_and_frees_the_port() {
    // An address that no other test listens on.
    let server = Server::start(([127, 0, 0, 2], 0).into(), config(Arc::new(page))).expect("starts");
    let address = server.address();
    let mut open = connect(&server);
    open.write_all(b"GET").expect("sent");
    server.stop();
    assert_eq!(read_to_close(&mut open), "");
    let error = TcpStream::connect(address).expect_err("the port is closed");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn an_address_in_use_is_an_error_with_a_next_step() {
    let server = start(PATIENT);
    let error = Server::start(server.address(), config(Arc::new(page))).expect_err("in use");
    assert!(matches!(error, ServerError::Listen { .. }));
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot listen on {}: ", server.address())), "{text}");
    assert!(text.ends_with("; choose another address or port"), "{text}");
}
