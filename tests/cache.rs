//! Unwind tables cached between runs: the same stacks with less to read, whatever happens to the
//! directory.
#![allow(clippy::unwrap_used)]

mod common;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{
    Recorded, Recording, Running, alone, compile_with, directory, everytick, pause, record,
    wait_until,
};

/// Starts a program without frame pointers that has enough rows to be cached.
fn wide(directory: &Path) -> Running {
    let bare = ["-fomit-frame-pointer", "-O2", "-g0", "-DNUMBER=1"];
    Running::start(&compile_with("wide.c", directory, "wide", &bare))
}

fn record_with(cache: &Path, program: &Running) -> Recorded {
    let (pid, cache) = (program.pid(), cache.to_str().unwrap());
    record(&["-F", "499", "-d", "1", "--no-kernel", "-p", &pid, "--cache-dir", cache]).succeeded()
}

/// Returns the stacks that end in `spin_1`, where the program is nearly all the time.
///
/// At least 95 % of all stacks must be whole: a busy machine may cut some.
fn stacks(recorded: &Recorded) -> BTreeSet<Vec<String>> {
    let folded = recorded.folded();
    let all: u64 = folded.iter().map(|(_, count)| count).sum();
    let is_whole = |stack: &[String]| !stack.iter().any(|frame| frame.starts_with("[cut"));
    let whole = folded.iter().filter(|(stack, _)| is_whole(stack));
    let count: u64 = whole.clone().map(|(_, count)| count).sum();
    assert!(count > 50 && count * 100 >= all * 95, "{count} of {all} whole\n{}", recorded.stderr);
    let stacks = whole.map(|(stack, _)| stack.clone());
    let stacks: BTreeSet<_> = stacks.filter(|stack| stack.ends_with(&["spin_1".into()])).collect();
    let chain = ["main", "a_1", "b_1", "c_1", "spin_1"];
    assert!(stacks.iter().all(|stack| stack.ends_with(&chain.map(str::to_owned))), "{stacks:?}");
    assert!(!stacks.is_empty(), "{}", recorded.stderr);
    stacks
}

/// Returns how many tables came from the cache, and how many files in it were damaged.
fn loaded_and_damaged(recorded: &Recorded) -> (u64, u64) {
    let before = |text: &str| {
        let line = recorded.stderr.lines().find(|line| line.contains(text))?;
        line[..line.find(text).unwrap()].split_whitespace().last()?.replace(',', "").parse().ok()
    };
    let loaded = before(" from the cache").unwrap_or(0);
    (loaded, before(" damaged files in the cache").unwrap_or(0))
}

fn tables(cache: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths.collect();
    paths.sort();
    paths
}

#[test]
fn second_run_loads_cached_tables_and_replaces_damaged_ones() {
    let _alone = alone();
    let temp = directory();
    let cache = temp.path().join("cache");
    let program = wide(temp.path());

    let first = record_with(&cache, &program);
    assert_eq!(loaded_and_damaged(&first), (0, 0), "{}", first.stderr);
    let files = tables(&cache);
    assert!(files.len() >= 2, "no table of the program or of the C library: {files:?}");
    let bytes: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();

    let second = record_with(&cache, &program);
    let (loaded, damaged) = loaded_and_damaged(&second);
    assert!(loaded >= 2 && damaged == 0, "{}", second.stderr);
    assert_eq!(stacks(&second), stacks(&first));

    for (number, path) in files.iter().enumerate() {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        // A changed byte, a truncated file, the table of another file.
        match number % 3 {
            0 => fs::write(path, &bytes).unwrap(),
            1 => fs::write(path, &bytes[..middle]).unwrap(),
            _ => drop(fs::copy(&files[number - 1], path).unwrap()),
        }
    }
    let third = record_with(&cache, &program);
    assert_eq!(loaded_and_damaged(&third), (0, files.len() as u64), "{}", third.stderr);
    assert_eq!(stacks(&third), stacks(&first));
    assert_eq!(tables(&cache), files);
    assert!(files.iter().zip(&bytes).all(|(path, bytes)| fs::read(path).unwrap() == *bytes));
}

#[test]
fn cache_may_be_deleted_during_a_run() {
    let _alone = alone();
    let temp = directory();
    let cache = temp.path().join("cache");
    let cache_path = cache.to_str().unwrap();
    let arguments = ["-F", "499", "--no-kernel", "--comm", "wide", "--cache-dir", cache_path];
    let recording = Recording::start(&arguments);
    // A table of the first moments may be written just now.
    wait_until("the cache to be removed", || fs::remove_dir_all(&cache).is_ok());
    let program = wide(temp.path());
    pause(2000);
    let recorded = recording.stop().succeeded();
    drop(program);
    let warning = "tables could not be written to the cache: No such file or directory";
    assert_eq!(recorded.stderr.matches(warning).count(), 1, "{}", recorded.stderr);
    assert!(!cache.exists());
    stacks(&recorded);
}

#[test]
fn directory_that_others_can_change_is_rejected() {
    let _alone = alone();
    let temp = directory();
    let path = |name: &str| temp.path().join(name);
    for name in ["open", "theirs", "ours"] {
        fs::create_dir(path(name)).unwrap();
    }
    fs::set_permissions(path("open"), PermissionsExt::from_mode(0o777)).unwrap();
    std::os::unix::fs::chown(path("theirs"), Some(65534), None).unwrap();
    symlink(path("ours"), path("link")).unwrap();
    fs::write(path("file"), "").unwrap();
    let cases = [
        ("open", "other users may write there; `chmod go-w "),
        ("theirs", ": it belongs to user 65534; give a directory of user 0"),
        ("link", ": it is a symbolic link; give its target"),
        ("link/", ": it is a symbolic link; give its target"),
        ("file", ": it is not a directory; give another path"),
        ("file/below", ": it is not a directory; give another path"),
    ];
    for (name, expected) in cases {
        let mut command = everytick();
        command.args(["record", "-d", "9", "-o", "x.svg", "--cache-dir"]).arg(path(name));
        let output = command.current_dir(path("ours")).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {stderr}");
        assert!(stderr.contains(expected), "{name}: {stderr}");
        assert_eq!(stderr.trim_end().lines().count(), 1, "{name}: {stderr}");
        assert_eq!(fs::read_dir(path("ours")).unwrap().count(), 0);
    }
}
