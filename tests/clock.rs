//! The wall clock jumps by years and back while windows are stored: none is removed.
//!
//! The clock that jumps is the real one, in a guest of its own; `upload` tests the rules with a
//! clock of its own.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
#[path = "kernels/machine.rs"]
mod machine;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::directory;
use profile::Origin;
use profile::pprof::proto as pb;
use rustix::time::{ClockId, clock_gettime, clock_settime};
use upload::clock::{Clock, SystemClock};
use upload::delivery::{Delivery, DeliveryConfig, NamedSink};
use upload::sinks::directory::windows_in;
use upload::spool::SpoolConfig;
use upload::{Batch, SinkConfig};

/// Seconds after which the guest is killed. It takes 15 on two idle cores.
const TIMEOUT_SECONDS: &str = "300";

const STORE: &str = "/tmp/store";
const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;

#[test]
fn no_jump_of_the_real_clock_removes_a_window() {
    let directory = directory();
    let root = machine::root(&directory, "clock/init.sh", &["/bin/busybox"]);
    machine::add_stripped(&std::env::current_exe().unwrap(), &root, "clock");
    machine::copy_libraries(&root.join("bin/clock"), &root);
    let mut guest = Command::new("timeout");
    guest.args(["--kill-after=5", TIMEOUT_SECONDS]);
    guest.args(machine::command_line("6.1", &machine::pack(&root)));
    let output = guest.stdin(Stdio::null()).output().unwrap();
    let console = String::from_utf8_lossy(&output.stdout);
    assert!(console.contains("1 passed") && console.contains("== exit 0"), "{console}");
}

/// Sets the wall clock forward, or back if negative.
fn jump(seconds: i64) {
    let mut time = clock_gettime(ClockId::Realtime);
    time.tv_sec += seconds;
    clock_settime(ClockId::Realtime, time).unwrap();
}

/// Returns a window that begins now.
fn window(clock: &SystemClock) -> Batch {
    let origin = Origin { start: clock.boot_time(), instance: 1, host: "guest".into() };
    let value = |r#type, unit| pb::ValueType { r#type, unit };
    let texts = ["", "samples", "count", "cpu", "nanoseconds", &origin.to_string()];
    let profile = pb::Profile {
        sample_type: vec![value(1, 2), value(3, 4)],
        sample: vec![pb::Sample { value: vec![1, 1], ..Default::default() }],
        period_type: Some(value(3, 4)),
        period: 1,
        time_nanos: clock.unix_ns() as i64,
        duration_nanos: 1_000_000,
        comment: vec![5],
        string_table: texts.map(str::to_owned).into(),
        ..Default::default()
    };
    Batch { profile }
}

#[test]
#[ignore = "sets the clock of the guest"]
fn sets_the_clock() {
    assert!(Path::new("/init").exists(), "this is not the guest");
    let clock = SystemClock::new();
    jump(1_795_571_040 - (clock.unix_ns() / 1_000_000_000) as i64);
    let settings = [("directory", STORE), ("max_age", "1h")];
    let settings = SinkConfig::parse("file", &settings).unwrap();
    let sinks = vec![NamedSink { name: "store".into(), settings }];
    let spool = SpoolConfig { directory: "/tmp/spool".into(), ..Default::default() };
    let delivery = Delivery::start(&DeliveryConfig { spool, sinks }, None).unwrap();
    let mut stored = 0;
    let mut store = |count: u64| {
        for _ in 0..count {
            delivery.accept(&window(&clock)).unwrap();
        }
        stored += count;
        let start = Instant::now();
        while delivery.counts().sinks["store"].ledger.delivered < stored {
            assert!(start.elapsed() < Duration::from_secs(60), "{:#?}", delivery.counts());
            std::thread::sleep(Duration::from_millis(10));
        }
        let counts = delivery.counts();
        let age = counts.sinks["store"].oldest_age.unwrap_or_default();
        assert!(age < Duration::from_secs(60), "a batch is {age:?} old");
        let listing = windows_in(Path::new(STORE), 0, u64::MAX).unwrap();
        assert_eq!(listing.windows.len() as u64, stored);
        println!("{stored} windows at {}", clock.unix_ns() / 1_000_000_000);
    };
    store(24);
    for seconds in [10 * YEAR, -10 * YEAR, -DAY, DAY, 2 * DAY, -4 * DAY, 2 * DAY] {
        jump(seconds);
        store(3);
        std::thread::sleep(Duration::from_millis(500));
        store(2);
    }
}
