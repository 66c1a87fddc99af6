//! One session, many windows: they follow each other without a gap, and each can be symbolized
//! after it is closed.
#![allow(clippy::unwrap_used)]

mod common;
use std::time::Duration;

use common::{Running, alone, compile, directory, pause, wait_until};
use everytick::kernel::{SamplerConfig, SamplingRate, online_cpus};
use everytick::session::{ClosedWindow, ScanScope, Session, SessionLimits};
use everytick::symbolization::{self, SymbolizerMemory, WindowSymbolizer};
use profile::{NotSampled, Profile, TickOutcome};

const HZ: u32 = 997;
const PROGRAM: &str = env!("CARGO_BIN_EXE_everytick");

fn start() -> Session {
    let settings = SamplerConfig {
        tick_limit: 100_000_000, // other work on this machine must not cut stacks
        ..SamplerConfig::machine(HZ)
    };
    Session::start(PROGRAM, settings, ScanScope::All, SessionLimits::default(), None, None).unwrap()
}

fn name(closed: &ClosedWindow) -> Profile {
    let mut symbolizer = WindowSymbolizer::new(PROGRAM, SymbolizerMemory::default());
    let ClosedWindow { window, ledger, period, executables, .. } = closed;
    symbolization::symbolize(window, ledger.clone(), *period, executables, &mut symbolizer).0
}

/// Counts the samples of a process that runs `chain.c`: all of them, and those with the whole
/// chain.
fn samples_of(profile: &Profile, comm: &str) -> (u64, u64) {
    let chain = ["spin", "c", "b", "a", "main"];
    let (mut all, mut whole) = (0, 0);
    for sample in &profile.samples {
        if &*profile.tasks[sample.key.task.0 as usize].comm != comm {
            continue;
        }
        let lines = profile.frames_of(sample).flat_map(|frame| &frame.lines);
        let names: Vec<&str> =
            lines.map(|line| &*profile.functions[line.function as usize].name).collect();
        all += sample.count;
        whole += sample.count * u64::from(names.windows(chain.len()).any(|part| part == chain));
    }
    (all, whole)
}

#[test]
fn each_tick_is_in_exactly_one_window() {
    let _alone = alone();
    let temp = directory();
    let _running = Running::start(&compile("chain.c", temp.path(), "chain"));
    let mut session = start();
    let mut windows = Vec::new();
    for turn in 0..6 {
        pause(200 + 37 * turn);
        windows.push(session.close_window().unwrap());
    }
    pause(100);
    let recording = session.finish().unwrap();
    let ticks = recording.last.counts.sampler.ticks;
    windows.push(recording.last);

    for closed in &windows {
        closed.ledger.check().unwrap();
        let (all, whole) = samples_of(&name(closed), "chain");
        assert!(all > 10 && whole * 100 >= all * 95, "{whole} of {all} whole\n{}", closed.ledger);
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
fn deleted_program_is_symbolized_in_its_window_then_forgotten() {
    let _alone = alone();
    let temp = directory();
    let program = compile("chain.c", temp.path(), "gone");
    let mut session = start();
    let running = Running::start(&program);
    let cpu = || everytick::procfs::stat(running.pid().parse().unwrap()).unwrap().cpu;
    wait_until("the program to compute", || cpu() >= Duration::from_millis(300));
    drop(running);
    std::fs::remove_file(&program).unwrap();
    let closed = session.close_window().unwrap();
    let is_open = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let mut targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
        targets.any(|target| target.to_string_lossy().contains("/gone"))
    };
    pause(6000);
    assert!(is_open(), "the closed window must hold the executable");
    let (all, whole) = samples_of(&name(&closed), "gone");
    // Sampling had begun before the program.
    assert!(all > 50 && whole * 10 > all * 8, "{whole} of {all} whole");
    drop(closed);
    assert!(!is_open(), "nothing needs the executable any more");
    let later = session.finish().unwrap().last;
    later.ledger.check().unwrap();
    assert_eq!(later.ledger.outcome(TickOutcome::LostRingFull), 0);
    assert_eq!(samples_of(&name(&later), "gone").0, 0);
}

#[test]
fn rate_change_begins_a_window_with_its_own_period() {
    let _alone = alone();
    let temp = directory();
    let program = compile("chain.c", temp.path(), "chain");
    // The clock of a sleeping virtual CPU may miss ticks, so every CPU is kept busy.
    let _running: Vec<_> =
        online_cpus().unwrap().iter().map(|_| Running::start(&program)).collect();
    let mut session = start();
    let full = SamplingRate::from_hz(HZ);
    let lowered = SamplingRate { lowered: Some(NotSampled::Budget), ..full };
    let lowered = SamplingRate { period: SamplingRate::from_hz(10).period, ..lowered };
    let paces = [SamplingRate::from_hz(199), SamplingRate::from_hz(499), lowered, full];
    let mut windows = Vec::new();
    for pace in paces {
        pause(700);
        windows.push(session.close_window_at_rate(pace).unwrap());
    }
    pause(700);
    windows.push(session.finish().unwrap().last);

    let hz = [HZ, 199, 499, 10, HZ];
    for (closed, hz) in windows.iter().zip(hz) {
        let (ledger, period) = (&closed.ledger, closed.period.sample_ns);
        ledger.check().unwrap();
        assert_eq!(period, 1_000_000_000 / u64::from(hz));
        // Ticks are due for the time of this window, and for no other.
        let cpus = ledger.cpus.len() as f64;
        let due = |hz: u32| closed.period.duration_ns as f64 * f64::from(hz) / 1e9 * cpus;
        let requested = ledger.due() - ledger.not_sampled_total();
        let off = (requested as f64 - due(hz)).abs();
        assert!(off <= due(hz) * 0.1 + 2.0, "{requested} instead of {} at {hz} Hz", due(hz));
        let budget = ledger.not_sampled(NotSampled::Budget);
        if hz == 10 {
            let off = (ledger.due() as f64 - due(HZ)).abs();
            assert!(off <= due(HZ) * 0.02 + 2.0, "{} due instead of {}", ledger.due(), due(HZ));
            assert!(budget > requested * 50, "{ledger}");
        } else {
            assert_eq!(budget, 0, "{ledger}");
        }
        assert!(ledger.missed() * 20 <= ledger.due() + 20, "{ledger}");
    }
    let (all, whole) = samples_of(&name(&windows[4]), "chain");
    assert!(whole * 100 >= all * 95 && all > 300, "{whole} of {all} whole after the lowered rate");
}
