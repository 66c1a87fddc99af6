//! Processes that pretend to be an interpreter cost no other process its profile.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::known_stacks::{Frame, Stack, stacks};
use common::python::Program;
use common::{Running, alone, compile, compile_with, directory, in_parallel, pause, record};

/// Versions that the program pretends to be.
const MINORS: [&str; 3] = ["11", "12", "13"];
/// What is wrong with the memory of the program: see `fake_python.c`.
const WAYS: [&str; 10] = [
    "loop",
    "self",
    "long",
    "lengths",
    "unmapped",
    "astray",
    "misaligned",
    "owners",
    "names",
    "churn",
];
const CHAIN: [&str; 6] = ["good", "main", "a", "b", "c", "spin"];

/// Compiles the program for each version.
fn compile_all(directory: &Path) -> Vec<PathBuf> {
    in_parallel(MINORS, |minor| {
        let define = format!("-DMINOR={minor}");
        compile_with("fake_python.c", directory, &format!("fake{minor}"), &["-rdynamic", &define])
    })
}

/// Starts each version of the program in some ways, with the lowest priority.
fn start_all(programs: &[PathBuf], ways: &[&str]) -> Vec<Running> {
    let start = |(program, way): (&PathBuf, &&str)| {
        let running = Running::start_with(program, &[way.into()]);
        let pid = rustix::process::Pid::from_raw(running.0.id() as i32);
        rustix::process::setpriority_process(pid, 19).unwrap();
        running
    };
    let pairs = programs.iter().flat_map(|program| ways.iter().map(move |way| (program, way)));
    let running = pairs.map(start).collect();
    pause(200); // each has made its frames
    running
}

fn of<'a>(stacks: &'a [Stack], running: &'a Running) -> impl Iterator<Item = &'a Stack> {
    stacks.iter().filter(|stack| stack.pid == running.0.id())
}

#[test]
fn well_formed_imitation_has_its_frames() {
    let _alone = alone();
    let place = directory();
    let running = start_all(&compile_all(place.path()), &["plain"]);
    let pids: Vec<String> = running.iter().map(Running::pid).collect();
    let mut arguments = vec!["-F", "997", "-d", "4", "--no-kernel"];
    pids.iter().for_each(|pid| arguments.extend(["-p", pid]));
    let recorded = record(&arguments).succeeded();
    let stacks = stacks(&recorded.pprof());
    for (running, minor) in running.iter().zip(MINORS) {
        let frame = |name: &str, line| Frame::Python {
            name: name.into(),
            file: "fake.py".into(),
            first_line: line,
            line,
        };
        let expected = [&frame("fake_inner", 7), &frame("fake_outer", 9)];
        let right = of(&stacks, running).filter(|stack| stack.python() == expected);
        let right: u64 = right.map(|stack| stack.count).sum();
        let all: u64 = of(&stacks, running).map(|stack| stack.count).sum();
        assert!(all > 20 && right * 100 >= all * 99, "3.{minor}: {right} of {all}");
    }
}

#[test]
fn hostile_imitations_cost_their_own_frames_only() {
    let _alone = alone();
    let place = directory();
    let mut hostile = start_all(&compile_all(place.path()), &WAYS);
    let options = ["-rdynamic", "-DMINOR=13", "-DIS_ABSURD"];
    let absurd = compile_with("fake_python.c", place.path(), "absurd", &options);
    hostile.extend(start_all(&[absurd], &["plain"]));
    let _good = Running::start(&compile("chain.c", place.path(), "good"));
    // The whole machine is recorded, the imitations too.
    let run = Program::new("generators.py", &[]).with_all_others().check();
    let named = run.recorded.samples_through(&CHAIN);
    let all = run.recorded.samples_through(&["good"]);
    assert!(all > 200 && named * 1000 >= all * 999, "{named} of {all}: {}", run.recorded.stderr);
    // Each of them is sampled, and its native stack is what it would be without its frames.
    let stacks = stacks(&run.recorded.pprof());
    for running in &hostile {
        let is_whole = |stack: &&Stack| {
            stack.frames.iter().any(|frame| match frame {
                Frame::Native { function, .. } => function == "main",
                Frame::Python { .. } => false,
            })
        };
        let all: u64 = of(&stacks, running).map(|stack| stack.count).sum();
        let whole: u64 = of(&stacks, running).filter(is_whole).map(|stack| stack.count).sum();
        assert!(all > 0 && whole * 10 >= all * 9, "{}: {whole} of {all}", running.pid());
    }
}

#[test]
fn hostile_names_stay_on_their_line() {
    let _alone = alone();
    let place = directory();
    let running = start_all(&compile_all(place.path()), &["names"]);
    let mut arguments = vec!["-F", "499", "-d", "1", "--no-kernel"];
    let pids: Vec<String> = running.iter().map(Running::pid).collect();
    pids.iter().for_each(|pid| arguments.extend(["-p", pid]));
    let recorded = record(&arguments).succeeded();
    let text = std::fs::read_to_string(recorded.directory.path().join("out.folded")).unwrap();
    for line in text.lines() {
        let is_process = line.starts_with("fake1");
        let is_count = line.rsplit_once(' ').is_some_and(|(_, count)| count.parse::<u64>().is_ok());
        assert!(is_process && is_count, "{line:?}");
        assert_eq!(profile::printable(line), line);
        assert!(!line.split(';').any(|frame| frame == "x 9"), "{line:?}");
    }
    let samples: u64 = recorded.folded().iter().map(|(_, count)| count).sum();
    let aggregated = recorded.ledger()["aggregated"];
    assert_eq!(samples, aggregated, "{}", recorded.stderr);
}
