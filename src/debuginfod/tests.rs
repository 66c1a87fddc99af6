//! Servers that do not do what they should: each costs a bounded time and has its outcome.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use profile::BuildId;
use upload::transport::DownloadLimits;

use super::{DownloadCounts, DownloadOutcome, Downloads, ServerList};
use crate::limits::Owner;

const BUILD_ID: [u8; 20] = [0xab; 20];
const LIMITS: DownloadLimits = DownloadLimits {
    connect: Duration::from_millis(300),
    answer: Duration::from_millis(300),
    pause: Duration::from_millis(300),
    total: Duration::from_millis(1500),
    bytes: 64 << 10,
};

/// What a server answers.
type Answer = fn(&mut TcpStream) -> std::io::Result<()>;

/// A server on a port of its own. It runs until the tests end.
struct TestServer {
    url: String,
    requests: Arc<AtomicUsize>,
}

impl TestServer {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, counted) = (stream.unwrap(), Arc::clone(&counted));
                std::thread::spawn(move || {
                    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    let request = lines.next()?.ok()?;
                    let is_lookup =
                        |id: &str| request == format!("GET /buildid/{id}/debuginfo HTTP/1.1");
                    let is_known = is_lookup(&"ab".repeat(20)) || is_lookup("0102");
                    assert!(is_known || request.starts_with("GET /again"), "{request}");
                    while lines.next()?.is_ok_and(|line| !line.is_empty()) {}
                    counted.fetch_add(1, Ordering::Relaxed);
                    let _ = answer(&mut stream); // the client may be gone
                    Some(())
                });
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

fn build_id() -> BuildId {
    BuildId::new(&BUILD_ID).unwrap()
}

/// Returns an ELF file with a build ID, and a section of this type with these bytes.
fn elf(build_id: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
    let mut note = [4u32, build_id.len() as u32, 3].map(u32::to_le_bytes).concat();
    note.extend(b"GNU\0");
    note.extend(build_id);
    let sections = [(0, &[][..]), (7, &note), (kind, content)];
    let mut body = Vec::new();
    let mut headers = Vec::new();
    for (kind, bytes) in sections {
        let mut header = [0u8; 64];
        header[4..8].copy_from_slice(&u32::to_le_bytes(kind));
        header[24..32].copy_from_slice(&(64 + body.len() as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        headers.extend(header);
        body.extend(bytes);
    }
    let mut file = vec![0; 64];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[40..48].copy_from_slice(&(64 + body.len() as u64).to_le_bytes());
    file[60] = sections.len() as u8;
    [file, body, headers].concat()
}

const SYMBOL_TABLE: u32 = 2;

fn good() -> Vec<u8> {
    elf(&BUILD_ID, SYMBOL_TABLE, &[1; 48])
}

fn send(stream: &mut TcpStream, length: usize, body: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")?;
    stream.write_all(body)
}

fn send_whole(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    send(stream, body.len(), body)
}

fn hang(_: &mut TcpStream) -> std::io::Result<()> {
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

fn start(directory: &Path, urls: &[&str]) -> Downloads {
    let servers = ServerList::parse(&urls.join(",")).unwrap();
    Downloads::start_within(&servers, directory, LIMITS).unwrap()
}

/// Looks the build ID up, and waits for the outcome.
fn look_up(downloads: &Downloads) -> DownloadCounts {
    let started = Instant::now();
    downloads.request(&build_id(), Owner::User(1), 1);
    while downloads.counts().pending > 0 {
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", downloads.counts());
        std::thread::sleep(Duration::from_millis(5));
    }
    downloads.counts()
}

fn check(outcome: DownloadOutcome, answer: Answer) {
    let (server, place) = (TestServer::start(answer), tempfile::tempdir().unwrap());
    let directory = place.path().join("debuginfo");
    let downloads = start(&directory, &[&server.url]);
    let counts = look_up(&downloads);
    assert_eq!(counts.count(outcome), 1, "{outcome:?}: {counts:?}");
    assert!(counts.bytes <= LIMITS.bytes + (1 << 20), "{outcome:?}: {counts:?}");
    assert!(downloads.find(&build_id()).is_empty(), "{outcome:?}");
    let requests = server.requests();
    assert!(!downloads.request(&build_id(), Owner::User(1), 1));
    assert_eq!(downloads.counts().pending, 0, "{outcome:?} is remembered");
    assert_eq!(server.requests(), requests);
    drop(downloads);
    assert_eq!(directory.read_dir().unwrap().count(), 0, "{outcome:?} leaves files");
}

#[test]
fn file_is_downloaded_once_and_then_on_disk() {
    let server = TestServer::start(|stream| send_whole(stream, &good()));
    let place = tempfile::tempdir().unwrap();
    let downloads = start(place.path(), &[&server.url]);
    assert!(downloads.find(&build_id()).is_empty());
    let counts = look_up(&downloads);
    assert_eq!((counts.count(DownloadOutcome::Fetched), counts.bytes), (1, good().len() as u64));
    assert!(downloads.request(&build_id(), Owner::User(1), 1));
    assert!(!downloads.find(&build_id()).is_empty());
    drop(downloads);
    let next = start(place.path(), &[&server.url]);
    assert_eq!(look_up(&next).count(DownloadOutcome::Cached), 1);
    assert!(!next.find(&build_id()).is_empty());
    assert_eq!(server.requests(), 1);
}

#[test]
fn truncated_file_on_disk_is_downloaded_again() {
    let server = TestServer::start(|stream| send_whole(stream, &good()));
    let place = tempfile::tempdir().unwrap();
    let downloads = start(place.path(), &[&server.url]);
    look_up(&downloads);
    drop(downloads);
    let path = place.path().read_dir().unwrap().next().unwrap().unwrap().path();
    std::fs::write(&path, &good()[..100]).unwrap();
    let next = start(place.path(), &[&server.url]);
    assert!(next.find(&build_id()).is_empty());
    assert_eq!(look_up(&next).count(DownloadOutcome::Fetched), 1);
    assert!(!next.find(&build_id()).is_empty());
}

#[test]
fn next_server_is_asked_and_one_that_fails_is_in_backoff() {
    let broken = TestServer::start(|stream| write!(stream, "HTTP/1.1 503 No\r\n\r\n"));
    let works = TestServer::start(|stream| send_whole(stream, &good()));
    let place = tempfile::tempdir().unwrap();
    let downloads = start(place.path(), &[&broken.url, &works.url]);
    assert_eq!(look_up(&downloads).count(DownloadOutcome::Fetched), 1);
    let other = BuildId::new(&[1, 2]).unwrap();
    downloads.request(&other, Owner::User(1), 1);
    let started = Instant::now();
    while downloads.counts().pending > 0 && started.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(broken.requests(), 1, "{:?}", downloads.counts());
}

#[test]
fn malformed_answers_are_not_used() {
    check(DownloadOutcome::NotFound, |stream| write!(stream, "HTTP/1.1 404 No\r\n\r\n"));
    check(DownloadOutcome::ErrorStatus, |stream| write!(stream, "HTTP/1.1 500 No\r\n\r\n"));
    check(DownloadOutcome::NotElf, |stream| send_whole(stream, b"<html>sign in</html>"));
    check(DownloadOutcome::NotElf, |stream| send_whole(stream, b""));
    check(DownloadOutcome::OtherBuildId, |stream| {
        send_whole(stream, &elf(&[1; 20], SYMBOL_TABLE, &[1; 48]))
    });
    check(DownloadOutcome::NoDebugInfo, |stream| send_whole(stream, &elf(&BUILD_ID, 1, &[1; 48])));
    check(DownloadOutcome::NoDebugInfo, |stream| {
        send_whole(stream, &elf(&BUILD_ID, SYMBOL_TABLE, b""))
    });
}

#[test]
fn truncated_files_are_not_used() {
    check(DownloadOutcome::EndedEarly, |stream| send(stream, good().len(), &good()[..100]));
    check(DownloadOutcome::NotElf, |stream| {
        write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
        stream.write_all(&good()[..good().len() - 10])
    });
}

#[test]
fn servers_that_hang_cost_a_bounded_time() {
    let started = Instant::now();
    check(DownloadOutcome::TimedOut, hang);
    check(DownloadOutcome::TimedOut, |stream| {
        send(stream, 5000, b"\x7fELF")?;
        hang(stream)
    });
    // A byte now and then is no progress.
    check(DownloadOutcome::TimedOut, |stream| {
        send(stream, 5000, b"\x7fELF")?;
        loop {
            std::thread::sleep(Duration::from_millis(100));
            stream.write_all(b"x")?;
        }
    });
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn endless_files_and_redirects_are_cut() {
    check(DownloadOutcome::TooLarge, |stream| send(stream, 10 << 30, b"\x7fELF"));
    check(DownloadOutcome::TooLarge, |stream| {
        write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            stream.write_all(&[0; 4096])?;
        }
    });
    check(DownloadOutcome::Redirects, |stream| {
        let headers = "Location: /again\r\nContent-Length: 0\r\nConnection: close";
        write!(stream, "HTTP/1.1 302 Found\r\n{headers}\r\n\r\n")
    });
}

#[test]
fn no_server_is_unreachable() {
    let place = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let downloads = start(place.path(), &[&format!("http://{free}")]);
    assert_eq!(look_up(&downloads).count(DownloadOutcome::Unreachable), 1);
}

#[test]
fn end_does_not_wait_for_a_server_that_hangs() {
    let (server, place) = (TestServer::start(hang), tempfile::tempdir().unwrap());
    let downloads = start(place.path(), &[&server.url]);
    downloads.request(&build_id(), Owner::User(1), 1);
    let started = Instant::now();
    drop(downloads);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(place.path().read_dir().unwrap().count(), 0);
}
