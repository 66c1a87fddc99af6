//! Stripped programs get lines from the debug info that their distribution installs by build ID. A
//! file that they name is opened only if it is a regular one.
#![allow(clippy::unwrap_used)]

mod common;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Recorded, Running, alone, compile_with, directory, pause, record, succeed};
use object::Object;
use rustix::fs::{Mode, OFlags};

/// Compiles a program with a build ID and all its debug info.
fn program(directory: &Path) -> PathBuf {
    compile_with("chain.c", directory, "program", &["-Wl,--build-id"])
}

/// Installed debug info, removed at the end.
struct Separate(PathBuf);

impl Separate {
    /// Moves the debug info and symbols of a program to where a package would install them.
    fn of(program: &Path) -> Self {
        let bytes = fs::read(program).unwrap();
        let id = object::File::parse(&*bytes).unwrap().build_id().unwrap().unwrap().to_vec();
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let directory = Path::new("/usr/lib/debug/.build-id").join(&id[..2]);
        fs::create_dir_all(&directory).unwrap();
        let separate = Self(directory.join(format!("{}.debug", &id[2..])));
        succeed(Command::new("objcopy").arg("--only-keep-debug").arg(program).arg(&separate.0));
        succeed(Command::new("strip").arg(program));
        separate
    }
}

impl Drop for Separate {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        let _ = fs::remove_dir(self.0.parent().unwrap()); // only if it is empty
    }
}

fn recorded(program: &Path) -> Recorded {
    let running = Running::start(program);
    record(&["-F", "199", "-d", "1", "-p", &running.pid()]).succeeded()
}

/// Counts samples in `spin` with a source line.
fn with_lines(recorded: &Recorded) -> u64 {
    let traces = recorded.traces();
    let has_line = |frame: &String| frame.starts_with("spin ") && frame.contains("chain.c:");
    traces.iter().filter(|trace| trace.frames.iter().any(has_line)).map(|trace| trace.count).sum()
}

#[test]
fn a_stripped_program_has_lines_by_its_build_id() {
    let _alone = alone();
    let place = directory();
    let program = program(place.path());
    let _separate = Separate::of(&program);
    let recorded = recorded(&program);
    let lines = with_lines(&recorded);
    assert!(lines > 50, "{lines}: {:#?}", recorded.traces());
    assert!(recorded.samples_through(&["main", "a", "b", "c", "spin"]) > 50);
}

#[test]
fn a_debug_link_to_a_pipe_does_not_open_it() {
    let _alone = alone();
    let place = directory();
    let program = program(place.path());
    let pipe = place.path().join("pipe");
    succeed(Command::new("mkfifo").arg(&pipe));
    let link = place.path().join("link");
    fs::write(&link, b"pipe\0\0\0\0\x01\x02\x03\x04").unwrap(); // aligned, then a checksum
    let section = format!(".gnu_debuglink={}", link.display());
    succeed(Command::new("objcopy").arg("--add-section").arg(section).arg(&program));

    let (is_over, was_opened) = (AtomicBool::new(false), AtomicBool::new(false));
    let recorded = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                // This succeeds once the other end is open.
                let writing =
                    rustix::fs::open(&pipe, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
                if let Ok(writer) = writing {
                    was_opened.store(true, Ordering::SeqCst);
                    drop(File::from(writer));
                }
                pause(1);
            }
        });
        let recorded = recorded(&program);
        is_over.store(true, Ordering::SeqCst);
        recorded
    });
    assert!(!was_opened.load(Ordering::SeqCst), "the pipe was opened");
    assert!(recorded.samples_through(&["main", "a", "b", "c", "spin"]) > 50, "{}", recorded.stderr);
}
