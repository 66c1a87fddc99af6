//! The disk of the store: one that stands still for a while, and files that are cheap to open.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::agent::{Agent, comments, samples};
use common::cgroup::Cgroup;
use common::{Running, alone, compile, parse_ledger, pause};

/// Sampling frequency.
const HZ: f64 = 99.0;
/// How long the disk stands still.
const FROZEN: Duration = Duration::from_secs(12);
/// Windows that pprof opens at once, and the memory that it may take for them.
const WINDOWS: usize = 20;
const PPROF_BYTES: u64 = 256 << 20;

/// A file system of its own in a file, thawed and unmounted at the end in any case.
struct Disk {
    mounted_at: PathBuf,
}

impl Disk {
    fn mount(image: &Path, mounted_at: PathBuf) -> Self {
        std::fs::create_dir(&mounted_at).unwrap();
        std::fs::File::create(image).unwrap().set_len(64 << 20).unwrap();
        let disk = Self { mounted_at };
        assert!(disk.run(Command::new("mkfs.ext4").arg("-q").arg(image)));
        assert!(disk.run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(disk.path())));
        disk
    }

    fn path(&self) -> &Path {
        &self.mounted_at
    }

    /// Freezes the file system with `-f`, so that writes block, and thaws it with `-u`.
    fn freeze(&self, how: &str) -> bool {
        self.run(Command::new("fsfreeze").arg(how).arg(self.path()))
    }

    fn run(&self, command: &mut Command) -> bool {
        command.status().unwrap().success()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(self.path()).output();
        let _ = Command::new("umount").args(["-q", "-l"]).arg(self.path()).status();
    }
}

/// While nothing can be written, the window in progress goes on; that is logged once, though it is
/// tried each second, and every tick of this time is in a window later.
#[test]
fn a_disk_that_stands_still_extends_the_window_and_is_logged_once() {
    let _alone = alone();
    let mut agent = Agent::not_started(&format!("frequency = {HZ}\nmax_cpu = 50"));
    let place = agent.place.path().to_owned();
    let disk = Disk::mount(&place.join("image"), place.join("spool"));
    let _running = Running::start(&compile("chain.c", &place, "chain"));
    agent.restart();
    agent.wait_for_windows(2);

    assert!(disk.freeze("-f"));
    pause(FROZEN.as_millis() as u64);
    assert!(disk.freeze("-u"));
    let log = agent.log();
    let lines = log.lines().filter(|line| line.contains("extending the window"));
    assert_eq!(lines.count(), 1, "{log}");

    let longest = agent.wait_for("a window of the time of the freeze", || {
        let windows = agent.profiles();
        let longest = windows.into_iter().max_by_key(|window| window.duration_nanos)?;
        (longest.duration_nanos as f64 > 0.7 * FROZEN.as_nanos() as f64).then_some(longest)
    });
    let ledger = parse_ledger(comments(&longest).into_iter());
    let ticks_of_one_cpu = longest.duration_nanos as f64 * HZ / 1e9;
    assert!(ledger["ticks"] as f64 > 0.7 * ticks_of_one_cpu, "one is always busy: {ledger:?}");
    assert_eq!(ledger["aggregated"] as i64, samples(&longest));
    assert_eq!(ledger["due"], ledger["ticks"] + ledger["missed"] + ledger["not sampled"]);
    let [closed, accepted, lost] = agent.stop();
    assert!(closed >= accepted && lost == 0, "{}", agent.log());
}

/// `go tool pprof` reads the files of a store at once, as someone does who looks at an hour.
#[test]
fn windows_of_a_store_are_cheap_to_open() {
    let _alone = alone();
    let mut agent = Agent::start(&format!("frequency = {HZ}\nmax_cpu = 50"));
    let _running = Running::start(&compile("chain.c", agent.place.path(), "chain"));
    agent.wait_for_windows(WINDOWS);
    agent.stop();
    let windows = agent.windows();
    let cgroup = Cgroup::with_memory(PPROF_BYTES);
    let mut command = Command::new("go");
    command.args(["tool", "pprof", "-top", "-nodecount=5", "-sample_index=samples"]).args(&windows);
    let output = cgroup.run(&command).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && cgroup.kills() == 0, "{text}");
    let all: i64 = agent.profiles().iter().map(samples).sum();
    assert!(text.contains(&format!("of {all} total")), "{all}: {text}");
}
