//! The worker processes of this program: what they may do, and what is known about their cost.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use everytick::workers::{Supervisor, Timeout};
use symbolizer::proto::{FileRole, Request, Response};

const PROGRAM: &str = env!("CARGO_BIN_EXE_everytick");

fn start(arguments: &[&str]) -> Supervisor {
    let mut supervisor = Supervisor::new(PROGRAM, arguments.iter().map(|text| text.to_string()));
    let timeout = Timeout::after(Duration::from_secs(120));
    supervisor.call::<()>(&Request::default(), timeout).unwrap();
    supervisor
}

/// Sends a request about a file, and returns the answer.
fn call(supervisor: &mut Supervisor, request: &Request, file: &fs::File) -> Response {
    let timeout = Timeout::after(Duration::from_secs(120));
    supervisor.send(request, &[file.as_fd()], &|| false).unwrap();
    supervisor.receive(timeout, None).unwrap().unwrap().response
}

fn read(supervisor: &Supervisor, file: &str) -> String {
    let pid = supervisor.worker_pid().unwrap();
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
}

#[test]
fn workers_get_no_privileges_and_nothing_of_the_environment() {
    assert!(std::env::vars().count() > 1, "there is something to inherit");
    for arguments in [&["symbolizer-worker", "64"][..], &["file-helper"], &["deriver"]] {
        let worker = start(arguments);
        let status = read(&worker, "status");
        assert!(status.contains("NoNewPrivs:\t1"), "{arguments:?}: {status}");
        assert_eq!(read(&worker, "environ"), "MALLOC_TRIM_THRESHOLD_=131072\0", "{arguments:?}");
    }
}

#[test]
fn workers_that_parse_files_have_no_capabilities_and_few_system_calls() {
    for arguments in [&["symbolizer-worker", "64"][..], &["deriver"]] {
        let worker = start(arguments);
        let status = read(&worker, "status");
        for set in ["CapEff", "CapPrm", "CapInh"] {
            assert!(status.contains(&format!("{set}:\t0000000000000000")), "{set}: {status}");
        }
        assert!(status.contains("Seccomp:\t2"), "{arguments:?}: {status}");
    }
}

#[test]
fn workers_end_with_the_thread_that_started_them() {
    for arguments in [&["symbolizer-worker", "64"][..], &["file-helper"], &["deriver"]] {
        let start = || {
            let worker = start(arguments);
            let pid = worker.worker_pid().unwrap();
            std::mem::forget(worker); // its socket stays open, as that of a killed agent does not
            pid
        };
        let pid = thread::scope(|scope| scope.spawn(start).join()).unwrap();
        let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while !stat().contains(") Z ") {
            assert!(Instant::now() < until, "{arguments:?} goes on: {}", stat());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn workers_hold_no_file_of_the_agent() {
    let _open = fs::File::open(PROGRAM).unwrap();
    let worker = start(&["symbolizer-worker", "64"]);
    let pid = worker.worker_pid().unwrap();
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = files.map(|file| fs::read_link(file.unwrap().path()).unwrap());
    let targets: Vec<_> = targets.collect();
    assert!(targets.iter().any(|target| target.to_str().unwrap().starts_with("socket:")));
    let own = format!("/proc/{pid}/status");
    let others = targets.iter().filter(|target| target.to_str() != Some(&own));
    assert!(!{ others }.any(|target| target.is_file()), "{targets:?}");
}

#[test]
fn symbols_of_this_program_come_with_their_cost() {
    let mut worker = start(&["symbolizer-worker", "1024"]);
    let before = worker.usage();
    let request = Request {
        addresses: vec![entry_point()],
        symbols_only: true,
        files: vec![FileRole::Own.into()],
        file: 1,
        names_max: 1 << 20,
        ..Request::default()
    };
    let response = call(&mut worker, &request, &fs::File::open(PROGRAM).unwrap());
    assert_eq!(response.symbols[0].functions[0].name, "_start", "{response:?}");
    assert!(worker.usage().cpu > before.cpu && worker.usage().peak_rss_kib > 1000);
    let used = worker.usage().cpu;
    worker.stop();
    assert!(worker.usage().cpu >= used, "nothing of a killed worker is lost");
}

fn entry_point() -> u64 {
    u64::from_le_bytes(fs::read(PROGRAM).unwrap()[24..32].try_into().unwrap())
}
