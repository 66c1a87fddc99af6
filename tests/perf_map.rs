//! JIT code is named by the perf map of its process, as it was at the time of each sample; no map
//! harms anything but its own process.
#![allow(clippy::unwrap_used)]

mod common;
mod fuse;

use std::path::Path;

use common::jit::{UNNAMED, assert_agent_names, assert_named, assert_node_has_names, record_each};
use common::{Recorded, Running, alone, compile, directory, record};
use profile::pprof::proto::Location;

const F1: &str = "jit_f1 of file.js:1";
const F2: &str = "jit_f2";

/// Records a program that writes its map in some way.
fn record_jit(program: &Path, how: &str, seconds: &str) -> Recorded {
    let program = program.to_str().unwrap();
    record(&["-F", "199", "--", program, how, seconds]).succeeded()
}

#[test]
fn code_that_is_rewritten_has_both_names() {
    let _alone = alone();
    // In a file that is no program, too.
    let hows = ["overlapping", "unlinked", "replaced", "truncated", "memfd"];
    let recorded = record_each("jit.c", &hows, "0.6");
    for how in hows {
        [F1, F2].iter().for_each(|name| assert_named(&recorded, how, name));
    }
    assert_eq!(recorded.samples_through(&["jit_around"]), 0);
    assert!(!recorded.stderr.contains("without names"), "{}", recorded.stderr);
}

#[test]
fn a_child_has_the_names_of_the_code_of_its_parent() {
    let _alone = alone();
    let recorded = record_each("jit.c", &["forked"], "0.6");
    ["forked", "child"].iter().for_each(|how| assert_named(&recorded, how, F1));
    assert_eq!(recorded.samples_through(&["child", F2]), 0, "{}", recorded.stderr);
    assert_eq!(recorded.samples_through(&[UNNAMED]), 0, "{}", recorded.stderr);
}

#[test]
fn a_named_mapping_has_functions_in_pprof() {
    let _alone = alone();
    let place = directory();
    let program = compile("jit.c", place.path(), "jit");
    let profile = record_jit(&program, "plain", "0.6").pprof();
    let text = |index: i64| profile.string_table[index as usize].as_str();
    let function = profile.function.iter().find(|function| text(function.name) == F1).unwrap();
    assert_eq!(text(function.system_name), F1);
    let is_in =
        |location: &&Location| location.line.iter().any(|line| line.function_id == function.id);
    let location = profile.location.iter().find(is_in).unwrap();
    let mapping = profile.mapping.iter().find(|map| map.id == location.mapping_id).unwrap();
    assert_eq!((text(mapping.filename), mapping.has_functions), ("[jit]", true));
    assert!(location.address > 0);
}

#[test]
fn a_map_is_found_in_the_namespaces_of_its_process() {
    let _alone = alone();
    let place = directory();
    let program = compile("jit.c", place.path(), "jit");
    let command = "mount -t tmpfs none /tmp && cp /dev/fd/3 /tmp/jit && exec /tmp/jit plain 0.8";
    let script = format!("exec 3<{}; exec unshare -pfm sh -c '{command}'", program.display());
    let recorded = record(&["-F", "199", "--", "sh", "-c", &script]).succeeded();
    [F1, F2].iter().for_each(|name| assert_named(&recorded, "jit", name));
}

#[test]
fn what_is_no_map_of_the_process_is_refused_with_its_reason() {
    let _alone = alone();
    let recorded = record_each("jit.c", &["symlink", "fifo", "other_owner", "stale"], "0.5");
    for how in ["symlink", "fifo", "other_owner"] {
        let (unnamed, all) =
            (recorded.samples_through(&[how, UNNAMED]), recorded.samples_through(&[how]));
        assert!(all > 10 && unnamed * 10 >= all * 9, "{how}: {unnamed} of {all}");
    }
    for reason in ["perf map or jitdump not a regular file", "perf map or jitdump of another user"]
    {
        let note = format!("of a JIT compiler: {reason}");
        assert!(recorded.stderr.contains(&note), "{reason}: {}", recorded.stderr);
    }
    // The second function is written to the stale map later, and it is stale no more.
    assert!(recorded.samples_through(&["stale", F2]) > 10, "{}", recorded.stderr);
}

#[test]
fn a_child_has_no_names_of_the_next_program_of_its_parent() {
    let _alone = alone();
    let recorded = record_each("jit.c", &["left"], "0.6");
    let [unnamed, wrong] =
        [UNNAMED, "jit_successor"].map(|name| recorded.samples_through(&["child", name]));
    assert!(unnamed > 15 && wrong == 0, "{unnamed}, {wrong}: {:?}", recorded.folded());
}

#[test]
fn hostile_maps_cost_their_own_names_only() {
    let _alone = alone();
    let recorded = record_each("jit.c", &["sparse", "garbage", "endless", "plain"], "0.6");
    [F1, F2].iter().for_each(|name| assert_named(&recorded, "plain", name));
    // Random bytes end before the entries, which count.
    assert_named(&recorded, "garbage", F1);
}

#[test]
fn a_map_on_a_file_system_that_never_answers_delays_no_other() {
    let _alone = alone();
    let (place, unresponsive) = (directory(), directory());
    let program = compile("jit.c", place.path(), "jit");
    let served = fuse::serve(unresponsive.path(), Vec::new());
    served.stop_answering();
    let script = format!(
        "exec 3<{}; mount --bind {} /tmp && exec /proc/self/fd/3 none 3",
        program.display(),
        unresponsive.path().display()
    );
    let arguments = ["-m".into(), "sh".into(), "-c".into(), script.into()];
    let stuck = Running::start_with(Path::new("unshare"), &arguments);
    let good = Running::start_with(&program, &["plain".into(), "3".into()]);
    let pids = [stuck.pid(), good.pid()];
    let recorded = record(&["-F", "99", "-d", "3", "-p", &pids[0], "-p", &pids[1]]).succeeded();
    drop((stuck, good, served));
    let _ = std::fs::remove_file(format!("/tmp/perf-{}.map", pids[1]));
    assert!(recorded.samples_through(&["jit", F1]) > 10, "{}", recorded.stderr);
    assert!(recorded.samples_through(&["3", UNNAMED]) > 10, "{}", recorded.stderr);
    assert!(
        recorded.stderr.contains("perf map or jitdump not read in time"),
        "{}",
        recorded.stderr
    );
}

#[test]
fn a_process_that_is_selected_has_names_and_one_without_a_map_has_a_hint() {
    let _alone = alone();
    let place = directory();
    let program = compile("jit.c", place.path(), "jit");
    let running = Running::start_with(&program, &["plain".into(), "2".into()]);
    let recorded = record(&["-F", "199", "-d", "1", "-p", &running.pid()]).succeeded();
    assert!(recorded.samples_through(&["jit", F1]) > 10, "{}", recorded.stderr);
    let recorded = record_jit(&program, "fifo", "0.4");
    assert!(recorded.stderr.contains("have its compiler write a perf map"), "{}", recorded.stderr);
}

#[test]
fn node_names_its_code() {
    let _alone = alone();
    assert_node_has_names("--perf-basic-prof");
}

#[test]
fn agent_names_code_in_each_window() {
    let _alone = alone();
    assert_agent_names("jit.c", &[F1, F2]);
}
