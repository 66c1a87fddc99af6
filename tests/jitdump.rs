//! JIT code is named by the jitdump that its process has mapped, and by nothing else; no jitdump
//! harms anything but its own process.
#![allow(clippy::unwrap_used)]

mod common;

use common::jit::{UNNAMED, assert_agent_names, assert_named, assert_node_has_names, record_each};
use common::{Recorded, Running, alone, compile, directory, pause, record};

const F1: &str = "dump_f1";
const F2: &str = "dump_f2";

fn record_programs(hows: &[&str], seconds: &str) -> Recorded {
    record_each("jitdump.c", hows, seconds)
}

/// Asserts that nine of ten samples of a program are in code without a name.
fn assert_unnamed(recorded: &Recorded, program: &str) {
    let (unnamed, all) =
        (recorded.samples_through(&[program, UNNAMED]), recorded.samples_through(&[program]));
    let is_unnamed = all > 10 && unnamed * 10 >= all * 9;
    assert!(is_unnamed, "{program}: {unnamed} of {all}: {}", recorded.stderr);
}

#[test]
fn code_that_is_rewritten_has_both_names() {
    let _alone = alone();
    let hows = ["plain", "unlinked", "halves", "sparse"];
    let recorded = record_programs(&hows, "0.6");
    for how in hows {
        [F1, F2].iter().for_each(|name| assert_named(&recorded, how, name));
    }
    assert!(!recorded.stderr.contains("without names"), "{}", recorded.stderr);
}

#[test]
fn moved_code_keeps_its_name() {
    let _alone = alone();
    let recorded = record_programs(&["moved"], "0.8");
    [F1, F2].iter().for_each(|name| assert_named(&recorded, "moved", name));
    assert_eq!(recorded.samples_through(&[UNNAMED]), 0, "{}", recorded.stderr);
}

#[test]
fn a_child_has_the_names_of_the_code_of_its_parent() {
    let _alone = alone();
    let recorded = record_programs(&["forked", "child_only"], "0.6");
    ["forked", "child", "child_only"].iter().for_each(|how| assert_named(&recorded, how, F1));
    for how in ["child", "child_only"] {
        assert_eq!(recorded.samples_through(&[how, F2]), 0, "{how}: {}", recorded.stderr);
    }
    assert_eq!(recorded.samples_through(&[UNNAMED]), 0, "{}", recorded.stderr);
    // What the child writes to the jitdump of its parent is of the child's memory.
    assert_eq!(recorded.samples_through(&["dump_child"]), 0, "{}", recorded.stderr);
}

#[test]
fn a_jitdump_excludes_the_perf_map_unless_it_is_refused() {
    let _alone = alone();
    let recorded = record_programs(&["both", "refused"], "0.6");
    [F1, F2].iter().for_each(|name| assert_named(&recorded, "both", name));
    assert_eq!(recorded.samples_through(&["both", "map_f1"]), 0, "{}", recorded.stderr);
    assert_named(&recorded, "refused", "map_f1");
    for name in [F1, F2] {
        assert_eq!(recorded.samples_through(&["refused", name]), 0);
    }
}

#[test]
fn a_jitdump_is_found_in_the_namespaces_of_its_process() {
    let _alone = alone();
    let place = directory();
    let program = compile("jitdump.c", place.path(), "program");
    let command = "mount -t tmpfs none /tmp && cp /dev/fd/3 /tmp/jit && exec /tmp/jit plain 0.8";
    let script = format!("exec 3<{}; exec unshare -pfm sh -c '{command}'", program.display());
    let recorded = record(&["-F", "199", "--", "sh", "-c", &script]).succeeded();
    [F1, F2].iter().for_each(|name| assert_named(&recorded, "jit", name));
}

#[test]
fn what_is_no_jitdump_of_the_process_is_refused_with_its_reason() {
    let _alone = alone();
    let hows = ["symlink", "other_number", "unmapped", "other_owner", "no_header", "other_order"];
    let recorded = record_programs(&hows, "0.5");
    hows.iter().for_each(|how| assert_unnamed(&recorded, how));
    for reason in [
        "perf map or jitdump of another user",
        "perf map or jitdump malformed",
        "jitdump of another version or machine",
    ] {
        let note = format!("of a JIT compiler: {reason}");
        assert!(recorded.stderr.contains(&note), "{reason}: {}", recorded.stderr);
    }
}

#[test]
fn hostile_jitdumps_cost_their_own_names_only() {
    let _alone = alone();
    let recorded = record_programs(&["garbage", "endless", "other_version", "plain"], "0.6");
    [F1, F2].iter().for_each(|name| assert_named(&recorded, "plain", name));
    assert_named(&recorded, "garbage", F1);
    assert_eq!(recorded.samples_through(&["other_version", F1]), 0);
}

#[test]
fn a_process_that_ran_before_has_names() {
    let _alone = alone();
    let place = directory();
    let program = compile("jitdump.c", place.path(), "program");
    let running = Running::start_with(&program, &["plain".into(), "2".into()]);
    pause(200);
    let recorded = record(&["-F", "199", "-d", "1", "-p", &running.pid()]).succeeded();
    assert!(recorded.samples_through(&["program", F1]) > 10, "{}", recorded.stderr);
    assert_eq!(recorded.samples_through(&[UNNAMED]), 0, "{}", recorded.stderr);
}

#[test]
fn node_names_its_code() {
    let _alone = alone();
    assert_node_has_names("--perf-prof");
}

#[test]
fn agent_names_code_in_each_window() {
    let _alone = alone();
    assert_agent_names("jitdump.c", &[F1, F2]);
}
