//! Power that is gone in the middle of a write: no accepted window is lost, and none is torn.
//!
//! A guest with a disk of its own accepts windows, and its emulator is killed: what the guest's kernel had not sent to the disk is
//! gone. The guest boots again from what is on the disk. That the kill takes something with it is proved beside: files that nobody
//! synced are not whole then.
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
use upload::Batch;
use upload::delivery::{Delivery, DeliveryConfig, NamedSink};
use upload::spool::SpoolConfig;

/// How often the power goes.
const LIVES: u64 = 4;
/// Most windows of one life.
const WINDOWS: u64 = 10_000;
/// Longest wait for a line of the console. A guest boots in ten seconds on two quiet cores.
const PATIENCE: Duration = Duration::from_secs(300);

/// The place of a window's own text among its strings.
const TEXT: usize = 5;

/// Where things are in the guest.
const DISK: &str = "/disk";

#[test]
fn what_was_accepted_is_there_when_the_power_comes_back() {
    let place = directory();
    let (disk, archive) = (disk(&place), guest(&place));
    let mut random = fastrand::Rng::with_seed(6);
    let (mut accepted, mut careless_lost) = (BTreeSet::new(), 0);
    for life in 0..=LIVES {
        let mut machine = Machine::boot(&archive, &disk);
        let found = machine.until("== delivered");
        for directory in ["store", "away"] {
            let there = numbers(&found, directory);
            let lost: Vec<_> = accepted.difference(&there).collect();
            assert!(lost.is_empty(), "after life {life}, {lost:?} are not in {directory}");
        }
        careless_lost += accepted.difference(&numbers(&found, "careless")).count();
        if life == LIVES {
            break;
        }
        machine.until("accepted");
        let moment = Duration::from_millis(random.u64(100..2_000));
        let told = machine.turn_off_after(moment);
        let new = numbers(&told, "accepted");
        assert!(!new.is_empty(), "it accepted nothing: {told:?}");
        accepted.extend(new);
    }
    assert!(
        careless_lost > 0,
        "nothing that was not synced was lost: turning off is no power loss"
    );
}

/// A machine with a disk, and the lines of its console.
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

    /// The lines of the console up to the first that begins so.
    fn until(&self, begin: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.console.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("`{begin}` did not come: {lines:#?}"));
            assert!(!line.contains("panicked"), "{line} {lines:#?}");
            let is_last = line.starts_with(begin);
            lines.push(line);
            if is_last {
                return lines;
            }
        }
    }

    /// Lets it run for so long, and turns the power off; gives what the console had said by then.
    fn turn_off_after(&mut self, moment: Duration) -> Vec<String> {
        let end = Instant::now() + moment;
        let mut lines = Vec::new();
        let left = || end.saturating_duration_since(Instant::now());
        while let Ok(line) = self.console.recv_timeout(left()) {
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

/// The numbers of lines `WORD NUMBER`. The last line may be cut off.
fn numbers(lines: &[String], word: &str) -> BTreeSet<u64> {
    let number =
        |line: &String| line.strip_prefix(word)?.strip_prefix(' ')?.strip_suffix('.')?.parse().ok();
    lines.iter().filter_map(number).collect()
}

fn disk(place: &TempDir) -> PathBuf {
    let path = place.path().join("disk");
    fs::File::create(&path).unwrap().set_len(256 << 20).unwrap();
    assert!(Command::new("/sbin/mkfs.ext4").arg("-q").arg(&path).status().unwrap().success());
    path
}

/// This program is what runs in the guest.
fn guest(place: &TempDir) -> PathBuf {
    let root = machine::root(place, "power/init.sh", &["/bin/busybox"]);
    machine::add_stripped(&std::env::current_exe().unwrap(), &root, "power");
    machine::copy_libraries(&root.join("bin/power"), &root);
    machine::pack(&root)
}

fn settings(away: serde_json::Value) -> DeliveryConfig {
    let disk = Path::new(DISK);
    let sink = |name: &str, settings: serde_json::Value| NamedSink {
        name: name.into(),
        settings: serde_json::from_value(settings).unwrap(),
    };
    let store = serde_json::json!({ "type": "file", "directory": disk.join("store") });
    let spool = SpoolConfig { directory: disk.join("spool"), ..Default::default() };
    DeliveryConfig { spool, sinks: vec![sink("store", store), sink("away", away)] }
}

/// One window in three takes more than one write of a file system. Each begins in a millisecond of its own, and so has a
/// name of its own in the store.
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

fn careless(number: u64) -> PathBuf {
    Path::new(DISK).join("careless").join(number.to_string())
}

/// The numbers of the windows in a directory of the disk, each of which is whole.
fn numbers_in(name: &str) -> Vec<u64> {
    let path = Path::new(DISK).join(name);
    fs::create_dir_all(&path).unwrap();
    let listing = upload::sinks::directory::windows_in(&path, 0, u64::MAX).unwrap();
    assert_eq!((listing.damaged.len(), listing.left_out), (0, 0));
    let check = |found: upload::sinks::directory::StoredWindow| {
        let number = found.start_unix_ns / 1_000_000;
        let profile = upload::sinks::directory::read(&found.path).unwrap();
        assert!(profile == window(number).profile, "{} is torn", found.path.display());
        number
    };
    listing.windows.into_iter().map(check).collect()
}

/// Says something at once, on a line of its own; the dot shows that it is whole.
fn say(word: &str, number: u64) {
    let mut out = std::io::stdout();
    out.write_all(format!("\n{word} {number}.\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

#[test]
#[ignore = "runs in the guest of the story above"]
fn accepts_until_the_power_is_gone() {
    let away = serde_json::json!({ "type": "parca", "url": "http://127.0.0.1:1" });
    let delivery = Delivery::start(&settings(away), None).unwrap();
    fs::create_dir_all(careless(0).parent().unwrap()).unwrap();
    let last = numbers_in("store").into_iter().max().unwrap_or(0);
    for number in last + 1..=last + WINDOWS {
        let batch = window(number);
        fs::write(careless(number), &batch.profile.string_table[TEXT]).unwrap();
        delivery.accept(&batch).unwrap();
        say("accepted", number);
    }
}

#[test]
#[ignore = "runs in the guest of the story above"]
fn delivers_what_is_in_the_spool() {
    let away = serde_json::json!({ "type": "file", "directory": Path::new(DISK).join("away") });
    let delivery = Delivery::start(&settings(away), None).unwrap();
    let counts = delivery.stop(PATIENCE);
    counts.check().unwrap();
    assert_eq!(counts.pending(), 0);
    for name in ["store", "away"] {
        numbers_in(name).into_iter().for_each(|number| say(name, number));
    }
    for entry in fs::read_dir(careless(0).parent().unwrap()).into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if text == window(number).profile.string_table[TEXT] {
            say("careless", number);
        }
    }
    println!("\n== delivered");
}
