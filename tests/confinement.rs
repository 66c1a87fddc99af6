//! What a worker that parses files of other users can do, tried from inside: a process confines
//! itself and then attempts what an attacker would.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::thread;

use everytick::kernel::confine;
use rustix::process::{PidfdFlags, getppid, pidfd_open, test_kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space, set_thread_uid};

/// Attempts an action, and writes whether it was refused: not whether it failed for another reason.
fn attempt<T>(what: &str, result: Result<T, impl Into<io::Error>>) {
    let error = result.err().map(|error| error.into().kind());
    let outcome = match error {
        Some(io::ErrorKind::PermissionDenied) => "refused".into(),
        other => format!("NOT refused: {other:?}"),
    };
    println!("attempt: {what} {outcome}");
}

/// Runs in a process of its own, see below.
#[test]
#[ignore = "confines this process"]
fn attempts() {
    let held = File::open("/etc/passwd").unwrap();
    let parent = getppid().unwrap();
    confine().unwrap();
    attempt("opening a file", File::open("/etc/passwd"));
    attempt("opening memory", File::open("/proc/self/mem"));
    attempt("opening a process", File::open(format!("/proc/{}/maps", parent.as_raw_nonzero())));
    attempt("creating a file", File::create("/tmp/everytick-confined"));
    attempt("listing a directory", std::fs::read_dir("/"));
    attempt("removing a file", std::fs::remove_file("/tmp/everytick-confined"));
    attempt("connecting", TcpStream::connect("127.0.0.1:9"));
    attempt("listening", TcpListener::bind("127.0.0.1:0"));
    attempt("a socket of its own", UnixDatagram::unbound());
    attempt("a pair of sockets", UnixStream::pair());
    attempt("executing", Command::new("/bin/true").status());
    attempt("starting a thread", thread::Builder::new().spawn(|| ()));
    attempt("a signal", test_kill_process(parent));
    attempt("a handle of a process", pidfd_open(parent, PidfdFlags::empty()));
    attempt("memory files", rustix::fs::memfd_create("memory", rustix::fs::MemfdFlags::empty()));
    attempt("another user", set_thread_uid(rustix::fs::Uid::from_raw(1)));
    attempt(
        "a name space",
        move_into_link_name_space(held.as_fd(), Some(LinkNameSpaceType::Mount)),
    );
    // What it must be able to do.
    let mut bytes = [0; 4];
    held.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"root");
    assert!(held.metadata().unwrap().len() > 4);
    drop(vec![1u8; 64 << 20]);
    println!("attempt: end");
}

#[test]
fn a_confined_process_can_read_what_it_holds_and_nothing_else() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", "attempts", "--ignored", "--nocapture"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let attempts = text.lines().filter_map(|line| line.split_once("attempt: "));
    let results: Vec<&str> = attempts.map(|(_, result)| result).collect();
    let (end, attempts) = results.split_last().unwrap_or_else(|| panic!("{output:?}"));
    assert_eq!(*end, "end", "{output:?}");
    assert_eq!(attempts.len(), 17);
    assert!(attempts.iter().all(|result| result.ends_with("refused")), "{attempts:#?}");
}
