//! Files that are made to cost the symbolizer memory or time lose their own names, and no other
//! program loses one, in the same window.
#![allow(clippy::unwrap_used)]

mod bombs;
mod common;

use std::path::{Path, PathBuf};

use bombs::{
    Compression, compressed, compressed_call_frames, cyclic_specification, deep_inlining,
    endless_names, enormous_names, huge_call_frames, huge_code, many_sections,
    quadratic_abbreviations, renamed, section_outside, sparse_symbols, sparse_symbols_alone,
    sparse_unit,
};
use common::agent::{Agent, functions, labels};
use common::cgroup::Cgroup;
use common::{Recorded, Running, alone, compile, directory, pause, record};
use profile::pprof::proto::Profile;

const CHAIN: [&str; 5] = ["main", "a", "b", "c", "spin"];

/// Records a program and others beside it; checks the names of the first.
fn record_with(programs: &[PathBuf], directory: &Path) -> Recorded {
    let good = Running::start(&compile("chain.c", directory, "good"));
    let running: Vec<Running> = programs.iter().map(|program| Running::start(program)).collect();
    let pids: Vec<String> = running.iter().chain([&good]).map(Running::pid).collect();
    let mut arguments = vec!["-F", "99", "-d", "2"];
    pids.iter().for_each(|pid| arguments.extend(["-p", pid]));
    let recorded = record(&arguments).succeeded();
    let frames = [&["good"], &CHAIN[..]].concat();
    let (named, all) = (recorded.samples_through(&frames), recorded.samples_through(&["good"]));
    assert!(all > 5 && named * 10 >= all * 9, "{named} of {all} samples: {}", recorded.stderr);
    recorded
}

#[test]
fn crafted_dwarf_ends_and_leaves_the_symbol_tables() {
    let _alone = alone();
    let place = directory();
    let programs = [
        cyclic_specification(place.path(), "cyclic"),
        deep_inlining(place.path(), "deep"),
        quadratic_abbreviations(place.path(), "quadratic", 4_000),
    ];
    let recorded = record_with(&programs, place.path());
    for name in ["cyclic", "deep", "quadratic"] {
        let (named, all) =
            (recorded.samples_through(&[name, "main"]), recorded.samples_through(&[name]));
        assert!(all > 0 && named * 10 >= all * 9, "{name}: {named} of {all}: {}", recorded.stderr);
    }
}

/// Makes programs whose debug information is small in the file and enormous to its reader.
fn debug_information_bombs(place: &Path) -> Vec<PathBuf> {
    let (zlib, zstd) = (Compression::Zlib, Compression::Zstd);
    let (large, small) = (1500 << 20, 1000);
    vec![
        sparse_unit(place, "sparse_unit"),
        section_outside(place, "outside"),
        compressed(place, "zlib", ".debug_str", zlib, [large, large]),
        compressed(place, "zstd", ".debug_info", zstd, [large, large]),
        compressed(place, "zlib_small", ".debug_info", zlib, [large, small]),
        compressed(place, "zstd_small", ".debug_str", zstd, [large, small]),
        compressed(place, "zstd_large", ".debug_abbrev", zstd, [small, 1 << 60]),
    ]
}

/// Returns the names of programs.
fn names(programs: &[PathBuf]) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    programs.iter().map(name).collect()
}

/// Asserts that nine of ten samples of a program have its names.
fn assert_named(recorded: &Recorded, name: &str) {
    let (named, all) =
        (recorded.samples_through(&[name, "main"]), recorded.samples_through(&[name]));
    assert!(all > 0 && named * 10 >= all * 9, "{name}: {named} of {all}: {}", recorded.stderr);
}

#[test]
fn sparse_and_compressed_debug_information_leaves_the_symbol_tables() {
    let _alone = alone();
    let place = directory();
    let programs = debug_information_bombs(place.path());
    let recorded = record_with(&programs, place.path());
    for name in names(&programs) {
        assert_named(&recorded, &name);
    }
    assert!(recorded.stderr.contains("debug info of "), "{}", recorded.stderr);
}

/// Makes programs whose code, call frames or names are small in the file and enormous to a reader.
fn code_bombs(place: &Path) -> Vec<PathBuf> {
    let (large, small) = (1500 << 20, 1000);
    vec![
        huge_code(place, "code", false),
        huge_code(place, "sparse_code", true),
        huge_call_frames(place, "frames", 1 << 30),
        huge_call_frames(place, "zero_frames", 60 << 20),
        compressed_call_frames(place, "zlib_frames", [large, large]),
        compressed_call_frames(place, "small_frames", [large, small]),
        endless_names(place, "endless"),
    ]
}

#[test]
fn enormous_code_and_call_frames_cost_their_own_stacks_at_most() {
    let _alone = alone();
    let place = directory();
    let programs = code_bombs(place.path());
    let recorded = record_with(&programs, place.path());
    for name in names(&programs) {
        assert!(recorded.samples_through(&[&name]) > 0, "{name}: {}", recorded.stderr);
    }
    // What the program's own call frames say is used where it can be read.
    for name in ["code", "sparse_code", "zero_frames", "zlib_frames", "small_frames"] {
        assert_named(&recorded, name);
    }
    let note = "have unreadable call frame information";
    assert!(recorded.stderr.contains(note), "{}", recorded.stderr);
}

#[test]
fn impossible_symbol_tables_are_refused_with_the_reason() {
    let _alone = alone();
    let place = directory();
    let programs = [
        sparse_symbols(place.path(), "described"),
        sparse_symbols_alone(place.path(), "symbols"),
        many_sections(place.path(), "sections"),
    ];
    let recorded = record_with(&programs, place.path());
    assert_named(&recorded, "described");
    for (name, reason) in
        [("symbols", "its symbols take 2048 MiB"), ("sections", "it has 100000 sections")]
    {
        let line = format!("/{name}: {reason}");
        let says = recorded
            .stderr
            .lines()
            .any(|text| text.contains("no symbols in ") && text.contains(&line));
        assert!(says, "{name}: {}", recorded.stderr);
    }
}

#[test]
fn long_and_odd_names_are_cut_or_replaced() {
    let _alone = alone();
    let place = directory();
    let programs = [
        renamed(place.path(), "long", &[b'n'; 1 << 20]),
        renamed(place.path(), "odd", b"sp\xffin"),
        renamed(place.path(), "escape", b"sp\x1b[31min"),
    ];
    let recorded = record_with(&programs, place.path());
    let ends = |ending: &str| {
        let stacks = recorded.folded();
        stacks.iter().any(|(stack, _)| stack.iter().any(|frame| frame.ends_with(ending)))
    };
    assert!(ends("nnn...[1048576 bytes]") && ends("sp\u{fffd}in"), "{}", recorded.stderr);
    assert!(recorded.folded().iter().all(|(stack, _)| stack.iter().all(|f| f.len() <= 4096)));
    assert!(recorded.stderr.contains("cut, because they are too long"), "{}", recorded.stderr);
    assert!(!recorded.stderr.contains('\u{1b}'), "{}", recorded.stderr);
    let strings = recorded.pprof().string_table;
    assert!(strings.iter().all(|string| string.len() <= 4096));
}

/// Counts the samples of a program in windows, and those that have the names of its whole chain.
fn samples_of(windows: &[Profile], program: &str) -> (i64, i64) {
    let (mut named, mut all) = (0, 0);
    for window in windows {
        for (number, sample) in window.sample.iter().enumerate() {
            if labels(window, number).get("comm") != Some(&program) {
                continue;
            }
            let names = functions(window, &sample.location_id);
            let is_named = CHAIN.iter().all(|function| names.contains(function));
            all += sample.value[0];
            named += sample.value[0] * i64::from(is_named);
        }
    }
    (named, all)
}

/// Runs programs beside an agent in a memory cgroup until `is_done`, and some windows more. Checks
/// that it is not killed, that names are bounded, and that a bystander has its own.
fn withstand(
    memory: u64,
    programs: &[PathBuf],
    place: &Path,
    is_done: impl Fn(&Agent) -> bool,
) -> Agent {
    let cgroup = Cgroup::with_memory(memory);
    let mut agent = Agent::not_started("frequency = 99\nmax_cpu = 50");
    let mut command = cgroup.run(&agent.command());
    agent.spawn(&mut command);
    let _good = Running::start(&compile("chain.c", place, "good"));
    agent.wait_for_windows(1);
    let running: Vec<Running> = programs.iter().map(|program| Running::start(program)).collect();
    running.iter().for_each(Running::give_way);
    for _ in 0..60 {
        if is_done(&agent) {
            break;
        }
        pause(500);
    }
    assert!(is_done(&agent), "{}", agent.page("/metrics").1);
    (0..3).for_each(|_| agent.wait_for_windows(agent.windows().len() + 1));
    drop(running);
    assert!(agent.is_running(), "{}", agent.log());
    assert_eq!(cgroup.kills(), 0, "{} MiB at most: {}", cgroup.peak() >> 20, agent.log());
    let windows = agent.profiles();
    for window in &windows {
        assert!(window.string_table.iter().all(|string| string.len() <= 4096));
    }
    let (named, all) = samples_of(&windows[windows.len() - 3..], "good");
    assert!(all > 5 && named * 10 >= all * 9, "{named} of {all} have names: {}", agent.log());
    agent
}

#[test]
fn thirty_programs_with_enormous_names_leave_the_agent_its_memory() {
    let _alone = alone();
    let place = directory();
    let programs = enormous_names(place.path(), 30);
    // Names of most files were read.
    let is_done = |agent: &Agent| agent.metric("everytick_names_cut_total") >= 100.0;
    let mut agent = withstand(320 << 20, &programs, place.path(), is_done);
    let [_, _, lost] = agent.stop();
    assert_eq!(lost, 0, "{}", agent.log());
}

#[test]
fn bombs_beside_an_agent_are_refused_and_counted() {
    let _alone = alone();
    let place = directory();
    let mut programs = debug_information_bombs(place.path());
    programs.extend(code_bombs(place.path()));
    programs.push(many_sections(place.path(), "sections"));
    programs.push(sparse_symbols(place.path(), "symbols"));
    let unreadable =
        |agent: &Agent| agent.series("everytick_unsymbolized_frames_total", "file unreadable");
    let is_done = |agent: &Agent| {
        let not_read = agent.metric("everytick_debug_info_not_read_total");
        unreadable(agent) > 0.0
            && not_read > 0.0
            && agent.metric("everytick_unwind_files_unreadable_total") > 0.0
    };
    let mut agent = withstand(320 << 20, &programs, place.path(), is_done);
    let peak = agent.series("everytick_resident_peak_bytes", "symbolizer");
    assert!((8e6..200e6).contains(&peak), "a worker had {peak} bytes");
    let [_, _, lost] = agent.stop();
    assert_eq!(lost, 0, "{}", agent.log());
}
