//! Files that are made to cost the symbolizer memory or time lose their own names, and no other
//! program loses one, in the same window.
#![allow(clippy::unwrap_used)]

mod bombs;
mod common;

use std::path::{Path, PathBuf};

use bombs::{
    cyclic_specification, deep_inlining, many_sections, quadratic_abbreviations, renamed,
    sparse_symbols,
};
use common::{Recorded, Running, alone, compile, directory, record};

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
