//! Which file a frame is of: files that are written while they are recorded, files that pretend to
//! be others, and files that cannot be opened. Each has its own names, or none.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
mod fuse;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{
    Recorded, Recording, Running, alone, compile_with, directory, pause, record, succeed,
};

/// Compiles a program that spends its time in a function of this name.
fn named(dir: &Path, name: &str, value: u32, flags: &[&str]) -> PathBuf {
    let defines = [format!("-DNAME={name}"), format!("-DVALUE={value}")];
    let arguments = [&["-O2", &*defines[0], &*defines[1]], flags].concat();
    compile_with("names.c", dir, name, &arguments)
}

/// Compiles two such programs. Returns their names.
fn compile_two(dir: &Path) -> [&'static str; 2] {
    named(dir, "alpha", 3, &[]);
    named(dir, "beta", 5, &[]);
    ["alpha", "beta"]
}

/// Records a shell script. Returns the samples in each of these functions, and those of `program`
/// in all.
fn record_script(dir: &Path, script: &str, names: [&str; 2], program: &str) -> ([u64; 2], u64) {
    let script = format!("cd {}; {script}", dir.display());
    let recorded = record(&["-F", "499", "--no-kernel", "--", "sh", "-c", &script]).succeeded();
    let counts = names.map(|name| recorded.samples_through(&[program, name]));
    let all = recorded.samples_through(&[program]);
    println!("{script}: {names:?} {counts:?} of {all}");
    (counts, all)
}

#[test]
fn an_overwritten_file_has_its_own_names_or_none() {
    let _alone = alone();
    let dir = directory();
    let path = dir.path();
    let names = compile_two(path);
    for overwrite in ["cp beta app", "cp -p beta app", "cat beta >app"] {
        let script = format!("rm -f app; cp alpha app; ./app; {overwrite}; ./app");
        let ([alpha, beta], all) = record_script(path, &script, names, "app");
        assert!(all > 200, "{all}");
        assert!(beta * 10 > all * 3 && beta * 10 < all * 7, "{overwrite}: {beta} of {all}");
        assert!(alpha * 10 < all * 7, "{overwrite}: {alpha} of {all}");
    }
    let script = "rm -f app; cp alpha app; ./app; mv beta app; ./app";
    let ([alpha, beta], all) = record_script(path, script, names, "app");
    assert!((alpha + beta) * 10 > all * 9, "a file that was replaced keeps its names");
}

#[test]
fn a_truncated_or_stripped_file_has_its_own_names_or_none() {
    let _alone = alone();
    let dir = directory();
    let path = dir.path();
    let names = compile_two(path);
    for change in ["truncate -s 0 app", "truncate -s 3000 app", "strip app", "strip -p app"] {
        let script = format!("rm -f app; cp alpha app; ./app; {change}");
        let ([alpha, beta], all) = record_script(path, &script, names, "app");
        assert!(all > 100 && beta == 0 && alpha <= all, "{change}");
    }
}

/// The linker writes the build ID of an option, so two programs can have one, and tools that change
/// a program keep it.
#[test]
fn files_with_one_build_id_and_size_do_not_merge() {
    let _alone = alone();
    let dir = directory();
    let path = dir.path();
    let id = "-Wl,--build-id=0x0123456789abcdef0123456789abcdef01234567";
    let programs = [named(path, "gamma", 3, &[id]), named(path, "delta", 5, &[id])];
    let [one, other] = programs.map(|program| std::fs::read(program).unwrap());
    assert!(one.len() == other.len() && one != other, "they differ in their bytes alone");
    let names = ["gamma", "delta"];
    let script = "cp gamma copy; ./gamma; ./delta; ./copy";
    let script = format!("cd {}; {script}", path.display());
    let recorded = record(&["-F", "499", "--no-kernel", "--", "sh", "-c", &script]).succeeded();
    for (program, right) in [("gamma", "gamma"), ("delta", "delta"), ("copy", "gamma")] {
        let [gamma, delta] = names.map(|name| recorded.samples_through(&[program, "main", name]));
        let (named, wrong) = if right == "gamma" { (gamma, delta) } else { (delta, gamma) };
        assert!(named > 50 && wrong == 0, "{program}: {named} and {wrong}");
    }
}

/// Returns the addresses that frames of `program` without a name have.
fn addresses(recorded: &Recorded) -> Vec<u64> {
    let stacks = recorded.folded();
    let frames = stacks.iter().flat_map(|(stack, _)| stack);
    let hex = frames.filter_map(|frame| frame.strip_prefix("program+0x"));
    let digits = |text: &str| text.chars().take_while(char::is_ascii_hexdigit).collect::<String>();
    hex.map(|address| u64::from_str_radix(&digits(address), 16).unwrap()).collect()
}

/// Returns the range of a function by `nm`.
fn range_of(program: &Path, name: &str) -> std::ops::Range<u64> {
    let symbols = succeed(Command::new("nm").arg("-S").arg(program));
    let line = symbols.lines().find(|line| line.ends_with(&format!(" {name}"))).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let [start, size] = [0, 1].map(|at| u64::from_str_radix(words[at], 16).unwrap());
    start..start + size
}

/// On a file system of a user, root may not open files: `address` in the file is not `offset` there
/// where segments are loaded elsewhere.
#[test]
fn a_file_that_cannot_be_opened_has_addresses_and_a_build_id() {
    let _alone = alone();
    let (dir, user) = (directory(), common::user::User::new());
    let id = "0123456789abcdef0123456789abcdef01234567";
    let build_id = format!("-Wl,--build-id=0x{id}");
    let layouts = [&["-no-pie"][..], &["-no-pie", "-Wl,-z,noseparate-code"], &["-fuse-ld=gold"]];
    for (number, layout) in layouts.iter().enumerate() {
        let flags = [layout, &["-DSECONDS=60", &*build_id][..]].concat();
        let program = named(dir.path(), "leaf", 3, &flags);
        let place = user.path().join(format!("mount{number}"));
        std::fs::create_dir(&place).unwrap();
        let served = fuse::serve_user(&place, std::fs::read(&program).unwrap(), 65534);
        let running = Running(user.command(place.join("program")).spawn().unwrap());
        pause(500);
        assert!(std::fs::File::open(place.join("program")).is_err(), "root may not open it");
        let recording = Recording::start(&["-F", "499", "--no-kernel", "-p", &running.pid()]);
        pause(1000);
        let recorded = recording.stop().succeeded();
        drop((running, served));
        let ranges = ["leaf", "main", "_start"].map(|name| range_of(&program, name));
        let found = addresses(&recorded);
        let is_right = |address: &u64| ranges.iter().any(|range| range.contains(address));
        assert!(found.iter().any(|address| ranges[0].contains(address)), "{flags:?}: {found:x?}");
        assert!(found.iter().all(is_right), "{flags:?}: {found:x?} {ranges:x?}");
        let profile = recorded.pprof();
        let mut ids = profile.mapping.iter().map(|m| &profile.string_table[m.build_id as usize]);
        assert!(ids.any(|found| found == id), "{flags:?}");
    }
}
