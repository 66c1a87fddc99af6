//! Stacks are true to the last frame: programs whose every stack is known by construction, built by several
//! compilers without frame pointers. At least 99.9 % of their samples must be exactly what is known.
//!
//! [`truth`] says what a chain is; [`programs`] builds them from `tests/programs/truth`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;
mod oddities;
mod programs;
mod truth;

use common::{Running, alone, directory, pause, record};
use programs::{EVERYWHERE, Program, build, build_all};
use truth::{Share, Stack, Truth, are_kept, stacks};

/// Starts programs together, profiles them in one recording, and judges each.
fn check(programs: &[Program], truth: &Truth<'_>) {
    judge(programs.iter().map(|program| (program, *truth)), &profile(programs));
}

/// Judges the stacks of each program by what is true for it.
fn judge<'a>(programs: impl Iterator<Item = (&'a Program, Truth<'a>)>, taken: &[Stack]) {
    let shares: Vec<Share> =
        programs.map(|(program, truth)| share(program, taken, &truth)).collect();
    assert!(are_kept(&shares), "{shares:?}");
}

/// Gives the stacks of programs, each with the name of its program instead of its process's number.
fn profile(programs: &[Program]) -> Vec<Stack> {
    let running: Vec<Running> =
        programs.iter().map(|p| Running::start_with(&p.path, &p.arguments)).collect();
    let pids: Vec<String> = running.iter().map(Running::pid).collect();
    for program in &running {
        program.give_way(); // to everytick, which would come late and end late beside them
    }
    pause(100); // each comes to its loop
    // What is judged is where a walk leads, not how long it takes when others need the CPU.
    let mut arguments = vec!["-F", "997", "-d", "3", "--no-kernel", "--tick-limit", "50000"];
    arguments.extend(pids.iter().flat_map(|pid| ["-p", pid]));
    let recorded = record(&arguments).succeeded();
    let mut taken = stacks(&recorded.pprof());
    for stack in &mut taken {
        let at = pids.iter().position(|pid| *pid == stack.pid).unwrap();
        stack.pid.clone_from(&programs[at].name);
    }
    taken
}

/// Judges the stacks of one program and says what came of it.
fn share(program: &Program, taken: &[Stack], truth: &Truth<'_>) -> Share {
    let (share, wrong) = truth.judge(taken.iter().filter(|stack| stack.pid == program.name));
    println!("{}: {} of {} true, {} whole", program.name, share.good, share.all, share.whole);
    for wrong in wrong.iter().take(20) {
        println!("    {wrong}");
    }
    share
}

fn truth<'a>(chains: &'a [&'a str]) -> Truth<'a> {
    Truth { chains, tops: "", guessed: "" }
}

#[test]
fn chains_with_leaves_that_have_no_frame_that_use_the_red_zone_and_that_save_all_registers() {
    let _alone = alone();
    let place = directory();
    let programs = build_all(place.path(), &EVERYWHERE, "plain.c", &[]);
    check(&programs, &truth(&["_start @libc.so.6{2} main > a b c bare|red_zone|saves_all"]));
}

#[test]
fn a_thousand_frames_of_recursion() {
    let _alone = alone();
    let place = directory();
    let programs = build_all(place.path(), &EVERYWHERE, "recursion.c", &[]);
    check(&programs, &truth(&["_start @libc.so.6{2} main > recurse{1000} spin"]));
}

#[test]
fn tail_calls_leave_no_frame() {
    let _alone = alone();
    let place = directory();
    let ways: Vec<_> = EVERYWHERE.into_iter().filter(|(_, level)| *level != "-O0").collect();
    let programs = build_all(place.path(), &ways, "tail.c", &["-foptimize-sibling-calls"]);
    check(&programs, &truth(&["_start @libc.so.6{2} main > caller first|second|last"]));
}

#[test]
fn frames_that_are_realigned_and_of_a_size_that_only_the_run_knows() {
    let _alone = alone();
    let place = directory();
    let programs = build_all(place.path(), &EVERYWHERE, "align.c", &[]);
    let chain = "_start @libc.so.6{2} main > aligned32 allocates both many aligned64 spin";
    let truth = Truth { chains: &[chain], tops: "use", guessed: "" };
    check(&programs, &truth);
}

#[test]
fn exceptions_being_thrown() {
    let _alone = alone();
    let place = directory();
    let programs = build_all(place.path(), &EVERYWHERE, "throw.cpp", &[]);
    let chain = "_start @libc.so.6{2} main > run catcher a deep{500} b thrower";
    let tops =
        "@libstdc++.so.6|@libgcc_s.so.1|@libc.so.6|@ld-linux-x86-64.so.2|_init|Guard::~Guard";
    check(&programs, &Truth { chains: &[chain], tops, guessed: "" });
}

#[test]
fn signal_handlers_on_the_threads_stack_and_on_one_of_their_own() {
    let _alone = alone();
    let place = directory();
    let programs = build_all(place.path(), &EVERYWHERE, "signals.c", &[]);
    let chains = [
        "_start @libc.so.6{2} main > work spin",
        "_start @libc.so.6{2} main @libc.so.6 > handler|alternate handled",
        "_start @libc.so.6{2} main work @libc.so.6 > handler|alternate handled",
        "_start @libc.so.6{2} main work spin @libc.so.6 > handler|alternate handled",
    ];
    check(&programs, &truth(&chains));
}

#[test]
fn jumps_back_by_longjmp() {
    let _alone = alone();
    let place = directory();
    let programs = build_all(place.path(), &EVERYWHERE, "longjmp.c", &[]);
    let chain = "_start @libc.so.6{2} main > tries a jumper";
    check(&programs, &Truth { chains: &[chain], tops: "@libc.so.6|_init", guessed: "" });
}

#[test]
fn calls_into_a_library_that_are_bound_when_they_are_made() {
    let _alone = alone();
    let place = directory();
    let library =
        build(place.path(), "libtruth.so", "gcc", "library.c", &["-O2", "-shared", "-fPIC"]);
    let library = library.path.to_str().unwrap();
    let lazy = [library, "-Wl,-z,lazy", "-Wl,-z,norelro"];
    let mut programs = build_all(place.path(), &EVERYWHERE, "lazy.c", &lazy);
    let with_endbr = [&lazy[..], &["-fcf-protection", "-Wl,-z,ibtplt"]].concat();
    programs.push(build(place.path(), "ibt", "gcc", "lazy.c", &with_endbr));
    let chain = "_start @libc.so.6{2} main > calls|forget";
    // The stubs lie behind _init and have no names of their own.
    let tops = "@libtruth.so|@ld-linux-x86-64.so.2|_init";
    check(&programs, &Truth { chains: &[chain], tops, guessed: "" });
}

#[test]
fn the_clock_of_the_vdso() {
    let _alone = alone();
    let place = directory();
    let programs = build_all(place.path(), &EVERYWHERE, "clock.c", &[]);
    let chain = "_start @libc.so.6{2} main > reads_clock";
    check(&programs, &Truth { chains: &[chain], tops: "@libc.so.6|@[vdso]|_init", guessed: "" });
}

#[test]
fn threads() {
    let _alone = alone();
    let place = directory();
    let programs = build_all(place.path(), &EVERYWHERE, "spawn.c", &[]);
    check(&programs, &truth(&["@libc.so.6{2} entry > work spin"]));
}

#[test]
fn contexts_of_the_c_library_with_stacks_of_their_own() {
    let _alone = alone();
    let place = directory();
    let programs = build_all(place.path(), &EVERYWHERE, "context.c", &[]);
    let chains = ["_start @libc.so.6{2} main > drives", "@libc.so.6 body > work spin"];
    check(&programs, &Truth { chains: &chains, tops: "@libc.so.6|_init", guessed: "" });
}

#[test]
fn coroutines_that_switch_stacks_in_assembly() {
    let _alone = alone();
    let place = directory();
    let programs = build_all(place.path(), &EVERYWHERE, "coroutine.c", &[]);
    let chains =
        ["_start @libc.so.6{2} main > drives switch_stack", "start_coroutine body > work spin"];
    check(&programs, &Truth { chains: &chains, tops: "switch_stack", guessed: "" });
}
