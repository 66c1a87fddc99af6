//! `everytick verify` compares our stacks with framehop's on real programs.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
use std::path::Path;
use std::process::Output;

use common::{Running, alone, compile_with, directory, everytick};
use serde_json::Value;

/// Runs `everytick verify` with these arguments and returns its JSON report.
fn verify(arguments: &[&str]) -> Value {
    let place = directory();
    let mut command = everytick();
    command.args(["verify", "-o", "figures.json"]).args(arguments).current_dir(place.path());
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    println!("{stderr}");
    assert!(output.status.success(), "{stderr}");
    let text = std::fs::read_to_string(place.path().join("figures.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Asserts that both unwinders completed at least `complete_min` ticks, and that at most one tick
/// per started 1,000 differs from framehop without DWARF agreeing with ours.
///
/// That one tick: a shell's child in the middle of exec may share its stack with the parent, which
/// writes there while the two unwinders read. DWARF decides because framehop does not know a CFA in
/// rbx, which ld.so uses in code that only some runs are sampled in.
///
/// Returns the number of ticks compared.
fn check(figures: &Value, complete_min: u64) -> u64 {
    let total = |name: &str| figures["total"][name].as_u64().unwrap();
    let both = total("both_complete");
    assert!(both >= complete_min, "only {both} ticks: {figures:#}");
    let doubtful = total("dwarf_agrees_with_framehop")
        + total("dwarf_agrees_with_neither")
        + total("dwarf_says_nothing");
    assert!(doubtful <= both.div_ceil(1000), "{doubtful} of {both}: {figures:#}");
    assert!(total("both_complete_equal") * 100 >= both * 98, "{figures:#}");
    total("judged")
}

#[test]
fn unwinds_a_chain_without_frame_pointers_like_framehop() {
    let _alone = alone();
    let place = directory();
    let bare = ["-O2", "-fomit-frame-pointer"];
    let program = Running::start(&compile_with("chain.c", place.path(), "chain", &bare));
    let figures = verify(&["-F", "499", "-d", "5", "-p", &program.pid()]);
    let compared = check(&figures, 100);
    let seen = figures["seen"].as_u64().unwrap();
    assert!(compared * 100 >= seen * 99, "{compared} of {seen} compared: {figures:#}");
    let chain = &figures["by_executable_of_last_agreed_frame"][0];
    assert_eq!(chain["executable"], program_path(place.path()));
    assert!(chain["build_id"].is_string());
}

fn program_path(directory: &Path) -> String {
    directory.join("chain").to_str().unwrap().to_owned()
}

#[test]
fn verifies_a_command_and_its_descendants() {
    let _alone = alone();
    let source = "import zlib, re, json\n\
        text = json.dumps([str(n) * 9 for n in range(20000)])\n\
        for _ in range(6): zlib.compress(text.encode()); re.findall('1+', text); sorted(text)\n";
    check(&verify(&["-F", "499", "--", "python3", "-c", source]), 100);
}

#[test]
fn dwarf_decides_where_framehop_is_wrong() {
    let _alone = alone();
    let place = directory();
    let program = Running::start(&compile_with("in_signal.c", place.path(), "in_signal", &[]));
    let figures = verify(&["-F", "499", "-d", "1", "-p", &program.pid()]);
    // framehop does not know where a signal frame saves registers, and skips to `a` by fp.
    let total = &figures["total"];
    assert!(total["different"].as_u64().unwrap() > 20, "{figures:#}");
    assert_eq!(total["different"], total["dwarf_agrees_with_ours"], "{figures:#}");
    assert_eq!(total["dwarf_agrees_with_framehop"], 0);
    assert_eq!(figures["differences"][0]["rule"], "signal frame");
    assert_eq!(figures["differences"][0]["frame"], 2);
}

#[test]
fn reports_the_site_of_code_without_call_frames() {
    let _alone = alone();
    let place = directory();
    let bare = ["-g0", "-fno-asynchronous-unwind-tables", "-fomit-frame-pointer"];
    let program = Running::start(&compile_with("underivable.c", place.path(), "chain", &bare));
    let figures = verify(&["-F", "199", "-d", "1", "-p", &program.pid()]);
    // Neither can unwind it: framehop takes a word on the stack for a return address, we stop.
    assert_eq!(figures["total"]["both_complete"], 0, "{figures:#}");
    let difference = &figures["differences"][0];
    assert_eq!((&difference["kind"], &difference["frame"]), (&"shorter".into(), &0.into()));
    assert_eq!(difference["rule"], "no row");
    assert_eq!(difference["ours"], "ends: no unwind row");
    let after = difference["after"].as_str().unwrap();
    assert!(after.starts_with(&format!("{}+0x", program_path(place.path()))), "{after}");
}

#[test]
fn derived_rows_alone_complete_stacks_as_call_frames_do() {
    let _alone = alone();
    for (source, arguments) in [
        ("chain.c", &["-O2", "-fomit-frame-pointer"][..]),
        ("chain.c", &["-O1", "-fno-omit-frame-pointer"]),
        ("deep.c", &["-O2", "-fcf-protection=full"]),
    ] {
        let place = directory();
        let program = Running::start(&compile_with(source, place.path(), "chain", arguments));
        let figures = verify(&["--derived-only", "-F", "499", "-d", "4", "-p", &program.pid()]);
        let total = |name: &str| figures["total"][name].as_u64().unwrap();
        let (both, equal) = (total("both_complete"), total("both_complete_equal"));
        assert!(both > 100 && equal * 1000 >= both * 995, "{source}: {figures:#}");
    }
}

#[test]
fn call_frames_are_ignored_where_derived_rows_are_verified() {
    let _alone = alone();
    let place = directory();
    let program = Running::start(&compile_with(
        "underivable.c",
        place.path(),
        "chain",
        &["-fomit-frame-pointer"],
    ));
    let complete = |arguments: &[&str]| {
        let figures =
            verify(&[arguments, &["-F", "499", "-d", "3", "-p", &program.pid()]].concat());
        (figures["total"]["both_complete"].as_u64().unwrap(), figures)
    };
    let (by_all, figures) = complete(&[]);
    assert!(by_all > 100, "{figures:#}");
    let (by_derived, figures) = complete(&["--derived-only"]);
    assert!(by_derived < by_all / 10, "{by_derived} of {by_all}: {figures:#}");
}

/// Asserts that `verify` fails with this exit status and message, and leaves no file behind.
fn assert_rejected(arguments: &[&str], status: i32, expected: &str) {
    let _alone = alone();
    let place = directory();
    let command = everytick().arg("verify").args(arguments).current_dir(place.path()).output();
    let Output { status: found, stderr, .. } = command.unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert_eq!(found.code(), Some(status), "{stderr}");
    assert!(stderr.contains(expected), "{stderr:?} does not say {expected:?}");
    assert_eq!(place.path().read_dir().unwrap().count(), 0, "{arguments:?} left files");
}

#[test]
fn rejects_impossible_arguments() {
    assert_rejected(
        &["-p", "4194303"],
        1,
        "there is no process 4194303; `ps -e` lists all processes",
    );
    assert_rejected(&["-F", "0"], 2, "invalid value '0' for '--frequency <HZ>'");
    assert_rejected(
        &["-F", "1000000"],
        1,
        "cannot sample at 1000000 Hz: this kernel allows at most",
    );
    assert_rejected(&["-d", "-1"], 2, "give a duration, as in");
    assert_rejected(
        &["-o", "/nowhere/x.json"],
        1,
        "cannot write to the directory /nowhere: No such file",
    );
    assert_rejected(&["-d", "1", "--", "/no/such"], 1, "cannot run /no/such; check its name");
}
