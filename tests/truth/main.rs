//! Stacks are correct to the last frame: programs whose every stack is known by construction, built
//! by several compilers without frame pointers. At least 99.9 % of their samples must be correct.
//!
//! [`truth`] matches stacks with call chains; [`programs`] builds the sources of
//! `tests/programs/truth`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;
mod exceptions;
mod golang;
mod oddities;
mod programs;
mod truth;

use common::{Running, alone, directory, pause, record};
use programs::{EVERYWHERE, Program, build, build_all};
use truth::{Score, Stack, Truth, all_pass, stacks};

/// Starts programs together, profiles them in one recording, and checks the stacks of each.
fn check(programs: &[Program], truth: &Truth<'_>) {
    check_stacks(programs.iter().map(|program| (program, *truth)), &profile(programs));
}

/// Checks the stacks of each program against its truth.
fn check_stacks<'a>(programs: impl Iterator<Item = (&'a Program, Truth<'a>)>, stacks: &[Stack]) {
    let scores: Vec<Score> =
        programs.map(|(program, truth)| score(program, stacks, &truth)).collect();
    assert!(all_pass(&scores), "{scores:?}");
}

/// Profiles programs. Returns their stacks, each with the name of its program instead of its pid.
fn profile(programs: &[Program]) -> Vec<Stack> {
    let running: Vec<Running> =
        programs.iter().map(|p| Running::start_with(&p.path, &p.arguments)).collect();
    let pids: Vec<String> = running.iter().map(Running::pid).collect();
    for program in &running {
        program.give_way(); // to everytick, which would start and stop late beside them
    }
    pause(100); // each program reaches its loop
    // Load on the machine must not cut stacks: the test is about where a walk leads, not its time.
    let mut arguments = vec!["-F", "997", "-d", "3", "--no-kernel", "--tick-limit", "50000"];
    arguments.extend(pids.iter().flat_map(|pid| ["-p", pid]));
    let recorded = record(&arguments).succeeded();
    let mut stacks = stacks(&recorded.pprof());
    for stack in &mut stacks {
        let number = pids.iter().position(|pid| *pid == stack.pid).unwrap();
        stack.pid.clone_from(&programs[number].name);
    }
    stacks
}

/// Scores the stacks of one program, and prints what is wrong with them.
fn score(program: &Program, stacks: &[Stack], truth: &Truth<'_>) -> Score {
    let (score, wrong) = truth.score(stacks.iter().filter(|stack| stack.pid == program.name));
    let Score { all, correct, complete } = score;
    println!("{}: {correct} of {all} correct, {complete} complete", program.name);
    for wrong in wrong.iter().take(20) {
        println!("    {wrong}");
    }
    score
}

fn truth<'a>(chains: &'a [&'a str]) -> Truth<'a> {
    Truth { chains, tops: "", guessed: "" }
}

#[test]
fn leaves_without_frame_with_red_zone_and_with_saved_registers() {
    let _alone = alone();
    let dir = directory();
    let programs = build_all(dir.path(), &EVERYWHERE, "plain.c", &[]);
    check(&programs, &truth(&["_start @libc.so.6{2} main > a b c bare|red_zone|saves_all"]));
}

#[test]
fn recursion_of_a_thousand_frames() {
    let _alone = alone();
    let dir = directory();
    let programs = build_all(dir.path(), &EVERYWHERE, "recursion.c", &[]);
    check(&programs, &truth(&["_start @libc.so.6{2} main > recurse{1000} spin"]));
}

#[test]
fn tail_calls_leave_no_frame() {
    let _alone = alone();
    let dir = directory();
    let ways: Vec<_> = EVERYWHERE.into_iter().filter(|(_, level)| *level != "-O0").collect();
    let programs = build_all(dir.path(), &ways, "tail.c", &["-foptimize-sibling-calls"]);
    check(&programs, &truth(&["_start @libc.so.6{2} main > caller first|second|last"]));
}

#[test]
fn realigned_frames_and_frames_of_dynamic_size() {
    let _alone = alone();
    let dir = directory();
    let programs = build_all(dir.path(), &EVERYWHERE, "align.c", &[]);
    let chain = "_start @libc.so.6{2} main > aligned32 allocates both many aligned64 spin";
    let truth = Truth { chains: &[chain], tops: "use", guessed: "" };
    check(&programs, &truth);
}

#[test]
fn signal_handlers_on_the_thread_stack_and_on_a_separate_stack() {
    let _alone = alone();
    let dir = directory();
    let programs = build_all(dir.path(), &EVERYWHERE, "signals.c", &[]);
    let chains = [
        "_start @libc.so.6{2} main > work spin",
        "_start @libc.so.6{2} main @libc.so.6 > handler|alternate handled",
        "_start @libc.so.6{2} main work @libc.so.6 > handler|alternate handled",
        "_start @libc.so.6{2} main work spin @libc.so.6 > handler|alternate handled",
    ];
    check(&programs, &truth(&chains));
}

#[test]
fn longjmp() {
    let _alone = alone();
    let dir = directory();
    let programs = build_all(dir.path(), &EVERYWHERE, "longjmp.c", &[]);
    let chain = "_start @libc.so.6{2} main > tries a jumper";
    check(&programs, &Truth { chains: &[chain], tops: "@libc.so.6|.plt|~@plt", guessed: "" });
}

#[test]
fn lazily_bound_calls_into_a_library() {
    let _alone = alone();
    let dir = directory();
    let library =
        build(dir.path(), "libtruth.so", "gcc", "library.c", &["-O2", "-shared", "-fPIC"]);
    let library = library.path.to_str().unwrap();
    let lazy = [library, "-Wl,-z,lazy", "-Wl,-z,norelro"];
    let mut programs = build_all(dir.path(), &EVERYWHERE, "lazy.c", &lazy);
    let with_endbr = [&lazy[..], &["-fcf-protection", "-Wl,-z,ibtplt"]].concat();
    programs.push(build(dir.path(), "ibt", "gcc", "lazy.c", &with_endbr));
    let chain = "_start @libc.so.6{2} main > calls|forget";
    let tops = "@libtruth.so|@ld-linux-x86-64.so.2|.plt|~@plt";
    check(&programs, &Truth { chains: &[chain], tops, guessed: "" });
}

#[test]
fn vdso_clock() {
    let _alone = alone();
    let dir = directory();
    let programs = build_all(dir.path(), &EVERYWHERE, "clock.c", &[]);
    let chain = "_start @libc.so.6{2} main > reads_clock";
    check(
        &programs,
        &Truth { chains: &[chain], tops: "@libc.so.6|@[vdso]|.plt|~@plt", guessed: "" },
    );
}

#[test]
fn threads() {
    let _alone = alone();
    let dir = directory();
    let programs = build_all(dir.path(), &EVERYWHERE, "spawn.c", &[]);
    check(&programs, &truth(&["@libc.so.6{2} entry > work spin"]));
}

#[test]
fn contexts_of_the_c_library() {
    let _alone = alone();
    let dir = directory();
    let programs = build_all(dir.path(), &EVERYWHERE, "context.c", &[]);
    let chains = ["_start @libc.so.6{2} main > drives", "@libc.so.6 body > work spin"];
    check(&programs, &Truth { chains: &chains, tops: "@libc.so.6|.plt|~@plt", guessed: "" });
}

#[test]
fn coroutines_in_assembly() {
    let _alone = alone();
    let dir = directory();
    let programs = build_all(dir.path(), &EVERYWHERE, "coroutine.c", &[]);
    let chains =
        ["_start @libc.so.6{2} main > drives switch_stack", "start_coroutine body > work spin"];
    check(&programs, &Truth { chains: &chains, tops: "switch_stack", guessed: "" });
}
