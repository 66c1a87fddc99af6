//! Recordings of programs that make code while they run.

use std::process::Command;

use profile::pprof::proto::Profile;

use super::agent::Agent;
use super::{Recorded, Running, compile, directory, record};

/// How code of a JIT compiler without a name is shown.
pub const UNNAMED: &str = "[jit]";

/// Records copies of a program of `tests/programs` at the same time, each of the name of the way in
/// which it writes the names of its code.
pub fn record_each(source: &str, hows: &[&str], seconds: &str) -> Recorded {
    let place = directory();
    let program = compile(source, place.path(), "program");
    let mut script = String::new();
    for how in hows {
        let copy = place.path().join(how);
        std::fs::copy(&program, &copy).unwrap();
        script += &format!("{} {how} {seconds} & ", copy.display());
    }
    record(&["-F", "199", "--", "sh", "-c", &(script + "wait")]).succeeded()
}

/// Asserts that a function has a tenth of the samples of a program at least. It has half of the CPU
/// time, but its first samples may be taken before its name is read.
pub fn assert_named(recorded: &Recorded, program: &str, name: &str) {
    let (named, all) =
        (recorded.samples_through(&[program, name]), recorded.samples_through(&[program]));
    let is_named = all > 15 && named * 10 >= all;
    assert!(is_named, "{program} {name}: {named} of {all}: {}", recorded.stderr);
}

/// Records node with an argument, while it runs one function. Asserts that nine of ten samples in
/// code of its JIT compiler have names, and that the function has some.
pub fn assert_node_has_names(argument: &str) {
    let is_installed = Command::new("node").arg("--version").output();
    if !is_installed.is_ok_and(|output| output.status.success()) {
        return; // not every machine has it
    }
    let place = directory();
    let script = place.path().join("fib.js");
    let text = "function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }\n\
                const end = Date.now() + 2000; while (Date.now() < end) fib(25);\n";
    std::fs::write(&script, text).unwrap();
    // Its files are written to the directory in which it runs.
    let command = format!("cd {} && exec node {argument} fib.js", place.path().display());
    let recorded = record(&["-F", "199", "--", "sh", "-c", &command]).succeeded();
    let is_jit = |frame: &str| frame.contains("fib.js") || frame.starts_with("Builtin:");
    let (mut named, mut unnamed, mut fib) = (0, 0, 0);
    for (stack, count) in &recorded.folded() {
        let leaf = stack.last().unwrap();
        named += if is_jit(leaf) { *count } else { 0 };
        unnamed += if leaf == UNNAMED { *count } else { 0 };
        fib += if leaf.contains("fib ") { *count } else { 0 };
    }
    assert!(fib > 20 && named > 9 * unnamed, "{fib}, {named}, {unnamed}: {}", recorded.stderr);
}

/// Runs a program of `tests/programs` again and again beside an agent, until windows have the names
/// of its code.
pub fn assert_agent_names(source: &str, names: &[&str]) {
    let place = directory();
    let program = compile(source, place.path(), "program");
    let agent = Agent::start("frequency = 99\nmax_cpu = 100");
    agent.wait_for_windows(1);
    let start = || Running::start_with(&program, &["plain".into(), "2".into()]);
    let mut running = start();
    for name in names {
        agent.wait_for(name, || {
            if running.0.try_wait().unwrap().is_some() {
                running = start();
            }
            let has_name = |window: &Profile| window.string_table.iter().any(|text| text == name);
            agent.profiles().iter().any(has_name).then_some(())
        });
    }
    assert!(agent.metric("everytick_perf_map_bytes") > 0.0);
}
