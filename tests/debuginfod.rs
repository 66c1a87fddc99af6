//! Debug info from debuginfod servers: names of stripped programs, without a delay, and nothing is
//! sent unless asked.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::agent::{Agent, functions, read};
use common::{
    Recorded, Recording, Running, alone, compile_with, directory, everytick, succeed, wait_until,
};
use rustix::process::Signal;

/// The functions of the program, outermost first.
const CHAIN: [&str; 3] = ["main", "middle", "leaf"];

/// A stripped program, and its debug info, which is not where it is found.
struct Stripped {
    program: PathBuf,
    debug_info: PathBuf,
    build_id: String,
}

impl Stripped {
    fn compile(directory: &Path) -> Self {
        Self::of("static.c", directory)
    }

    fn of(source: &str, directory: &Path) -> Self {
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().replace('-', "");
        let id_argument = format!("-Wl,--build-id=0x{}", id.trim());
        let program = compile_with(source, directory, "program", &[&id_argument]);
        let debug_info = directory.join("program.debug");
        succeed(Command::new("objcopy").arg("--only-keep-debug").arg(&program).arg(&debug_info));
        succeed(Command::new("strip").arg(&program));
        Self { program, debug_info, build_id: id.trim().to_owned() }
    }
}

/// What a server does with requests for the program's build ID.
#[derive(Clone)]
enum Answer {
    /// Sends a file.
    File(Vec<u8>),
    /// Sends it once this is true.
    Later(Vec<u8>, Arc<AtomicBool>),
    /// Never answers.
    Hang,
    /// Sends bytes without end.
    Endless,
}

/// A server. It runs until the tests end.
struct Server {
    url: String,
    /// Requests for the program's build ID, and for any.
    requests: Arc<[AtomicUsize; 2]>,
}

impl Server {
    fn start(build_id: &str, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let (counts, path) = (Arc::clone(&requests), format!("/buildid/{build_id}/debuginfo"));
        let shared = Arc::new(Mutex::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (counts, path) = (Arc::clone(&counts), path.clone());
                let answer = shared.lock().unwrap().clone();
                std::thread::spawn(move || serve(stream.unwrap(), &path, &counts, &answer));
            }
        });
        Self { url, requests }
    }

    /// Returns the requests for the program's build ID.
    fn requests(&self) -> usize {
        self.requests[0].load(Ordering::Relaxed)
    }

    fn all_requests(&self) -> usize {
        self.requests[1].load(Ordering::Relaxed)
    }
}

/// Answers the requests of one connection.
fn serve(mut stream: TcpStream, path: &str, counts: &[AtomicUsize; 2], answer: &Answer) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(Ok(request)) = lines.next() {
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        counts[1].fetch_add(1, Ordering::Relaxed);
        let sent = match request.split(' ').nth(1) == Some(path) {
            true => {
                counts[0].fetch_add(1, Ordering::Relaxed);
                send(&mut stream, answer)
            }
            false => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        };
        if sent.is_err() {
            return; // the client is gone
        }
    }
}

fn send(stream: &mut TcpStream, answer: &Answer) -> std::io::Result<()> {
    let file = match answer {
        Answer::File(file) => file,
        Answer::Later(file, is_due) => {
            wait_until("the release of the file", || is_due.load(Ordering::Relaxed));
            file
        }
        Answer::Hang => {
            std::thread::sleep(Duration::from_secs(600));
            return Ok(());
        }
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n\x7fELF")?;
            loop {
                stream.write_all(&[0; 65_536])?;
            }
        }
    };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.len())?;
    stream.write_all(file)
}

/// Records the program for a second.
fn record_with(program: &Running, cache: &Path, url: &str) -> Recording {
    let (pid, cache) = (program.pid(), cache.to_str().unwrap());
    let arguments = ["-F", "499", "-d", "1", "--no-kernel", "-p", &pid, "--cache-dir", cache];
    Recording::spawn(&[&arguments[..], &["--debuginfod", url]].concat())
}

fn has_names(recorded: &Recorded) -> bool {
    recorded.samples_through(&CHAIN) > 100
}

/// Returns whether a recording that was made without debug info is whole.
fn is_whole_without_names(recorded: &Recorded) -> bool {
    let stacks = recorded.folded();
    let unnamed = stacks.iter().filter(|(stack, _)| stack.last().unwrap().starts_with("program+"));
    !has_names(recorded) && unnamed.map(|(_, count)| count).sum::<u64>() > 100
}

#[test]
fn stripped_program_has_names_and_lines_and_the_next_run_asks_no_server() {
    let _alone = alone();
    let place = directory();
    let stripped = Stripped::compile(place.path());
    let server =
        Server::start(&stripped.build_id, Answer::File(fs::read(&stripped.debug_info).unwrap()));
    let (program, cache) = (Running::start(&stripped.program), place.path().join("cache"));

    let first = record_with(&program, &cache, &server.url).finish().succeeded();
    assert!(has_names(&first), "{}\n{:?}", first.stderr, first.folded());
    let has_line = |frame: &String| frame.starts_with("leaf ") && frame.ends_with("static.c:10");
    let traces = first.traces();
    assert!(traces.iter().any(|trace| trace.frames.iter().any(has_line)), "{traces:#?}");
    assert!(first.stderr.contains("debug info of 1 executable downloaded"), "{}", first.stderr);
    assert_eq!(server.requests(), 1);

    let second = record_with(&program, &cache, &server.url).finish().succeeded();
    assert!(has_names(&second), "{}", second.stderr);
    let cached = "debug info of 1 executable was downloaded before";
    assert!(second.stderr.contains(cached), "{}", second.stderr);
    assert_eq!(server.requests(), 1, "the second run asks no server");
}

#[test]
fn nothing_is_sent_unless_asked() {
    let _alone = alone();
    let place = directory();
    let stripped = Stripped::compile(place.path());
    let server =
        Server::start(&stripped.build_id, Answer::File(fs::read(&stripped.debug_info).unwrap()));
    let program = Running::start(&stripped.program);
    let pid = program.pid();
    let record = |more: &[&str]| {
        let mut command = everytick();
        command.env("DEBUGINFOD_URLS", &server.url).env("HOME", place.path());
        command.env_remove("XDG_CACHE_HOME");
        let arguments = ["-F", "499", "-d", "1", "--no-kernel", "-p", &pid];
        Recording::spawn_program(command, &[&arguments[..], more].concat()).finish().succeeded()
    };
    let without = record(&[]);
    assert!(is_whole_without_names(&without), "{}", without.stderr);
    assert_eq!(server.all_requests(), 0);
    assert!(!place.path().join(".cache").exists());

    let with = record(&["--debuginfod", "env"]);
    assert!(has_names(&with), "{}", with.stderr);
    let cache = place.path().join(".cache/everytick/debuginfo");
    assert_eq!(cache.read_dir().unwrap().count(), 1);
}

#[test]
fn bad_servers_delay_a_recording_for_a_bounded_time() {
    let _alone = alone();
    let place = directory();
    let stripped = Stripped::compile(place.path());
    let other = {
        let place = directory();
        fs::read(Stripped::compile(place.path()).debug_info).unwrap()
    };
    let program = Running::start(&stripped.program);
    for (number, (answer, reason)) in [
        (Answer::File(other), "other build ID: 1"),
        (Answer::File(b"<html>sign in</html>".into()), "not an ELF file: 1"),
        (Answer::Endless, ": 1"), // too large, or not waited for on a slow machine
        (Answer::Hang, "not waited for: 1"),
    ]
    .into_iter()
    .enumerate()
    {
        let server = Server::start(&stripped.build_id, answer);
        let cache = place.path().join(number.to_string());
        let start = Instant::now();
        let recorded = record_with(&program, &cache, &server.url).finish().succeeded();
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
        assert!(is_whole_without_names(&recorded), "{}", recorded.stderr);
        let line = recorded.stderr.lines().find(|line| line.contains("not downloaded"));
        assert!(line.is_some_and(|line| line.contains(reason)), "{reason}: {}", recorded.stderr);
        let files = cache.join("debuginfo").read_dir().unwrap();
        assert_eq!(files.count(), 0, "nothing is left of {reason}");
    }
}

#[test]
fn interrupt_ends_the_wait_and_files_are_written() {
    let _alone = alone();
    let place = directory();
    let stripped = Stripped::compile(place.path());
    let server = Server::start(&stripped.build_id, Answer::Hang);
    let program = Running::start(&stripped.program);
    let recording = record_with(&program, &place.path().join("cache"), &server.url);
    wait_until("the announcement", || recording.stderr().contains("Ctrl-C to go on without"));
    recording.signal(Signal::INT);
    let recorded = recording.finish().succeeded();
    assert!(is_whole_without_names(&recorded), "{}", recorded.stderr);
    assert!(recorded.stderr.contains("not waited for: 1"), "{}", recorded.stderr);
}

#[test]
fn windows_of_an_agent_do_not_wait_and_later_ones_have_names() {
    let _alone = alone();
    let place = directory();
    let stripped = Stripped::compile(place.path());
    let is_due = Arc::new(AtomicBool::new(false));
    let file = fs::read(&stripped.debug_info).unwrap();
    let server = Server::start(&stripped.build_id, Answer::Later(file, Arc::clone(&is_due)));
    let _program = Running::start(&stripped.program);
    let mut agent =
        Agent::start(&format!("frequency = 99\nmax_cpu = 100\ndebuginfod = \"{}\"", server.url));
    let is_named = |window: &Path| {
        let profile = read(window);
        let chain = ["leaf", "middle", "main"];
        profile
            .sample
            .iter()
            .any(|sample| functions(&profile, &sample.location_id).starts_with(&chain))
    };
    agent.wait_for("a request", || (server.requests() > 0).then_some(()));
    let before = agent.windows().len();
    agent.wait_for_windows(before + 3);
    assert!(!agent.windows().iter().any(|window| is_named(window)));
    assert!(agent.metric("everytick_debuginfod_lookups_pending") >= 1.0);
    is_due.store(true, Ordering::Relaxed);
    agent.wait_for("names", || is_named(agent.windows().last()?).then_some(()));
    // Metrics are as of a window, and names may be in it before.
    let fetched = || agent.series("everytick_debuginfod_lookups_total", "fetched");
    agent.wait_for("the metric", || (fetched() >= 1.0).then_some(()));
    assert!(agent.metric("everytick_debuginfod_received_bytes_total") > 1000.0);
    assert_eq!(server.requests(), 1);
    let [_, _, lost] = agent.stop();
    assert_eq!(lost, 0);
}

/// Runs the server of elfutils on a directory until it has the debug info of a build ID.
fn debuginfod(directory: &Path, build_id: &str) -> (Running, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut command = Command::new("debuginfod");
    command.args(["-F", "-d", ":memory:", "-p", &port]).arg(directory);
    command.env_remove("DEBUGINFOD_URLS").env("HOME", directory);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let server = Running(command.spawn().expect("debuginfod is installed by ./dev setup"));
    wait_until("the index of debuginfod", || {
        let path = format!("/buildid/{build_id}/debuginfo");
        status(&port, &path).is_some_and(|status| status.contains(" 200 "))
    });
    (server, format!("http://127.0.0.1:{port}"))
}

#[test]
fn debuginfod_of_elfutils_serves_a_directory() {
    let _alone = alone();
    let place = directory();
    let stripped = Stripped::compile(place.path());
    let (_server, url) = debuginfod(place.path(), &stripped.build_id);
    let program = Running::start(&stripped.program);
    let recorded = record_with(&program, &place.path().join("cache"), &url).finish().succeeded();
    assert!(has_names(&recorded), "{}", recorded.stderr);
}

#[test]
fn what_dwz_has_put_aside_is_downloaded_as_well() {
    let _alone = alone();
    let place = directory();
    let stripped = Stripped::of("inlined.c", place.path());
    let other = compile_with("inlined.c", place.path(), "other", &["-DOTHER"]);
    let mut dwz = Command::new("dwz");
    let files = [&stripped.debug_info, &other];
    succeed(
        dwz.current_dir(place.path()).args(["-m", "aside", "-M", "/nowhere/aside"]).args(files),
    );
    let notes = succeed(Command::new("readelf").arg("-n").arg(place.path().join("aside")));
    let id = notes.split("Build ID: ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let (_server, url) = debuginfod(place.path(), id.unwrap());
    let program = Running::start(&stripped.program);
    let recorded = record_with(&program, &place.path().join("cache"), &url).finish().succeeded();
    let is_inlined = |frame: &String| frame.starts_with("inner ") && frame.contains("inlined.c:");
    let traces = recorded.traces();
    let inlined = traces.iter().filter(|trace| trace.frames.iter().any(is_inlined));
    assert!(inlined.map(|trace| trace.count).sum::<u64>() > 20, "{traces:#?}");
}

/// Requests a path, and returns the first line of the answer.
fn status(port: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    BufReader::new(stream).lines().next()?.ok()
}
