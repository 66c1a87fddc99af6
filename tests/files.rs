//! Files behind mappings: on volumes that are unmounted, on file systems that never answer,
//! replaced while they run.
#![allow(clippy::unwrap_used)]

mod common;
mod fuse;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::agent::Agent;
use common::{Recording, Running, alone, compile, directory, pause, record, succeed, wait_until};

fn run(command: &str, arguments: &[&str]) {
    succeed(Command::new(command).args(arguments));
}

/// A tmpfs of its own, unmounted at the end in any case.
struct Volume(tempfile::TempDir);

impl Volume {
    fn mount() -> Self {
        let place = directory();
        run("mount", &["-t", "tmpfs", "volume", place.path().to_str().unwrap()]);
        Self(place)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn unmount(&self) -> bool {
        Command::new("umount").arg(self.path()).status().unwrap().success()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-q", "-l"]).arg(self.path()).status();
    }
}

#[test]
fn a_volume_unmounts_once_its_last_process_has_exited() {
    let _alone = alone();
    let volume = Volume::mount();
    // A program of its own: a copy of another stays open for as long as either of them runs.
    let sleeper = volume.path().join("sleeper");
    std::fs::write(&sleeper, [std::fs::read("/bin/sleep").unwrap(), vec![0]].concat()).unwrap();
    std::fs::set_permissions(&sleeper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let recording = Recording::start(&["--comm", "somebody"]);
    run(sleeper.to_str().unwrap(), &["0.2"]);
    wait_until("the volume to unmount", || volume.unmount());
    recording.stop().succeeded();
}

/// It takes at most ten windows of a second, as long as one default window of the agent.
#[test]
fn a_volume_unmounts_while_the_agent_runs_on() {
    let _alone = alone();
    let volume = Volume::mount();
    let program = compile("chain.c", volume.path(), "chain");
    let mut agent = Agent::start("frequency = 99\nmax_cpu = 100");
    let running = Running::start(&program);
    agent.wait_for_windows(3);
    drop(running);
    let closed = || agent.metric("everytick_windows_closed_total");
    let last = closed();
    agent.wait_for("the volume to unmount", || volume.unmount().then_some(()));
    let windows = closed() - last;
    assert!(windows <= 10.0, "a file on it was open for {windows} windows");
    agent.stop();
}

#[test]
fn a_program_replaced_while_it_runs_keeps_its_symbols() {
    let _alone = alone();
    let place = directory();
    let program = compile("chain.c", place.path(), "program");
    let running = Running::start(&program);
    pause(100);
    std::fs::remove_file(&program).unwrap();
    compile("inlined.c", place.path(), "program");
    let recorded = record(&["-F", "499", "-d", "1", "-p", &running.pid()]).succeeded();
    let named = recorded.samples_through(&["_start", "main", "a", "b", "c", "spin"]);
    assert!(named > 200, "{named}: {:#?}", recorded.folded());
}

#[test]
fn an_overwritten_copy_has_the_symbols_of_its_new_content() {
    let _alone = alone();
    let place = directory();
    let program = compile("chain.c", place.path(), "program");
    let copy = place.path().join("copy");
    std::fs::copy(&program, &copy).unwrap();
    let recording = Recording::start(&["-F", "499"]);
    let _program = Running::start(&program); // this is the file that is held open
    pause(2000);
    drop(Running::start(&copy));
    pause(1000);
    let other = compile("threads.c", place.path(), "other");
    std::fs::write(&copy, std::fs::read(other).unwrap()).unwrap(); // the same inode
    pause(5000);
    let _copy = Running::start(&copy);
    pause(2500);
    let recorded = recording.stop().succeeded();
    let named = recorded.samples_through(&["copy", "late_work"]);
    assert!(named > 50, "{named}: {:#?}", recorded.folded());
    let before = recorded.samples_through(&["copy", "spin"]); // a tick or two of its first moment
    assert!(before < 5, "{before}: {:#?}", recorded.folded());
}

#[test]
fn a_process_in_another_mount_namespace_has_its_own_files() {
    let _alone = alone();
    let place = directory();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let outside = compile("chain.c", place.path(), "program");
    compile("threads.c", place.path(), "other");
    let script = format!("mount --bind {} {}; exec {}", at("other"), at("program"), at("program"));
    let mut command = Command::new("unshare");
    let inside = Running(command.args(["-m", "sh", "-c", &script]).spawn().unwrap());
    let outside = Running::start(&outside);
    pause(300);
    let pids = [inside.pid(), outside.pid()];
    let recorded = record(&["-F", "499", "-d", "2", "-p", &pids[0], "-p", &pids[1]]).succeeded();
    assert!(recorded.samples_through(&["program", "late_work"]) > 50);
    assert!(recorded.samples_through(&["program", "main", "a", "b", "c", "spin"]) > 50);
    assert_eq!(recorded.samples_through(&["late_work", "spin"]), 0);
}

#[test]
fn a_file_system_that_never_answers_delays_no_other() {
    let _alone = alone();
    let place = directory();
    let (unresponsive, busy) = (directory(), directory());
    let program = compile("chain.c", place.path(), "chain");
    let served = fuse::serve(unresponsive.path(), std::fs::read(&program).unwrap());
    let stuck = Running::start(&unresponsive.path().join("program"));
    pause(500); // it runs and all its pages are in memory
    served.stop_answering();
    let recording = Recording::start(&["-F", "499"]);
    let other = Running::start(&compile("chain.c", busy.path(), "other"));
    pause(1500);
    drop(other);
    pause(1500);
    let recorded = recording.stop().succeeded();
    let named = recorded.samples_through(&["other", "_start", "main", "a", "b", "c", "spin"]);
    let note = "on a file system that did not answer";
    assert!(named > 200, "{named}\n{}", recorded.stderr);
    assert!(recorded.samples_through(&["program"]) > 200, "{}", recorded.stderr);
    assert!(recorded.stderr.contains(note), "{}", recorded.stderr);
    drop((stuck, served));
}

#[test]
fn files_get_symbols_once_their_file_system_answers_again() {
    let _alone = alone();
    let (place, unresponsive) = (directory(), directory());
    let program = compile("chain.c", place.path(), "chain");
    let served = fuse::serve(unresponsive.path(), std::fs::read(&program).unwrap());
    let program = unresponsive.path().join("program");
    let _running = Running::start(&program);
    pause(500); // it runs and all its pages are in memory
    served.stop_answering();
    let recording = Recording::start(&["-F", "499"]);
    pause(3000);
    served.resume_answering();
    pause(11_000); // the backoff of an unresponsive device is ten seconds
    drop(Running::start(&program)); // another process maps a file on it
    pause(1500);
    let recorded = recording.stop().succeeded();
    let named = recorded.samples_through(&["program", "_start", "main", "a", "b", "c", "spin"]);
    assert!(named > 500, "{named}\n{}", recorded.stderr);
    drop(served);
}
