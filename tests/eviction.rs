//! Tables that evict each other from the kernel over and over, while everything is sampled at
//! 5 kHz: a stack may be cut meanwhile, but it is never wrong.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
use std::path::Path;

use common::{Running, alone, compile_with, directory, in_parallel, pause, record, signal};
use everytick::kernel::{Filters, SamplerConfig};
use everytick::procfs::start_ticks;
use everytick::session::{ClosedWindow, ScanScope, Session, SessionLimits};
use profile::{Pid, StackEnd};
use rustix::process::Signal;

/// Programs, each with a table of about 130 KiB; the budget is 1 MiB.
const PROGRAMS: usize = 12;
/// The true chain, without the number in each program's function names.
const CHAIN: [&str; 5] = ["main", "a", "b", "c", "spin"];

#[derive(Debug, PartialEq, Eq)]
enum Correctness {
    /// The true stack.
    True,
    /// The innermost part of it, marked as cut.
    Cut,
    Wrong,
}

/// Compares a folded stack, without its process, with the true chain of a program.
fn check_stack(number: usize, frames: &[String]) -> Correctness {
    let function = |name: &&str| match *name {
        "main" => "main".to_owned(),
        other => format!("{other}_{number}"),
    };
    let chain: Vec<String> = CHAIN.iter().map(function).collect();
    let (cut, frames) = match frames.split_first() {
        Some((first, rest)) if first.starts_with("[cut: ") => (true, rest),
        _ => (false, frames),
    };
    let frames: Vec<&String> =
        frames.iter().skip_while(|f| f.starts_with("_start") || f.starts_with("__libc")).collect();
    // Between two calls, the innermost frames are missing.
    let is_true = (1..=chain.len()).any(|depth| frames.iter().copied().eq(&chain[..depth]));
    let is_part = frames.iter().rev().zip(chain.iter().rev()).all(|(f, c)| *f == c)
        || (1..chain.len())
            .any(|d| chain[..d].iter().rev().zip(frames.iter().rev()).all(|(c, f)| *f == c));
    match (cut, is_true, is_part) {
        (false, true, _) => Correctness::True,
        (true, _, true) => Correctness::Cut,
        _ => Correctness::Wrong,
    }
}

fn start_programs(directory: &Path) -> Vec<Running> {
    let build = |number| {
        let define = format!("-DNUMBER={number}");
        let bare = ["-fomit-frame-pointer", "-O2", "-g0", &define];
        compile_with("wide.c", directory, &format!("wide{number}"), &bare)
    };
    in_parallel(0..PROGRAMS, build).iter().map(|program| Running::start(program)).collect()
}

#[test]
fn eviction_never_makes_a_stack_wrong() {
    let _alone = alone();
    let temp = directory();
    let programs = start_programs(temp.path());
    let pids: Vec<String> = programs.iter().map(Running::pid).collect();
    let seconds = std::env::var("EVERYTICK_STRESS_SECONDS").unwrap_or("30".into());
    let mut arguments =
        vec!["-F", "5000", "-d", &seconds, "--no-kernel", "--unwind-memory", "1MiB"];
    pids.iter().for_each(|pid| arguments.extend(["-p", pid]));
    let recorded = record(&arguments).succeeded();

    let (mut whole, mut cut) = (0, 0);
    for (stack, count) in recorded.folded() {
        let number = stack[0].trim_start_matches("wide").parse().unwrap();
        match check_stack(number, &stack[1..]) {
            Correctness::True => whole += count,
            Correctness::Cut => cut += count,
            Correctness::Wrong => panic!("{count} times {stack:?}\n{}", recorded.stderr),
        }
    }
    let evicted = recorded.stderr.lines().find(|line| line.contains("tables were evicted"));
    println!("{whole} true, {cut} cut, none wrong; {}", evicted.unwrap_or_default().trim());
    // A thread of low priority reads the tables, and every CPU is busy: stacks are cut meanwhile.
    assert!(evicted.is_some(), "no table was evicted\n{}", recorded.stderr);
    assert!(whole * 4 > cut, "{whole} true, {cut} cut\n{}", recorded.stderr);
}

#[test]
fn least_recently_sampled_table_is_evicted_and_comes_back() {
    let _alone = alone();
    let temp = directory();
    let programs = start_programs(temp.path());
    let (first, others) = programs.split_at(1);
    let send = |to: &[Running], what| to.iter().for_each(|program| signal(&program.0, what));
    send(&programs, Signal::STOP);
    let pids: Vec<u32> = programs.iter().map(|program| program.0.id()).collect();
    let with_start = |pid: &u32| (*pid, start_ticks(*pid).unwrap());
    let processes = pids.iter().map(with_start).collect();
    let settings = SamplerConfig {
        filters: Filters { processes, ..Filters::default() },
        kernel_stacks: false,
        tick_limit: 100_000_000, // other work on this machine must not cut stacks
        ..SamplerConfig::machine(997)
    };
    let scan = ScanScope::Only(pids.into_iter().map(Pid).collect());
    let limits = SessionLimits { unwind: 1 << 20, ..SessionLimits::default() };
    let program = env!("CARGO_BIN_EXE_everytick");
    let mut session = Session::start(program, settings, scan, limits, None, None).unwrap();

    let mut window_of = |running: &[Running], milliseconds| {
        send(running, Signal::CONT);
        pause(milliseconds);
        send(running, Signal::STOP);
        let ClosedWindow { ledger, .. } = session.close_window().unwrap();
        ledger.check().unwrap();
        (ledger.aggregated, ledger.user_ends[StackEnd::Complete as usize])
    };
    let (before, others_only, after) =
        (window_of(first, 3000), window_of(others, 3000), window_of(first, 3000));
    // Tables that were evicted over and over are in backoff; these fit together, and then stay.
    let fitting = &others[..5];
    let is_complete = |(all, complete): &(u64, u64)| complete * 10 > all * 9;
    let recovered = (0..60).map(|_| window_of(fitting, 1000)).find(is_complete);
    let evicted = session.finish().unwrap().last.counts.tables.evicted;
    println!(
        "{before:?}, then {others_only:?} of others, then {after:?}, finally {recovered:?}; \
         {evicted} tables evicted"
    );
    assert!(evicted > 0);
    assert!(recovered.is_some(), "tables have not come back after their backoff");
    for window in [before, after] {
        assert!(window.0 > 200 && is_complete(&window), "too few complete stacks: {window:?}");
    }
}

#[test]
fn wrong_stacks_are_recognized() {
    let stack = |text: &str| text.split(';').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        check_stack(3, &stack("_start;__libc_start_main_impl;main;a_3;b_3;c_3;spin_3")),
        Correctness::True
    );
    assert_eq!(check_stack(3, &stack("_start;main;a_3")), Correctness::True);
    assert_eq!(check_stack(3, &stack("[cut: no unwind table];c_3;spin_3")), Correctness::Cut);
    assert_eq!(check_stack(3, &stack("[cut: no unwind table];a_3")), Correctness::Cut);
    assert_eq!(check_stack(3, &stack("_start;main;a_3;b_3;spin_3")), Correctness::Wrong);
    assert_eq!(check_stack(3, &stack("_start;main;a_3;b_4;c_3;spin_3")), Correctness::Wrong);
    assert_eq!(check_stack(3, &stack("[cut: no unwind table];b_3;spin_3")), Correctness::Wrong);
    assert_eq!(check_stack(3, &stack("a_3;b_3;c_3;spin_3")), Correctness::Wrong);
}
