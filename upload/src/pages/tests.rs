//! Clients as they come: good ones, slow ones, too many, and those that speak something else.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::serve::Bounds;
use super::{Page, Pages, PagesError};

/// More than the buffers of a connection hold.
const LARGE: usize = 64 << 20;
/// A test that waits longer than this for an answer or an end has failed.
const HANGS: Duration = Duration::from_secs(60);
/// No limit of time is met within a test.
const LONG: Duration = Duration::from_secs(600);
/// A limit of time is met at once.
const SHORT: Duration = Duration::from_millis(50);

const PATIENT: Bounds = Bounds { connections: 16, head_time: LONG, connection_time: LONG };

fn start(bounds: Bounds) -> Pages {
    let answer = |path: &str| match path {
        "/" => Some(Page::text(200, "hello\n")),
        "/down" => Some(Page::text(503, "no\n")),
        "/large" => Some(Page::text(200, "x".repeat(LARGE))),
        "/broken" => Some(Page::text(7, "no such status")),
        "/panic" => panic!("as the test wants it"),
        _ => None,
    };
    Pages::start_within((Ipv4Addr::LOCALHOST, 0).into(), Arc::new(answer), bounds).expect("starts")
}

fn connect(pages: &Pages) -> TcpStream {
    let stream = TcpStream::connect(pages.address()).expect("connects");
    stream.set_read_timeout(Some(HANGS)).expect("has a limit");
    stream
}

/// Reads until the server closes. A reset is an end like any other.
fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server does not close: {error}"),
    }
    String::from_utf8(bytes).expect("text")
}

/// Sends what the server may not even want to read, and gives its answer.
fn ask(pages: &Pages, request: &[u8]) -> String {
    let mut stream = connect(pages);
    let _ = stream.write_all(request);
    rest(&mut stream)
}

fn get(pages: &Pages, path: &str) -> String {
    ask(pages, format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").as_bytes())
}

fn header<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = response.split_once("\r\n\r\n")?;
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").expect("a head").1
}

#[test]
fn a_page_is_answered_and_the_connection_closed() {
    let pages = start(PATIENT);
    let response = get(&pages, "/?query=is+not+the+path");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert_eq!(header(&response, "Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(header(&response, "Content-Length"), Some("6"));
    assert_eq!(header(&response, "Connection"), Some("close"));
    assert_eq!(body(&response), "hello\n");
}

#[test]
fn head_is_the_head_of_get() {
    let pages = start(PATIENT);
    let response = ask(&pages, b"HEAD / HTTP/1.1\r\nHost: here\r\n\r\n");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert_eq!(header(&response, "Content-Length"), Some("6"));
    assert_eq!(body(&response), "");
}

#[test]
fn the_status_is_that_of_the_page() {
    let pages = start(PATIENT);
    assert!(get(&pages, "/down").starts_with("HTTP/1.1 503 "));
    assert!(get(&pages, "/broken").starts_with("HTTP/1.1 500 "));
    let response = get(&pages, "/nowhere");
    assert!(response.starts_with("HTTP/1.1 404 Not Found\r\n"), "{response}");
    assert_eq!(body(&response), "There is no such page; / names those that there are.\n");
}

#[test]
fn other_methods_are_not_allowed() {
    let pages = start(PATIENT);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let response = ask(&pages, format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert!(
            response.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
            "{method}: {response}"
        );
        assert_eq!(header(&response, "Allow"), Some("GET, HEAD"), "{method}");
    }
}

#[test]
fn a_client_that_says_that_it_has_no_more_to_say_is_answered() {
    let pages = start(PATIENT);
    let mut stream = connect(&pages);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    assert!(rest(&mut stream).ends_with("\r\n\r\nhello\n"));
}

#[test]
fn a_second_request_on_a_connection_is_not_served() {
    let pages = start(PATIENT);
    let twice = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2);
    assert_eq!(ask(&pages, twice.as_bytes()).matches("HTTP/1.1").count(), 1);
}

#[test]
fn garbage_gets_no_page_and_does_no_harm() {
    let pages = start(PATIENT);
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
        let mut stream = connect(&pages);
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(Shutdown::Write); // or hyper waits for more of it
        let response = rest(&mut stream);
        assert!(!response.contains("hello"), "{garbage:?}: {response}");
    }
    assert_eq!(body(&get(&pages, "/")), "hello\n");
}

#[test]
fn a_head_that_does_not_end_is_given_up() {
    let pages = start(PATIENT);
    let long = format!("GET / HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1 << 16));
    let path = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1 << 20));
    for head in [long, many, path] {
        // The rest of what was sent resets the connection, and may take the answer with it.
        let response = ask(&pages, head.as_bytes());
        let is_refused = response.is_empty()
            || ["HTTP/1.1 431 ", "HTTP/1.1 414 "].iter().any(|start| response.starts_with(start));
        assert!(is_refused, "{response}");
    }
    let headers = "A: b\r\n".repeat(101);
    let response = ask(&pages, format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes());
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
    assert_eq!(body(&get(&pages, "/")), "hello\n");
}

#[test]
fn a_client_that_does_not_finish_its_head_is_closed() {
    let pages = start(Bounds { head_time: SHORT, ..PATIENT });
    for begun in ["", "GET", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut stream = connect(&pages);
        stream.write_all(begun.as_bytes()).expect("sent");
        assert_eq!(rest(&mut stream).find("hello"), None); // would hang if it were not closed
    }
}

#[test]
fn a_client_that_sends_a_byte_now_and_then_gains_no_time() {
    let pages = start(Bounds { head_time: SHORT, ..PATIENT });
    let mut stream = connect(&pages);
    stream.write_all(b"GET / HTTP/1.1\r\n").expect("sent");
    // Each is well within the limit. Without an end to it, the head would end and be answered.
    let is_cut = std::iter::repeat_n(b"A: b\r\n", 90).any(|line| {
        std::thread::sleep(SHORT / 10);
        stream.write_all(line).is_err()
    });
    let _ = stream.write_all(b"\r\n");
    assert!(is_cut || !rest(&mut stream).contains("hello"));
}

#[test]
fn a_client_that_does_not_take_its_answer_loses_its_seat() {
    let pages = start(Bounds { connections: 1, connection_time: SHORT, ..PATIENT });
    let mut lazy = connect(&pages);
    lazy.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    until_served(&pages);
    let taken = rest(&mut lazy).len();
    assert!(taken < LARGE, "{taken} bytes were not cut");
}

#[test]
fn connections_beyond_the_bound_are_closed_at_once() {
    let pages = start(Bounds { connections: 3, ..PATIENT });
    let seated: Vec<TcpStream> = (0..3).map(|_| lazy(&pages)).collect();
    for _ in 0..100 {
        assert_eq!(rest(&mut connect(&pages)), "");
    }
    drop(seated);
    until_served(&pages);
}

#[test]
fn who_says_nothing_keeps_nobody_out() {
    let pages = start(Bounds { connections: 3, ..PATIENT });
    let _lazy = lazy(&pages);
    let mut silent: Vec<TcpStream> = (0..2).map(|_| connect(&pages)).collect();
    assert_eq!(body(&get(&pages, "/")), "hello\n");
    assert_eq!(rest(&mut silent[0]), "", "it has waited longest");
    silent[1].write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    assert_eq!(body(&rest(&mut silent[1])), "hello\n");
}

/// A client that keeps its seat: it has begun to take a large answer, and takes no more.
fn lazy(pages: &Pages) -> TcpStream {
    let mut stream = connect(pages);
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    stream.read_exact(&mut [0]).expect("it begins");
    stream
}

/// Asks until there is a seat.
fn until_served(pages: &Pages) {
    let is_served = |_: &u32| {
        std::thread::sleep(Duration::from_millis(10));
        get(pages, "/").ends_with("hello\n")
    };
    assert!((0..6000).find(is_served).is_some(), "no seat becomes free");
}

#[test]
fn a_page_that_panics_takes_nobody_along() {
    let pages = start(PATIENT);
    for _ in 0..20 {
        assert_eq!(get(&pages, "/panic"), "");
    }
    assert_eq!(body(&get(&pages, "/")), "hello\n");
}

#[test]
fn a_large_page_arrives_whole() {
    let pages = start(PATIENT);
    assert_eq!(body(&get(&pages, "/large")).len(), LARGE);
}

#[test]
fn stopping_ends_connections_and_frees_the_port() {
    // An address that no other test listens on.
    let pages = Pages::start(([127, 0, 0, 2], 0).into(), Arc::new(|_| None)).expect("starts");
    let address = pages.address();
    let mut open = connect(&pages);
    open.write_all(b"GET").expect("sent");
    pages.stop();
    assert_eq!(rest(&mut open), "");
    assert_eq!(
        TcpStream::connect(address).expect_err("nobody listens").kind(),
        io::ErrorKind::ConnectionRefused
    );
}

#[test]
fn an_address_that_is_taken_says_what_to_do() {
    let pages = start(PATIENT);
    let error = Pages::start(pages.address(), Arc::new(|_| None)).expect_err("it is taken");
    assert!(matches!(error, PagesError::Listen { .. }));
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot listen on {}: ", pages.address())), "{text}");
    assert!(text.ends_with("; choose another address or port"), "{text}");
}
