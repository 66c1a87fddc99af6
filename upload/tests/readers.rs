//! Every output format, read by the tools that it is for: nothing is lost, and sums are equal.
//!
//! `./dev setup test` installs the tools. stackcollapse-perf.pl of FlameGraph is in no package;
//! inferno's parser is a translation of it.
#![allow(clippy::unwrap_used)]

mod hostile_profile;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hostile_profile::{
    PERIOD_NS, START_NS, depth, functions_and_cuts, profile, profile_of, profile_with_times,
};
use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;
use profile::{Profile, SampleCount};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use upload::output::{OutputFile, OutputOptions};

/// Writes a profile to a file with this name.
fn written(profile: &Profile, directory: &Path, name: &str) -> PathBuf {
    let output = OutputFile::new(directory.join(name), OutputOptions::default()).unwrap();
    output.write(profile).unwrap();
    output.path().to_owned()
}

/// Returns a directory of npm packages, where `./dev setup test` installs them.
fn package(name: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache");
    let tools = cache.unwrap_or_else(home).join("everytick-tools/readers/node_modules");
    let package = tools.join(name);
    assert!(package.exists(), "{} is missing: run ./dev setup test", package.display());
    package
}

/// Imports a file by a script beside this test, which prints JSON.
fn import(script: &str, library: &Path, file: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers").join(script);
    let output = Command::new("node").arg(script).arg(library).arg(file).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", file.display());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn import_by_firefox(file: &Path) -> Vec<Value> {
    let library = package("@firefox-devtools/profiler-cli").join("dist/profiler-cli.js");
    import("firefox.cjs", &library, file)["threads"].as_array().unwrap().clone()
}

fn import_by_speedscope(file: &Path) -> Vec<Value> {
    let library = package("speedscope").join("dist/release");
    import("speedscope.cjs", &library, file)["profiles"].as_array().unwrap().clone()
}

/// Returns the number of frames in a list of stacks.
fn frames(stacks: &Value) -> u64 {
    let stacks = stacks.as_array().unwrap();
    stacks.iter().map(|stack| stack.as_array().unwrap().len() as u64).sum()
}

/// Returns the samples of a profile, and their frames as `count` counts those of a stack.
fn expected(profile: &Profile, count: impl Fn(&Profile, &SampleCount) -> u64) -> (u64, u64) {
    let samples = profile.samples.iter().map(|sample| sample.count).sum();
    let frames = profile.samples.iter().map(|sample| sample.count * count(profile, sample)).sum();
    (samples, frames)
}

#[test]
fn inferno_reads_every_sample_and_frame_of_perf_text() {
    let directory = tempfile::tempdir().unwrap();
    for profile in [profile(), profile_with_times()] {
        let text = fs::read(written(&profile, directory.path(), "x.perf")).unwrap();
        let mut folded = Vec::new();
        Folder::default().collapse(text.as_slice(), &mut folded).unwrap();
        let folded = String::from_utf8(folded).unwrap();
        let lines = folded.lines().map(|line| line.rsplit_once(' ').unwrap());
        let lines = lines.map(|(stack, count)| (stack, count.parse::<u64>().unwrap()));
        let found = lines.fold((0, 0), |(samples, frames), (stack, count)| {
            (samples + count, frames + count * stack.matches(';').count() as u64)
        });
        assert_eq!(found, expected(&profile, depth), "{folded}");
    }
}

#[test]
fn firefox_profiler_reads_every_sample_and_frame_of_perf_text() {
    let directory = tempfile::tempdir().unwrap();
    for profile in [profile(), profile_with_times()] {
        let threads = import_by_firefox(&written(&profile, directory.path(), "x.perf"));
        let samples = threads.iter().map(|thread| thread["samples"].as_u64().unwrap()).sum();
        let frames = threads.iter().map(|thread| frames(&thread["stacks"])).sum();
        assert_eq!((samples, frames), expected(&profile, depth));
    }
}

#[test]
fn speedscope_reads_perf_text_and_weighs_samples_by_the_time_between_them() {
    let directory = tempfile::tempdir().unwrap();
    let profile = profile();
    let threads = import_by_speedscope(&written(&profile, directory.path(), "x.perf"));
    let tids: std::collections::HashSet<_> = profile.tasks.iter().map(|task| task.tid).collect();
    assert!(threads.len() >= tids.len(), "{threads:?}");
    let (samples, _) = expected(&profile, depth);
    let several = threads.iter().filter(|thread| thread["unit"] == "seconds");
    let seconds: f64 = several.clone().map(|thread| thread["total"].as_f64().unwrap()).sum();
    // One period less than samples in each thread; a single sample weighs 1 without a unit.
    let singles = threads.len() - several.clone().count();
    let periods = samples as usize - singles - several.count();
    let expected = periods as f64 * PERIOD_NS as f64 / 1e9;
    assert!((seconds - expected).abs() < 1e-6, "{seconds} s, not {expected}");
}

#[test]
fn speedscope_reads_its_own_format_and_pprof() {
    let directory = tempfile::tempdir().unwrap();
    let profile = profile();
    let below_process =
        |profile: &Profile, sample: &SampleCount| 1 + functions_and_cuts(profile, sample);
    let without_inlined =
        |profile: &Profile, sample: &SampleCount| profile.frames_of(sample).count() as u64;
    type DepthOf<'a> = &'a dyn Fn(&Profile, &SampleCount) -> u64;
    let readings: [(&str, DepthOf<'_>); 2] =
        [("x.speedscope.json", &below_process), ("x.pb.gz", &without_inlined)];
    for (name, depth_of) in readings {
        let profiles = import_by_speedscope(&written(&profile, directory.path(), name));
        let [one] = &*profiles else { panic!("{profiles:?}") };
        let (samples, frames) = expected(&profile, depth_of);
        assert_eq!(one["unit"], "nanoseconds", "{name}");
        assert_eq!(one["total"].as_u64(), Some(samples * PERIOD_NS), "{name}");
        let stacks = one["stacks"].as_array().unwrap();
        let weights = one["weights"].as_array().unwrap();
        let weighted = stacks.iter().zip(weights).map(|(stack, weight)| {
            stack.as_array().unwrap().len() as u64 * weight.as_u64().unwrap()
        });
        assert_eq!(weighted.sum::<u64>(), frames * PERIOD_NS, "{name}");
    }
}

#[test]
fn firefox_profiler_reads_its_own_format_with_all_times() {
    let directory = tempfile::tempdir().unwrap();
    let profile = profile_with_times();
    let threads = import_by_firefox(&written(&profile, directory.path(), "x.firefox.json.gz"));
    let samples = threads.iter().map(|thread| thread["samples"].as_u64().unwrap()).sum();
    let frames = threads.iter().map(|thread| frames(&thread["stacks"])).sum();
    assert_eq!((samples, frames), expected(&profile, depth));
    let timeline = profile.timeline.as_ref().unwrap();
    let mut times: Vec<f64> = threads
        .iter()
        .flat_map(|thread| thread["times"].as_array().unwrap().iter())
        .map(|time| time.as_f64().unwrap())
        .collect();
    times.sort_by(f64::total_cmp);
    let since_start = timeline.times.iter().map(|sample| (sample.time_ns - START_NS) as f64 / 1e6);
    assert!(times.iter().zip(since_start).all(|(found, due)| (found - due).abs() < 1e-6));
    let ids = threads.iter().map(|thread| (thread["pid"].clone(), thread["tid"].clone()));
    assert_eq!(ids.collect::<std::collections::HashSet<_>>().len(), threads.len());
}

#[test]
fn go_tool_pprof_reads_every_sample_and_names_no_library() {
    let directory = tempfile::tempdir().unwrap();
    let profile = profile();
    let file = written(&profile, directory.path(), "x.pb.gz");
    let mut command = Command::new("go");
    command.args(["tool", "pprof", "-top", "-sample_index=samples", "-nodecount=1"]).arg(&file);
    let output = command.output().expect("go is installed by ./dev setup");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (samples, _) = expected(&profile, depth);
    assert!(text.contains(&format!("of {samples} total")), "{text}");
    assert!(text.starts_with("File: [several processes]\nhost h\nType: samples\n"), "{text}");
}

#[test]
fn go_tool_pprof_hides_machinery_by_its_mapping() {
    let directory = tempfile::tempdir().unwrap();
    let mut profile = profile_of(&["python3", "native"].map(String::from));
    profile.mappings[0] = profile.mappings[0].machinery();
    let file = written(&profile, directory.path(), "x.pb.gz");
    let has_frames = |arguments: &[&str]| {
        let mut command = Command::new("go");
        command.args(["tool", "pprof", "-top", "-sample_index=samples"]).args(arguments).arg(&file);
        let output = command.output().expect("go is installed by ./dev setup");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ["python3 (deleted)+0x3", "native (deleted)+0x3"].map(|name| text.contains(name))
    };
    assert_eq!(has_frames(&[]), [true, true]);
    assert_eq!(has_frames(&["-hide", r"\[interpreter\]$"]), [false, true]);
}

#[test]
fn go_tool_pprof_serves_its_web_page() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(&profile(), directory.path(), "x.pb.gz");
    let mut command = Command::new("go");
    command.args(["tool", "pprof", "-no_browser", "-http=127.0.0.1:"]).arg(&file);
    command.stderr(Stdio::piped()).stdout(Stdio::null()).stdin(Stdio::null()).process_group(0);
    let mut server = command.spawn().unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map(Result::unwrap);
    let serving = lines.find(|line| line.contains("Serving web UI on ")).expect("it starts");
    let (_, address) = serving.rsplit_once("http://").unwrap();
    let mut page = String::new();
    let mut stream = connect(address);
    write!(stream, "GET /ui/flamegraph HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let _ = stream.read_to_string(&mut page);
    // go runs pprof as a process of its own.
    let group = Pid::from_child(&server);
    kill_process_group(group, Signal::KILL).unwrap();
    server.wait().unwrap();
    assert!(page.starts_with("HTTP/1.0 200"), "{page}");
    assert!(page.contains("[several processes] cpu"), "{page}");
}

/// Connects to a server that has announced its address, perhaps before it listens there.
fn connect(address: &str) -> TcpStream {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
