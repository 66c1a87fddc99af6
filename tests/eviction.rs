//! Tables that push each other out of the kernel, over and over, while everything is sampled at 5 kHz: a stack
//! may be cut meanwhile, but it is never wrong.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
use std::path::Path;

use common::{Running, alone, compile_with, directory, pause, record, signal};
use everytick::kernel::{Filters, SamplerConfig};
use everytick::processes::proc::start_ticks;
use everytick::session::{ClosedWindow, ScanScope, Session, SessionLimits};
use profile::{Pid, StackEnd};
use rustix::process::Signal;

/// Programs, each with a table of about 130 KiB; a MiB of them has room.
const PROGRAMS: usize = 12;
/// The true chain, without the number that each program's names have.
const CHAIN: [&str; 5] = ["main", "a", "b", "c", "spin"];

/// What a stack of a program says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// The whole truth.
    True,
    /// Part of it, and that it is cut.
    Cut,
    Wrong,
}

/// Judges a folded stack: what follows the process, down to where the thread was.
fn judge(number: usize, frames: &[String]) -> Said {
    let named = |name: &&str| match *name {
        "main" => "main".to_owned(),
        other => format!("{other}_{number}"),
    };
    let chain: Vec<String> = CHAIN.iter().map(named).collect();
    let (cut, frames) = match frames.split_first() {
        Some((first, rest)) if first.starts_with("[cut: ") => (true, rest),
        _ => (false, frames),
    };
    let frames: Vec<&String> =
        frames.iter().skip_while(|f| f.starts_with("_start") || f.starts_with("__libc")).collect();
    // Between two calls, the innermost frames are not there.
    let is_true = (1..=chain.len()).any(|depth| frames.iter().copied().eq(&chain[..depth]));
    let is_part = frames.iter().rev().zip(chain.iter().rev()).all(|(f, c)| *f == c)
        || (1..chain.len())
            .any(|d| chain[..d].iter().rev().zip(frames.iter().rev()).all(|(c, f)| *f == c));
    match (cut, is_true, is_part) {
        (false, true, _) => Said::True,
        (true, _, true) => Said::Cut,
        _ => Said::Wrong,
    }
}

/// Starts them all.
fn programs(place: &Path) -> Vec<Running> {
    let start = |number| {
        let define = format!("-DNUMBER={number}");
        let bare = ["-fomit-frame-pointer", "-O2", "-g0", &define];
        Running::start(&compile_with("wide.c", place, &format!("wide{number}"), &bare))
    };
    (0..PROGRAMS).map(start).collect()
}

#[test]
fn tables_that_push_each_other_out_never_make_a_stack_wrong() {
    let _alone = alone();
    let place = directory();
    let programs = programs(place.path());
    let pids: Vec<String> = programs.iter().map(Running::pid).collect();
    let seconds = std::env::var("EVERYTICK_STRESS_SECONDS").unwrap_or("60".into());
    let mut arguments = vec!["-F", "5000", "-d", &seconds, "--no-kernel", "--unwind-memory", "1"];
    pids.iter().for_each(|pid| arguments.extend(["-p", pid]));
    let recorded = record(&arguments).succeeded();

    let (mut whole, mut cut) = (0, 0);
    for (stack, count) in recorded.folded() {
        let number = stack[0].trim_start_matches("wide").parse().unwrap();
        match judge(number, &stack[1..]) {
            Said::True => whole += count,
            Said::Cut => cut += count,
            Said::Wrong => panic!("{count} times {stack:?}\n{}", recorded.stderr),
        }
    }
    let evicted = recorded.stderr.lines().find(|line| line.contains("tables were evicted"));
    println!("{whole} true, {cut} cut, none wrong; {}", evicted.unwrap_or_default().trim());
    // The tables are read by a thread of low priority, and here every CPU is busy: while it waits, stacks are cut.
    assert!(evicted.is_some(), "no table was evicted\n{}", recorded.stderr);
    assert!(whole * 4 > cut, "{whole} true, {cut} cut\n{}", recorded.stderr);
}

#[test]
fn what_was_sampled_longest_ago_makes_room_and_comes_back_when_it_is_sampled_again() {
    let _alone = alone();
    let place = directory();
    let programs = programs(place.path());
    let (first, others) = programs.split_at(1);
    let send = |to: &[Running], what| to.iter().for_each(|program| signal(&program.0, what));
    send(&programs, Signal::STOP);
    let pids: Vec<u32> = programs.iter().map(|program| program.0.id()).collect();
    let with_start = |pid: &u32| (*pid, start_ticks(*pid).unwrap());
    let processes = pids.iter().map(with_start).collect();
    let settings = SamplerConfig {
        filters: Filters { processes, ..Filters::default() },
        kernel_stacks: false,
        tick_limit: 100_000_000, // other work on this machine is not to cut stacks
        ..SamplerConfig::machine(997)
    };
    let scan = ScanScope::Only(pids.into_iter().map(Pid).collect());
    let limits = SessionLimits { unwind: 1 << 20, ..SessionLimits::default() };
    let program = env!("CARGO_BIN_EXE_everytick");
    let mut session = Session::start(program, settings, scan, limits, None, None).unwrap();

    let mut window_of = |running: &[Running]| {
        send(running, Signal::CONT);
        pause(3000);
        send(running, Signal::STOP);
        let ClosedWindow { ledger, .. } = session.cut().unwrap();
        ledger.check().unwrap();
        (ledger.aggregated, ledger.user_ends[StackEnd::Complete as usize])
    };
    let (before, pushed, after) = (window_of(first), window_of(others), window_of(first));
    // What was pushed out over and over has to wait; these have room together, and then stay.
    let room = &others[..5];
    let is_complete = |(all, complete): &(u64, u64)| complete * 10 > all * 9;
    let waited = (0..20).map(|_| window_of(room)).find(is_complete);
    let evicted = session.finish().unwrap().last.counts.tables.evicted;
    println!(
        "{before:?}, then {pushed:?} of others, then {after:?}, in the end {waited:?}; {evicted} tables evicted"
    );
    assert!(evicted > 0);
    assert!(waited.is_some(), "those that had to wait have not come back");
    for window in [before, after] {
        assert!(window.0 > 200 && is_complete(&window), "{window:?}: so few are complete");
    }
}

#[test]
fn the_judge_knows_a_wrong_stack() {
    let stack = |text: &str| text.split(';').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        judge(3, &stack("_start;__libc_start_main_impl;main;a_3;b_3;c_3;spin_3")),
        Said::True
    );
    assert_eq!(judge(3, &stack("_start;main;a_3")), Said::True);
    assert_eq!(judge(3, &stack("[cut: no unwind table];c_3;spin_3")), Said::Cut);
    assert_eq!(judge(3, &stack("[cut: no unwind table];a_3")), Said::Cut);
    assert_eq!(judge(3, &stack("_start;main;a_3;b_3;spin_3")), Said::Wrong);
    assert_eq!(judge(3, &stack("_start;main;a_3;b_4;c_3;spin_3")), Said::Wrong);
    assert_eq!(judge(3, &stack("[cut: no unwind table];b_3;spin_3")), Said::Wrong);
    assert_eq!(judge(3, &stack("a_3;b_3;c_3;spin_3")), Said::Wrong);
}
