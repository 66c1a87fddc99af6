//! Both unwinders, by loop and by tail calls, take the same stacks on a kernel that supports both.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Running, alone, compile_with, directory, pause};
use everytick::kernel::{Filters, SamplerConfig, Unwinder};
use everytick::session::{Recording, ScanScope, Session, SessionLimits};
use profile::{FileAddr, Pid, StackEnd};

/// Builds without frame pointers, as distributions do.
const BARE: [&str; 2] = ["-fomit-frame-pointer", "-fno-optimize-sibling-calls"];

const PROGRAM: &str = env!("CARGO_BIN_EXE_everytick");

fn config(pid: u32, unwinder: Unwinder) -> SamplerConfig {
    SamplerConfig {
        kernel_stacks: false,
        filters: Filters { processes: vec![(pid, start_ticks(pid))], ..Filters::default() },
        unwinder,
        user_frames_limit: unwinder.frames_max(),
        tick_limit: 100_000_000, // other load on this machine must not cut stacks
        ..SamplerConfig::machine(499)
    }
}

fn start_ticks(pid: u32) -> u64 {
    everytick::procfs::start_ticks(pid).unwrap()
}

/// Records a process for a second with one unwinder. Panics if the ledger does not close.
fn record(pid: u32, unwinder: Unwinder) -> Recording {
    let scan = ScanScope::Only(vec![Pid(pid)]);
    let session =
        Session::start(PROGRAM, config(pid, unwinder), scan, SessionLimits::default(), None, None)
            .unwrap();
    pause(1000);
    let recording = session.finish().unwrap();
    recording.last.ledger.check().unwrap();
    assert!(
        recording.last.ledger.aggregated > 100,
        "only {} samples",
        recording.last.ledger.aggregated
    );
    recording
}

/// The callers of a stack, without the interrupted instruction, and why the stack ends.
type Callers = (Vec<FileAddr>, StackEnd);

/// Counts samples by their callers.
fn by_callers(recording: &Recording) -> BTreeMap<String, (Callers, u64)> {
    let window = &recording.last.window;
    let frames: Vec<FileAddr> = window.frames().map(|frame| frame.address).collect();
    let stacks: Vec<_> = window.stacks().collect();
    let mut all: BTreeMap<String, (Callers, u64)> = BTreeMap::new();
    for (key, count) in window.samples() {
        let stack = stacks[key.stack.0 as usize];
        let callers: Vec<_> = stack[1..].iter().map(|frame| frames[frame.0 as usize]).collect();
        let callers = (callers, key.user_end);
        all.entry(format!("{callers:?}")).or_insert((callers, 0)).1 += count;
    }
    all
}

/// Returns the callers of 99 % of the samples; panics if they differ.
fn only_callers(recording: &Recording) -> Callers {
    let all = by_callers(recording);
    let (callers, count) = all.into_values().max_by_key(|(_, count)| *count).unwrap();
    let samples = recording.last.ledger.aggregated;
    assert!(count * 100 >= samples * 99, "{count} of {samples} have {callers:?}");
    callers
}

fn start_deep(program: &Path, depth: u32) -> Running {
    let mut command = Command::new(program);
    Running(command.arg(depth.to_string()).stdout(Stdio::null()).spawn().unwrap())
}

#[test]
fn unwinders_take_the_same_stack_of_300_frames() {
    let _alone = alone();
    let dir = directory();
    let program = compile_with("deep.c", dir.path(), "deep", &BARE);
    let running = start_deep(&program, 300);
    let by_loop = only_callers(&record(running.0.id(), Unwinder::Loop));
    let by_calls = only_callers(&record(running.0.id(), Unwinder::TailCalls));
    // descend 300 times, main, and the three frames that call main
    assert_eq!((by_loop.0.len(), by_loop.1), (304, StackEnd::Complete));
    assert!(by_loop == by_calls, "by loop {by_loop:?}, by tail calls {by_calls:?}");
}

#[test]
fn tail_call_unwinder_cuts_a_stack_after_512_frames() {
    let _alone = alone();
    let dir = directory();
    let program = compile_with("deep.c", dir.path(), "deep", &BARE);
    let running = start_deep(&program, 900);
    let (by_loop, end) = only_callers(&record(running.0.id(), Unwinder::Loop));
    assert_eq!((by_loop.len(), end), (904, StackEnd::Complete));
    let (by_calls, end) = only_callers(&record(running.0.id(), Unwinder::TailCalls));
    assert_eq!((by_calls.len(), end), (511, StackEnd::Depth));
    assert!(by_loop.starts_with(&by_calls), "{by_calls:?} is not the start of {by_loop:?}");
}

#[test]
fn failing_tail_call_cuts_the_stack_and_loses_no_tick() {
    let _alone = alone();
    let dir = directory();
    let program = compile_with("deep.c", dir.path(), "deep", &BARE);
    let running = start_deep(&program, 300);
    let (callers, end) = only_callers(&record(running.0.id(), Unwinder::BrokenTailCalls));
    assert_eq!((callers.len(), end), (0, StackEnd::Depth));
}
