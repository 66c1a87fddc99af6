//! Outputs of a recording: on standard output, and with the times of samples.
#![allow(clippy::unwrap_used)]

mod common;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use common::{Running, alone, compile, directory, everytick, parse_folded, record};
use rustix::time::{ClockId, clock_gettime};

#[test]
fn standard_output_has_the_profile_alone() {
    let _alone = alone();
    let script = "echo of the command; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let mut command = everytick();
    command.args(["record", "-q", "-F", "499", "-o", "-", "--format", "folded", "--"]);
    let output = command.args(["sh", "-c", script]).stdin(Stdio::null()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), output.stderr);
    assert!(String::from_utf8_lossy(&stderr).contains("of the command"), "{stdout}");
    let folded = parse_folded(&stdout);
    // Before its exec the command is a copy of this program.
    assert!(folded.iter().all(|(stack, _)| ["sh", "everytick"].contains(&&*stack[0])), "{stdout}");
    assert!(folded.iter().map(|(_, count)| count).sum::<u64>() > 10, "{stdout}");
}

/// Returns the time now in seconds, on the clock of samples.
fn now() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[test]
fn samples_have_the_times_at_which_they_were_taken() {
    let _alone = alone();
    let place = directory();
    let running = Running::start(&compile("chain.c", place.path(), "chain"));
    let started = now();
    let mut command = everytick();
    command.args(["record", "-q", "-F", "499", "-d", "1", "--timestamps", "-p", &running.pid()]);
    command.args(["-o", "x.perf", "-o", "x.FOLDED", "-o", "x.firefox.json.gz"]);
    let output = command.current_dir(place.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ended = now();

    let text = fs::read_to_string(place.path().join("x.perf")).unwrap();
    let events = text.lines().filter(|line| line.ends_with(": cpu-clock: "));
    let times: Vec<f64> = events
        .map(|line| {
            let (thread, rest) = line.split_once(" [").unwrap();
            assert_eq!(thread, format!("chain  {0}/{0}", running.pid()), "{line}");
            let (cpu, time) = rest.split_once("] ").unwrap();
            assert!(cpu.parse::<u32>().is_ok(), "{line}");
            time.split(':').next().unwrap().parse().unwrap()
        })
        .collect();
    assert!(times.is_sorted() && times.iter().all(|time| (started..ended).contains(time)));
    let folded = fs::read_to_string(place.path().join("x.FOLDED")).unwrap();
    let samples: u64 = parse_folded(&folded).iter().map(|(_, count)| count).sum();
    assert!(samples > 50 && samples == times.len() as u64, "{samples}, {} times", times.len());
    // The import of this file is tested in upload/tests/readers.rs.
    assert!(fs::read(place.path().join("x.firefox.json.gz")).unwrap().starts_with(&[0x1f, 0x8b]));
}

#[test]
fn summary_names_the_package_that_has_the_symbols_of_a_stripped_program() {
    let _alone = alone();
    let place = directory();
    let loops = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let run = |program: &Path| {
        record(&["-F", "499", "--", program.to_str().unwrap(), "-c", loops]).succeeded().stderr
    };
    let dash = Path::new("/usr/bin/dash");
    let hint = " in functions without a name: /usr/bin/dash is stripped; install dash-dbgsym\n";
    let printed = run(dash);
    assert!(printed.contains(hint), "{printed}");
    // A copy is of no package.
    let copy = place.path().join("dash");
    fs::copy(dash, &copy).unwrap();
    let printed = run(&copy);
    let hint = format!(" in functions without a name: {} is stripped\n", copy.display());
    assert!(printed.contains(&hint), "{printed}");
}

/// Returns the kind of a frame in a picture, its tooltip, and the row that it is drawn in.
fn shown<'a>(svg: &'a str, name: &str) -> (&'a str, &'a str, u32) {
    let start = format!("<title>{name}\n");
    let frame = svg.split("<g class=\"").find(|frame| frame.contains(&start));
    let frame = frame.unwrap_or_else(|| panic!("no {name} in {svg}"));
    let between = |from: &str, to: &str| {
        let rest = frame.split_once(from).unwrap().1;
        rest.split_once(to).unwrap().0
    };
    let row = between("\" y=\"", "\"").parse().unwrap();
    (frame.split('"').next().unwrap(), between("<title>", "</title>"), row)
}

#[test]
fn picture_tells_what_frames_are_and_where_they_were_recorded() {
    let _alone = alone();
    let place = directory();
    let running = Running::start(&compile("inlined.c", place.path(), "inlined"));
    for direction in [None, Some("--bottom-up")] {
        let mut command = everytick();
        command.args(["record", "-q", "-F", "499", "-d", "1", "-p", &running.pid()]);
        command.args(["-o", "x.svg", "-o", "x.folded"]).args(direction);
        let output = command.current_dir(place.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let svg = fs::read_to_string(place.path().join("x.svg")).unwrap();
        let (kind, tooltip, outer) = shown(&svg, "outer");
        assert_eq!(kind, "native");
        assert!(tooltip.contains(" of all\nnative, "), "{tooltip}");
        assert!(tooltip.contains("/inlined, "), "{tooltip}");
        let (kind, tooltip, inner) = shown(&svg, "inner");
        assert_eq!(kind, "inlined");
        assert!(tooltip.ends_with("inlined.c:9"), "{tooltip}");
        assert_eq!(inner < outer, direction.is_some(), "rows {inner} and {outer}");
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let title = format!("CPU time on {host}: process {}", running.pid());
        assert!(svg.contains(&title), "no {title}");
        assert!(svg.contains(" s at 499 Hz on ") && svg.contains("the machine was "));
        let folded = fs::read_to_string(place.path().join("x.folded")).unwrap();
        assert!(folded.contains(";main;outer;middle_[i];inner_[i] "), "{folded}");
    }
}
