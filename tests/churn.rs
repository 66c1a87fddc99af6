//! Memory that changes while it is sampled: libraries that are loaded and unloaded, programs that
//! execute each other, children in their parent's memory, pids that are reused. A stack may be cut,
//! but never mixes frames of two programs.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
use std::path::{Path, PathBuf};

use common::{Recorded, alone, compile_with, directory, in_parallel, record};

/// The call chain in `programs/churn/code.h`.
const CHAIN: [&str; 3] = ["a", "b", "spin"];
/// Builds code without frame pointers, at addresses that all programs of one source share.
const BARE: [&str; 4] = ["-O2", "-fomit-frame-pointer", "-fno-pie", "-no-pie"];

/// Samples of the call chain by their stacks: complete, cut, and mixed ones.
#[derive(Debug, Default)]
struct ChainSamples {
    complete: u64,
    cut: u64,
    mixed: Vec<(Vec<String>, u64)>,
}

/// Splits a name of the call chain: `spin_17` is spin, 17.
fn numbered(frame: &str) -> Option<(&str, &str)> {
    let (name, number) = frame.rsplit_once('_')?;
    (CHAIN.contains(&name) && number.parse::<u32>().is_ok()).then_some((name, number))
}

/// Returns whether a folded stack is a piece of one call chain, or all of it; `None` if it has no
/// frame of one.
fn is_consistent(stack: &[String]) -> Option<bool> {
    let first = stack.iter().position(|frame| numbered(frame).is_some())?;
    let (outer, inner) = stack.split_at(first);
    // Kernel frames may follow the call chain.
    let chain: Vec<_> = inner.iter().map_while(|frame| numbered(frame)).collect();
    let is_one = chain.iter().all(|(_, number)| *number == chain[0].1);
    let names: Vec<&str> = chain.iter().map(|(name, _)| *name).collect();
    let is_contiguous = CHAIN.windows(names.len()).any(|part| part == names);
    let is_cut = stack.iter().any(|frame| frame.starts_with("[cut"));
    let is_rooted = outer.iter().any(|frame| frame == "main") && names[0] == CHAIN[0];
    let rest_is_kernel = inner[chain.len()..].iter().all(|frame| frame.ends_with("_[k]"));
    Some(is_one && is_contiguous && rest_is_kernel && (is_cut || is_rooted))
}

fn classify(recorded: &Recorded) -> ChainSamples {
    let mut samples = ChainSamples::default();
    for (stack, count) in recorded.folded() {
        let is_cut = stack.iter().any(|frame| frame.starts_with("[cut"));
        match is_consistent(&stack) {
            None => {}
            Some(false) => samples.mixed.push((stack, count)),
            Some(true) if is_cut => samples.cut += count,
            Some(true) => samples.complete += count,
        }
    }
    let ChainSamples { complete, cut, mixed } = &samples;
    println!("{complete} complete, {cut} cut, {} mixed\n{}", mixed.len(), recorded.stderr);
    samples
}

/// Asserts that no stack is mixed, and that nine of ten are complete.
fn check(recorded: &Recorded) {
    let samples = classify(recorded);
    let ChainSamples { complete, cut, mixed } = &samples;
    assert!(mixed.is_empty(), "{mixed:#?}\n{}", recorded.stderr);
    assert!(*complete > 100 && *complete > 9 * cut, "{samples:?}\n{}", recorded.stderr);
}

fn churn(source: &str, dir: &Path, name: &str, number: u32) -> String {
    let define = format!("-DNUMBER={number}");
    let arguments = [&BARE[..], &[&define]].concat();
    path_text(compile_with(&format!("churn/{source}"), dir, name, &arguments))
}

fn path_text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

/// Libraries that are compiled. The others are copies of them with other numbers.
const COMPILED: usize = 20;

/// Builds `count` distinct libraries, `0.so` and so on.
fn libraries(dir: &Path, count: usize) {
    let id = |number: usize| format!("{number:040x}");
    let compile = |number: usize| {
        let define = format!("-DNUMBER={}", 7000 + number);
        let build_id = format!("-Wl,--build-id=0x{}", id(7000 + number));
        let flags = [
            "-O2",
            "-fomit-frame-pointer",
            "-fPIC",
            "-shared",
            "-fvisibility=hidden",
            &define,
            &build_id,
        ];
        let name = format!("compiled{number}.so");
        std::fs::read(compile_with("churn/library.c", dir, &name, &flags)).unwrap()
    };
    let compiled = in_parallel(0..COMPILED, compile);
    for number in 0..count {
        let (old, new) = (7000 + number % COMPILED, 1000 + number);
        let mut bytes = compiled[number % COMPILED].clone();
        replace(&mut bytes, format!("_{old}\0").as_bytes(), format!("_{new}\0").as_bytes());
        replace(&mut bytes, &bytes_of(&id(old)), &bytes_of(&id(new)));
        std::fs::write(dir.join(format!("{number}.so")), bytes).unwrap();
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let offsets: Vec<usize> =
        (0..=bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    assert!(!offsets.is_empty());
    offsets.into_iter().for_each(|at| bytes[at..at + new.len()].copy_from_slice(new));
}

#[test]
fn libraries_at_the_same_addresses_never_mix() {
    let _alone = alone();
    let dir = directory();
    libraries(dir.path(), 1000);
    let program = path_text(compile_with("churn/libraries.c", dir.path(), "libraries", &BARE));
    let directory = path_text(dir.path().into());
    check(&record(&["-F", "1997", "--", &program, "3", &directory, "1000"]).succeeded());
}

#[test]
fn programs_that_exec_each_other_never_mix() {
    let _alone = alone();
    let dir = directory();
    let [one, two] = [3, 4].map(|n| churn("turns.c", dir.path(), &format!("turns{n}"), n));
    check(&record(&["-F", "1997", "--", &one, "1000", &two, &one]).succeeded());
}

/// Without randomized addresses each program has its libraries where the one before had them.
#[test]
fn programs_that_exec_each_other_at_one_base_never_mix() {
    let _alone = alone();
    let dir = directory();
    let [one, two] = [3, 4].map(|number| {
        let define = format!("-DNUMBER={number}");
        let flags = ["-O2", "-fomit-frame-pointer", "-fPIE", "-pie", &define];
        path_text(compile_with("churn/turns.c", dir.path(), &format!("turns{number}"), &flags))
    });
    let command = ["-F", "1997", "--", "setarch", "-R", &one, "600", &two, &one];
    check(&record(&command).succeeded());
}

#[test]
fn vfork_and_spawned_children_never_mix() {
    let _alone = alone();
    let dir = directory();
    let [one, two] = [3, 4].map(|n| churn("turns.c", dir.path(), &format!("turns{n}"), n));
    let parent = churn("children.c", dir.path(), "children", 5);
    let recorded = record(&["-F", "1997", "--", &parent, "900", &one, &two]).succeeded();
    check(&recorded);
    for number in 3..=5 {
        assert!(recorded.samples_through(&["main", &format!("a_{number}")]) > 100, "{number}");
    }
}

#[test]
fn reused_pid_is_another_process() {
    let _alone = alone();
    let dir = directory();
    let [one, two] = [3, 4].map(|n| churn("turns.c", dir.path(), &format!("turns{n}"), n));
    let parent = churn("children.c", dir.path(), "children", 5);
    let free = (20_000..30_000).find(|pid| !Path::new(&format!("/proc/{pid}")).exists()).unwrap();
    let arguments = ["-F", "1997", "--", &parent, "600", &one, &two, &free.to_string()];
    check(&record(&arguments).succeeded());
}

#[test]
fn finds_code_in_20_000_mappings_and_after_mremap() {
    let _alone = alone();
    let dir = directory();
    let program = path_text(compile_with("churn/regions.c", dir.path(), "regions", &[]));
    let recorded = record(&["-F", "499", "--no-kernel", "--", &program, "20000", "2"]).succeeded();
    println!("{}", recorded.stderr);
    let all = recorded.samples_through(&["main", "call"]);
    let moved = recorded.samples_through(&["main", "call_moved"]);
    let complete = |name: &str| {
        let stacks = recorded.folded();
        let is_complete = |stack: &[String]| {
            stack.iter().any(|f| f == "_start") && !stack.iter().any(|f| f.starts_with("[cut"))
        };
        let has_name = |stack: &[String]| stack.iter().any(|frame| frame == name);
        let complete = stacks.iter().filter(|(stack, _)| has_name(stack) && is_complete(stack));
        complete.map(|(_, count)| count).sum::<u64>()
    };
    for (name, all) in [("call", all), ("call_moved", moved)] {
        let complete = complete(name);
        println!("{name}: {complete} of {all} are complete");
        assert!(complete * 100 > all * 95 && all > 100, "{name}: {complete} of {all}");
    }
}

#[test]
fn is_consistent_recognizes_mixed_stacks() {
    let check = |text: &str| is_consistent(&text.split(';').map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(check("p;_start;main;a_3;b_3;spin_3"), Some(true));
    assert_eq!(check("p;_start;main;a_3;b_3;spin_3;irq_[k]"), Some(true));
    assert_eq!(check("p;[cut: no unwind table];b_3;spin_3"), Some(true));
    assert_eq!(check("p;_start;main"), None);
    assert_eq!(check("p;_start;main;a_3;b_4;spin_3"), Some(false));
    assert_eq!(check("p;_start;main;b_3;spin_3"), Some(false));
    assert_eq!(check("p;[cut: no unwind row];a_3;spin_3"), Some(false));
    assert_eq!(check("p;_start;main;a_3;b_3;spin_3;strlen"), Some(false));
}
