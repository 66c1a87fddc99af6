//! `--symbolize` says how much is looked up: everything, names alone, or what only this machine can
//! name.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{Recorded, alone, compile, compile_with, directory, everytick, record};

/// Records a program with debug info beside one of a JIT compiler.
fn recorded(place: &Path, mode: &str) -> Recorded {
    let program = |name: &str| place.join(name).display().to_string();
    let both = format!("{} & {} plain 1", program("chain"), program("jit"));
    let script = format!("{both}; kill %1");
    record(&["-F", "199", "--symbolize", mode, "--", "bash", "-mc", &script]).succeeded()
}

#[test]
fn modes_have_names_and_lines_names_or_neither() {
    let _alone = alone();
    let place = directory();
    compile_with("chain.c", place.path(), "chain", &["-Wl,--build-id"]);
    compile("jit.c", place.path(), "jit");
    let [full, names, none] = ["full", "names", "none"].map(|mode| recorded(place.path(), mode));
    let chain = ["main", "a", "b", "c", "spin"];
    let with_lines = |recorded: &Recorded| {
        let has_line = |frame: &String| frame.contains("chain.c:");
        let traces = recorded.traces();
        traces.iter().filter(|trace| trace.frames.iter().any(has_line)).count()
    };
    let in_jit = |recorded: &Recorded| recorded.samples_through(&["jit_f1 of file.js:1"]);
    for recorded in [&full, &names] {
        assert!(recorded.samples_through(&chain) > 50, "{}", recorded.stderr);
        assert!(in_jit(recorded) > 10, "{}", recorded.stderr);
        assert!(!recorded.stderr.contains("debug info"), "{}", recorded.stderr);
    }
    assert!(with_lines(&full) > 0);
    assert_eq!(with_lines(&names), 0);

    assert_eq!(none.samples_through(&["main"]), 0);
    assert!(in_jit(&none) > 10, "{}", none.stderr);
    assert!(!none.stderr.contains("is stripped"), "{}", none.stderr);
    let profile = none.pprof();
    let text = |index: i64| profile.string_table[index as usize].as_str();
    assert!(profile.comment.iter().any(|line| text(*line).contains("files not symbolized: ")));
    let mut files = profile.mapping.iter().filter(|map| text(map.filename).ends_with("/chain"));
    assert!(files.any(|file| text(file.build_id).len() == 40), "a server can name its frames");
    let is_address =
        |(stack, _): &(Vec<String>, u64)| stack.iter().any(|f| f.starts_with("chain+0x"));
    assert!(none.folded().iter().any(is_address));
    let kernel = profile.mapping.iter().filter(|map| text(map.filename).starts_with("[kernel"));
    assert!(kernel.into_iter().all(|map| map.has_functions));
}

#[test]
fn servers_of_debug_info_are_of_no_use_without_names() {
    let arguments = ["record", "--symbolize", "none", "--debuginfod", "http://localhost:1"];
    let output = everytick().args(arguments).args(["--", "true"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("--debuginfod is of no use with --symbolize none"), "{error}");
    let arguments = ["record", "--symbolize", "lines", "--", "true"];
    let unknown = everytick().args(arguments).output().unwrap();
    let error = String::from_utf8(unknown.stderr).unwrap();
    assert!(error.contains("possible values: full, names, none"), "{error}");
}
