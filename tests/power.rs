//! Power loss in the middle of a write: no accepted window is lost or torn.
//!
//! A guest with a disk of its own accepts windows until its emulator is killed, which discards what
//! the guest's kernel has not written to the disk. The guest then boots from that disk again. As
//! proof that the kill loses data, the guest also writes files without syncing them, and some of
//! these must be damaged afterwards.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
#[path = "kernels/machine.rs"]
mod machine;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{TempDir, directory};
use profile::pprof::proto as pb;
use upload::delivery::{Delivery, DeliveryConfig, NamedSink};
use upload::spool::SpoolConfig;
use upload::{Batch, SinkConfig};

/// Number of power losses.
const BOOTS: u64 = 4;
/// Most windows accepted in one boot.
const WINDOWS: u64 = 10_000;
/// Longest wait for a line of the console. A guest boots in ten seconds on two idle cores.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Index of a window's unique text in its string table.
const TEXT: usize = 5;

/// Mount point of the disk in the guest.
const DISK: &str = "/disk";

#[test]
fn power_loss_loses_no_accepted_window() {
    let directory = directory();
    let (disk, archive) = (disk(&directory), guest(&directory));
    let mut random = fastrand::Rng::with_seed(6);
    let (mut accepted, mut unsynced_lost) = (BTreeSet::new(), 0);
    for boot in 0..=BOOTS {
        let mut machine = Machine::boot(&archive, &disk);
        let report = machine.read_until("== delivered");
        for sink in ["store", "away"] {
            let stored = numbers(&report, sink);
            let lost: Vec<_> = accepted.difference(&stored).collect();
            assert!(lost.is_empty(), "after {boot} power losses, {lost:?} are not in {sink}");
        }
        unsynced_lost += accepted.difference(&numbers(&report, "unsynced")).count();
        if boot == BOOTS {
            break;
        }
        accepted.extend(numbers(&machine.read_until("accepted"), "accepted"));
        let delay = Duration::from_millis(random.u64(100..2_000));
        accepted.extend(numbers(&machine.turn_off_after(delay), "accepted"));
    }
    assert!(unsynced_lost > 0, "no unsynced file was lost: killing the emulator is no power loss");
}

/// An emulated machine and the lines of its console.
struct Machine {
    emulator: Child,
    console: Receiver<String>,
}

impl Machine {
    fn boot(archive: &Path, disk: &Path) -> Self {
        let line = machine::command_line("6.1", archive);
        let drive = format!("file={},if=none,id=disk,format=raw,cache=writeback", disk.display());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).args(["-drive", &drive, "-device", "nvme,drive=disk,serial=1"]);
        let mut emulator = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(emulator.stdout.take().unwrap());
        let (sender, console) = channel();
        std::thread::spawn(move || {
            for line in lines.split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&line).trim().to_owned();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        Self { emulator, console }
    }

    /// Returns the lines of the console up to the first with this prefix.
    fn read_until(&self, prefix: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.console.recv_timeout(TIMEOUT);
            let line = line.unwrap_or_else(|_| panic!("no line `{prefix}`: {lines:#?}"));
            assert!(!line.contains("panicked"), "{line} {lines:#?}");
            let is_last = line.starts_with(prefix);
            lines.push(line);
            if is_last {
                return lines;
            }
        }
    }

    /// Kills the emulator after a delay and returns the console output until then.
    fn turn_off_after(&mut self, delay: Duration) -> Vec<String> {
        let end = Instant::now() + delay;
        let mut lines = Vec::new();
        let remaining = || end.saturating_duration_since(Instant::now());
        while let Ok(line) = self.console.recv_timeout(remaining()) {
            lines.push(line);
        }
        self.emulator.kill().unwrap();
        self.emulator.wait().unwrap();
        lines.extend(self.console.iter());
        assert!(!lines.iter().any(|line| line.contains("panicked")), "{lines:#?}");
        lines
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

/// Returns the numbers of lines `WORD NUMBER.`; the last line may be truncated.
fn numbers(lines: &[String], word: &str) -> BTreeSet<u64> {
    let number =
        |line: &String| line.strip_prefix(word)?.strip_prefix(' ')?.strip_suffix('.')?.parse().ok();
    lines.iter().filter_map(number).collect()
}

fn disk(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("disk");
    fs::File::create(&path).unwrap().set_len(256 << 20).unwrap();
    assert!(Command::new("/sbin/mkfs.ext4").arg("-q").arg(&path).status().unwrap().success());
    path
}

/// Builds the guest's initramfs, in which this test binary runs.
fn guest(directory: &TempDir) -> PathBuf {
    let root = machine::root(directory, "power/init.sh", &["/bin/busybox"]);
    machine::add_stripped(&std::env::current_exe().unwrap(), &root, "power");
    machine::copy_libraries(&root.join("bin/power"), &root);
    machine::pack(&root)
}

/// Returns the sink of a directory on the disk.
fn directory_sink(name: &str) -> SinkConfig {
    let path = Path::new(DISK).join(name);
    SinkConfig::parse("file", &[("directory", path.to_str().unwrap())]).unwrap()
}

fn config(away: SinkConfig) -> DeliveryConfig {
    let sink = |name: &str, settings| NamedSink { name: name.into(), settings };
    let spool = SpoolConfig { directory: Path::new(DISK).join("spool"), ..Default::default() };
    DeliveryConfig {
        spool,
        sinks: vec![sink("store", directory_sink("store")), sink("away", away)],
    }
}

/// Returns a window. One in three takes more than one write of the file system. Each starts in its
/// own millisecond and so has its own name in the store.
fn window(number: u64) -> Batch {
    let mut random = fastrand::Rng::with_seed(number);
    let size = if number.is_multiple_of(3) { 50_000 } else { 100 };
    let text: String = (0..size).map(|_| random.alphanumeric()).collect();
    let texts = ["", "samples", "count", "cpu", "nanoseconds", &text];
    let value = |r#type, unit| pb::ValueType { r#type, unit };
    let function = pb::Function { id: 1, name: TEXT as i64, ..Default::default() };
    let line = pb::Line { function_id: 1, line: 1 };
    let profile = pb::Profile {
        sample_type: vec![value(1, 2), value(3, 4)],
        period_type: Some(value(3, 4)),
        period: 1_000_000,
        sample: vec![pb::Sample { location_id: vec![1], value: vec![1, 1_000_000], label: vec![] }],
        location: vec![pb::Location { id: 1, address: 1, mapping_id: 0, line: vec![line] }],
        function: vec![function],
        time_nanos: i64::try_from(number * 1_000_000).unwrap(),
        string_table: texts.map(str::to_owned).into(),
        ..Default::default()
    };
    Batch { profile }
}

/// Returns the path of a file that is written without syncing.
fn unsynced_file(number: u64) -> PathBuf {
    Path::new(DISK).join("unsynced").join(number.to_string())
}

/// Returns the numbers of the windows in a directory of the disk, and asserts that each is intact.
fn stored_numbers(name: &str) -> Vec<u64> {
    let path = Path::new(DISK).join(name);
    fs::create_dir_all(&path).unwrap();
    let listing = upload::sinks::directory::windows_in(&path, 0, u64::MAX).unwrap();
    assert_eq!((listing.damaged.len(), listing.left_out), (0, 0));
    let check = |stored: upload::sinks::directory::StoredWindow| {
        let number = stored.start_unix_ns / 1_000_000;
        let profile = upload::sinks::directory::read(&stored.path).unwrap();
        assert!(profile == window(number).profile, "{} is torn", stored.path.display());
        number
    };
    listing.windows.into_iter().map(check).collect()
}

/// Prints a line at once. The dot marks its end.
fn report(word: &str, number: u64) {
    let mut out = std::io::stdout();
    out.write_all(format!("\n{word} {number}.\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

#[test]
#[ignore = "runs in the guest"]
fn accepts_until_power_loss() {
    let away = SinkConfig::parse("parca", &[("url", "http://127.0.0.1:1")]).unwrap();
    let delivery = Delivery::start(&config(away), None).unwrap();
    fs::create_dir_all(unsynced_file(0).parent().unwrap()).unwrap();
    let last = stored_numbers("store").into_iter().max().unwrap_or(0);
    for number in last + 1..=last + WINDOWS {
        let batch = window(number);
        fs::write(unsynced_file(number), &batch.profile.string_table[TEXT]).unwrap();
        delivery.accept(&batch).unwrap();
        report("accepted", number);
    }
}

#[test]
#[ignore = "runs in the guest"]
fn delivers_the_spool() {
    let delivery = Delivery::start(&config(directory_sink("away")), None).unwrap();
    let counts = delivery.stop(TIMEOUT);
    counts.check().unwrap();
    assert_eq!(counts.pending(), 0);
    for name in ["store", "away"] {
        stored_numbers(name).into_iter().for_each(|number| report(name, number));
    }
    for entry in fs::read_dir(unsynced_file(0).parent().unwrap()).into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if text == window(number).profile.string_table[TEXT] {
            report("unsynced", number);
        }
    }
    println!("\n== delivered");
}
