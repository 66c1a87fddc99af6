//! One session, many windows: they follow each other without a gap, and what a window is made of can be named after it.
#![allow(clippy::unwrap_used)]

mod common;
use std::time::Duration;

use common::{Running, alone, compile, directory, pause};
use everytick::kernel::Settings;
use everytick::naming;
use everytick::session::{ClosedWindow, Limits, Scan, Session};
use profile::{Profile, TickOutcome};
use symbolizer::Symbolizer;

const HZ: u32 = 997;
const PROGRAM: &str = env!("CARGO_BIN_EXE_everytick");

fn start() -> Session {
    let settings = Settings {
        tick_limit: 100_000_000, // other work on this machine is not to cut stacks
        ..Settings::machine(HZ)
    };
    Session::start(PROGRAM, settings, Scan::All, Limits::default(), None, None).unwrap()
}

fn name(closed: &ClosedWindow) -> Profile {
    let mut symbolizer = Symbolizer::new(PROGRAM, ["symbolizer-worker".to_owned()]);
    let ClosedWindow { window, ledger, period, executables } = closed;
    naming::name(window, ledger.clone(), *period, executables, &mut symbolizer).0
}

/// Counts the samples of a process that runs the chain: all, and those whose stacks show it.
fn samples_of(profile: &Profile, comm: &str) -> (u64, u64) {
    let chain = ["spin", "c", "b", "a", "main"];
    let (mut all, mut named) = (0, 0);
    for sample in &profile.samples {
        if &*profile.tasks[sample.key.task.0 as usize].comm != comm {
            continue;
        }
        let lines = profile.frames_of(sample).flat_map(|frame| &frame.lines);
        let names: Vec<&str> =
            lines.map(|line| &*profile.functions[line.function as usize].name).collect();
        all += sample.count;
        named += sample.count * u64::from(names.windows(chain.len()).any(|part| part == chain));
    }
    (all, named)
}

#[test]
fn each_tick_is_in_one_window() {
    let _alone = alone();
    let place = directory();
    let _running = Running::start(&compile("chain.c", place.path(), "chain"));
    let mut session = start();
    let mut windows = Vec::new();
    for turn in 0..6 {
        pause(200 + 37 * turn);
        windows.push(session.cut().unwrap());
    }
    pause(100);
    let recording = session.finish().unwrap();
    let ticks = recording.sampler_time.ticks;
    windows.push(recording.last);

    for closed in &windows {
        closed.ledger.check().unwrap();
        let (all, named) = samples_of(&name(closed), "chain");
        assert!(all > 10 && named * 100 >= all * 95, "{named} of {all}\n{}", closed.ledger);
        assert_eq!(closed.ledger.lost_total(), 0, "{}", closed.ledger);
    }
    assert_eq!(windows.iter().map(|closed| closed.ledger.ticks()).sum::<u64>(), ticks);
    for pair in windows.windows(2) {
        let end = pair[0].period.start_unix_ns + pair[0].period.duration_ns;
        let gap = Duration::from_nanos(pair[1].period.start_unix_ns.abs_diff(end));
        assert!(gap < Duration::from_millis(1), "{gap:?}");
    }
}

#[test]
fn a_program_that_is_gone_is_named_in_its_window_and_forgotten_in_the_next_ones() {
    let _alone = alone();
    let place = directory();
    let program = compile("chain.c", place.path(), "gone");
    let mut session = start();
    let running = Running::start(&program);
    pause(400);
    drop(running);
    std::fs::remove_file(&program).unwrap();
    let closed = session.cut().unwrap();
    let is_open = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let mut targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
        targets.any(|target| target.to_string_lossy().contains("/gone"))
    };
    pause(6000);
    assert!(is_open(), "the window needs it");
    let (all, named) = samples_of(&name(&closed), "gone");
    assert!(all > 50 && named * 10 > all * 8, "{named} of {all}"); // it was started meanwhile
    drop(closed);
    assert!(!is_open(), "nobody needs it any more");
    let later = session.finish().unwrap().last;
    later.ledger.check().unwrap();
    assert_eq!(later.ledger.outcome(TickOutcome::LostRingFull), 0);
    assert_eq!(samples_of(&name(&later), "gone").0, 0);
}
