//! Files that are made to cost the symbolizer memory or time lose their own names, and no other
//! program loses one, in the same window.
#![allow(clippy::unwrap_used)]

mod bombs;
mod common;

use std::path::{Path, PathBuf};

use bombs::{
    compressed, cyclic_specification, deep_inlining, many_sections, quadratic_abbreviations,
    renamed, section_outside, sparse_symbols, sparse_unit,
};
use common::agent::{Agent, comments, text};
use common::{Recorded, Running, alone, compile, compile_with, directory, record};
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
fn sparse_and_compressed_debug_info_leaves_the_symbol_tables() {
    let _alone = alone();
    let place = directory();
    let programs = [
        sparse_unit(place.path(), "sparse_unit"),
        compressed(place.path(), "bomb", None),
        compressed(place.path(), "liar", Some(1000)),
        section_outside(place.path(), "outside"),
    ];
    let recorded = record_with(&programs, place.path());
    for name in ["sparse_unit", "bomb", "liar", "outside"] {
        let (named, all) =
            (recorded.samples_through(&[name, "main"]), recorded.samples_through(&[name]));
        assert!(all > 0 && named * 10 >= all * 9, "{name}: {named} of {all}: {}", recorded.stderr);
    }
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

#[test]
fn impossible_symbol_tables_are_refused_with_the_reason() {
    let _alone = alone();
    let place = directory();
    let programs =
        [sparse_symbols(place.path(), "symbols"), many_sections(place.path(), "sections")];
    let recorded = record_with(&programs, place.path());
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

/// Counts the samples of a program, and those with the whole chain.
fn samples_of(profile: &Profile, program: &str) -> (i64, i64) {
    let name = |function: u64| {
        let function = &profile.function[function as usize - 1];
        text(profile, function.name)
    };
    let (mut all, mut whole) = (0, 0);
    for sample in &profile.sample {
        let frames = sample.location_id.iter().map(|id| &profile.location[*id as usize - 1]);
        let frames: Vec<_> = frames.collect();
        let is_of = |mapping: u64| {
            let mapping = &profile.mapping[mapping as usize - 1];
            text(profile, mapping.filename).ends_with(&format!("/{program}"))
        };
        if !frames.iter().any(|frame| is_of(frame.mapping_id)) {
            continue;
        }
        let names: Vec<&str> =
            frames.iter().flat_map(|f| &f.line).map(|line| name(line.function_id)).collect();
        let is_whole = CHAIN.iter().all(|function| names.contains(function));
        all += sample.value[0];
        whole += sample.value[0] * i64::from(is_whole);
    }
    (all, whole)
}

/// The default budget, and every kind of file at once.
#[test]
fn agent_names_the_others_and_accounts_for_what_hostile_files_cost() {
    let _alone = alone();
    let place = directory();
    let mut programs: Vec<PathBuf> =
        (0..6).map(|number| sparse_unit(place.path(), &format!("sparse{number}"))).collect();
    programs.extend([
        compressed(place.path(), "liar", Some(1000)),
        quadratic_abbreviations(place.path(), "quadratic", 16_000),
        deep_inlining(place.path(), "deep"),
        sparse_symbols(place.path(), "symbols"),
        many_sections(place.path(), "sections"),
        renamed(place.path(), "long", &[b'n'; 1 << 20]),
    ]);
    let good = compile("chain.c", place.path(), "good");
    let mut agent = Agent::start("frequency = 99");
    let running: Vec<Running> =
        [&good].into_iter().chain(&programs).map(|p| Running::start(p)).collect();
    agent.wait_for_windows(20);
    drop(running);
    let metric = |name| agent.metric(name);
    assert!(metric("everytick_unsymbolized_frames_total") > 0.0);
    assert!(metric("everytick_names_cut_total") > 0.0);
    let (frames, page) = (metric("everytick_symbol_frames_total"), agent.page("/metrics").1);
    assert!(frames > metric("everytick_unsymbolized_frames_total"));
    let value = |name: &str| -> f64 {
        let line = page.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let peak = value("everytick_resident_peak_bytes{part=\"symbolizer\"}");
    assert!((8e6..300e6).contains(&peak), "a worker had {peak} bytes");
    let cpu = value("everytick_cpu_seconds_total{part=\"symbolizer\"}");
    assert!(cpu > 0.1, "{cpu} s of CPU time were counted");
    agent.stop();

    let profiles = agent.profiles();
    for profile in &profiles {
        let seconds = profile.duration_nanos as f64 / 1e9;
        assert!(seconds < 5.0, "a window of {seconds} s:\n{}", agent.log());
    }
    let (mut all, mut whole, mut says) = (0, 0, false);
    for profile in &profiles[profiles.len() / 2..] {
        let (a, w) = samples_of(profile, "good");
        (all, whole) = (all + a, whole + w);
        says |= comments(profile).iter().any(|line| line.starts_with("names "));
    }
    assert!(all > 10 && whole * 10 >= all * 9, "{whole} of {all} samples have their names");
    assert!(says, "a comment counts the frames without a symbol");
}

/// Functions whose names together take more than a window's names may.
#[test]
fn many_long_names_do_not_take_those_of_others() {
    let _alone = alone();
    let place = directory();
    let source = place.path().join("names.s");
    let mut assembler = String::from(".text\n");
    for number in 0..800 {
        let name = format!("f{number}_{}", "n".repeat(3900));
        assembler.push_str(&format!(".globl {name}\n.type {name}, %function\n{name}:\n"));
        assembler.push_str(".rept 200\nnop\n.endr\nret\n");
        assembler.push_str(&format!(".size {name}, . - {name}\n"));
    }
    std::fs::write(&source, assembler).unwrap();
    let caller = place.path().join("caller.c");
    let calls: String = (0..800)
        .map(|number| {
            format!("extern void f{number}(void) __asm__(\"f{number}_{}\"); ", "n".repeat(3900))
        })
        .collect();
    let calling: String = (0..800).map(|number| format!("f{number}();\n")).collect();
    std::fs::write(&caller, format!("{calls}\nint main(void){{for(;;){{{calling}}}}}")).unwrap();
    let names = place.path().join("names");
    let mut gcc = std::process::Command::new("gcc");
    common::succeed(gcc.arg("-O1").arg(&caller).arg(&source).arg("-o").arg(&names));
    let others = compile_with("chain.c", place.path(), "good", &[]);
    let mut agent = Agent::start("frequency = 999\nmax_cpu = 50\nmax_memory = \"64MiB\"");
    let _running: Vec<Running> =
        [&others, &names, &names, &names].map(|program| Running::start(program)).into();
    agent.wait_for_windows(8);
    agent.stop();
    let profiles = agent.profiles();
    let last = &profiles[profiles.len() - 3..];
    let (all, whole) = last
        .iter()
        .map(|profile| samples_of(profile, "good"))
        .fold((0, 0), |(all, whole), (a, w)| (all + a, whole + w));
    assert!(all > 10 && whole * 10 >= all * 9, "{whole} of {all} samples have their names");
    for profile in last {
        let bytes: usize = profile.string_table.iter().map(String::len).sum();
        assert!(bytes < 3 << 20, "{bytes} bytes of names");
    }
    let full = |profile: &Profile| comments(profile).iter().any(|line| line.contains("names full"));
    assert!(last.iter().any(full), "{:?}", comments(&last[0]));
}
