//! Memory that changes under the sampler's feet: libraries that come and go, programs that turn into each other, children
//! in their parent's memory, numbers that are used again. A stack may be cut; it is never that of another program.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
use std::path::{Path, PathBuf};

use common::{Recorded, alone, compile_with, directory, record};

/// The chain in `programs/churn/code.h`.
const CHAIN: [&str; 3] = ["a", "b", "spin"];
/// Code without frame pointers, at addresses that all programs of one source share.
const BARE: [&str; 4] = ["-O2", "-fomit-frame-pointer", "-fno-pie", "-no-pie"];

/// What stacks with frames of the chain say: whole ones, cut ones, and those that mix.
#[derive(Debug, Default)]
struct Said {
    whole: u64,
    cut: u64,
    mixed: Vec<(Vec<String>, u64)>,
}

/// Splits the names of the chain: `spin_17` is spin, 17.
fn tagged(frame: &str) -> Option<(&str, &str)> {
    let (name, number) = frame.rsplit_once('_')?;
    (CHAIN.contains(&name) && number.parse::<u32>().is_ok()).then_some((name, number))
}

/// Judges a folded stack; `None` when it does not lead through the chain.
fn is_true(stack: &[String]) -> Option<bool> {
    let first = stack.iter().position(|frame| tagged(frame).is_some())?;
    let (outer, inner) = stack.split_at(first);
    // Kernel frames may come after the chain.
    let chain: Vec<_> = inner.iter().map_while(|frame| tagged(frame)).collect();
    let is_one = chain.iter().all(|(_, number)| *number == chain[0].1);
    let names: Vec<&str> = chain.iter().map(|(name, _)| *name).collect();
    let is_contiguous = CHAIN.windows(names.len()).any(|part| part == names);
    let is_cut = stack.iter().any(|frame| frame.starts_with("[cut"));
    let is_rooted = outer.iter().any(|frame| frame == "main") && names[0] == CHAIN[0];
    let rest_is_kernel = inner[chain.len()..].iter().all(|frame| frame.ends_with("_[k]"));
    Some(is_one && is_contiguous && rest_is_kernel && (is_cut || is_rooted))
}

fn judge(recorded: &Recorded) -> Said {
    let mut said = Said::default();
    for (stack, count) in recorded.folded() {
        let is_cut = stack.iter().any(|frame| frame.starts_with("[cut"));
        match is_true(&stack) {
            None => {}
            Some(false) => said.mixed.push((stack, count)),
            Some(true) if is_cut => said.cut += count,
            Some(true) => said.whole += count,
        }
    }
    println!(
        "{} whole, {} cut, {} mixed\n{}",
        said.whole,
        said.cut,
        said.mixed.len(),
        recorded.stderr
    );
    said
}

/// Asserts that nothing is mixed, and that nine of ten stacks are whole.
fn promise(recorded: &Recorded) {
    let said = judge(recorded);
    assert!(said.mixed.is_empty(), "{:#?}\n{}", said.mixed, recorded.stderr);
    assert!(said.whole > 100 && said.whole > 9 * said.cut, "{said:?}\n{}", recorded.stderr);
}

fn churn(source: &str, place: &Path, name: &str, number: u32) -> String {
    let define = format!("-DNUMBER={number}");
    let arguments = [&BARE[..], &[&define]].concat();
    path_text(compile_with(&format!("churn/{source}"), place, name, &arguments))
}

fn path_text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

/// Libraries that are compiled; all others are copies of these with numbers of their own.
const COMPILED: usize = 20;

/// Makes so many distinct libraries, `0.so` and so on.
fn libraries(place: &Path, count: usize) {
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
        std::fs::read(compile_with("churn/library.c", place, "compiled.so", &flags)).unwrap()
    };
    let compiled: Vec<Vec<u8>> = (0..COMPILED).map(compile).collect();
    for number in 0..count {
        let (old, new) = (7000 + number % COMPILED, 1000 + number);
        let mut bytes = compiled[number % COMPILED].clone();
        replace(&mut bytes, format!("_{old}\0").as_bytes(), format!("_{new}\0").as_bytes());
        replace(&mut bytes, &bytes_of(&id(old)), &bytes_of(&id(new)));
        std::fs::write(place.join(format!("{number}.so")), bytes).unwrap();
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let places: Vec<usize> =
        (0..=bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at..at + new.len()].copy_from_slice(new));
}

#[test]
fn a_thousand_libraries_at_the_same_addresses_never_mix() {
    let _alone = alone();
    let place = directory();
    libraries(place.path(), 1000);
    let program = path_text(compile_with("churn/libraries.c", place.path(), "libraries", &BARE));
    let directory = path_text(place.path().into());
    promise(&record(&["-F", "1997", "--", &program, "3", &directory, "1000"]).succeeded());
}

#[test]
fn two_programs_that_exec_each_other_a_thousand_times_never_mix() {
    let _alone = alone();
    let place = directory();
    let [one, two] = [3, 4].map(|n| churn("turns.c", place.path(), &format!("turns{n}"), n));
    promise(&record(&["-F", "1997", "--", &one, "1000", &two, &one]).succeeded());
}

#[test]
fn children_in_their_parents_memory_and_children_that_exec_are_told_apart() {
    let _alone = alone();
    let place = directory();
    let [one, two] = [3, 4].map(|n| churn("turns.c", place.path(), &format!("turns{n}"), n));
    let parent = churn("children.c", place.path(), "children", 5);
    let recorded = record(&["-F", "1997", "--", &parent, "900", &one, &two]).succeeded();
    promise(&recorded);
    for number in 3..=5 {
        assert!(recorded.samples_through(&["main", &format!("a_{number}")]) > 100, "{number}");
    }
}

#[test]
fn a_number_that_is_used_again_is_another_process() {
    let _alone = alone();
    let place = directory();
    let [one, two] = [3, 4].map(|n| churn("turns.c", place.path(), &format!("turns{n}"), n));
    let parent = churn("children.c", place.path(), "children", 5);
    let free = (20_000..30_000).find(|pid| !Path::new(&format!("/proc/{pid}")).exists()).unwrap();
    let arguments = ["-F", "1997", "--", &parent, "600", &one, &two, &free.to_string()];
    promise(&record(&arguments).succeeded());
}

#[test]
fn code_at_20_000_places_is_found_also_where_mremap_has_moved_it() {
    let _alone = alone();
    let place = directory();
    let program = path_text(compile_with("churn/regions.c", place.path(), "regions", &[]));
    let recorded = record(&["-F", "499", "--no-kernel", "--", &program, "20000", "2"]).succeeded();
    println!("{}", recorded.stderr);
    let all = recorded.samples_through(&["main", "call"]);
    let moved = recorded.samples_through(&["main", "call_moved"]);
    let whole = |name: &str| {
        let stacks = recorded.folded();
        let whole = |stack: &[String]| {
            stack.iter().any(|f| f == "_start") && !stack.iter().any(|f| f.starts_with("[cut"))
        };
        let is = |stack: &[String]| stack.iter().any(|frame| frame == name);
        stacks.iter().filter(|(stack, _)| is(stack) && whole(stack)).map(|(_, n)| n).sum::<u64>()
    };
    println!("{} of {all}, {} of {moved}", whole("call"), whole("call_moved"));
    assert!(whole("call") * 100 > all * 95 && all > 100, "{} of {all}", whole("call"));
    assert!(
        whole("call_moved") * 100 > moved * 95 && moved > 100,
        "{} of {moved}",
        whole("call_moved")
    );
}

#[test]
fn the_judge_knows_a_mixed_stack() {
    let judged = |text: &str| is_true(&text.split(';').map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(judged("p;_start;main;a_3;b_3;spin_3"), Some(true));
    assert_eq!(judged("p;_start;main;a_3;b_3;spin_3;irq_[k]"), Some(true));
    assert_eq!(judged("p;[cut: no unwind table];b_3;spin_3"), Some(true));
    assert_eq!(judged("p;_start;main"), None);
    assert_eq!(judged("p;_start;main;a_3;b_4;spin_3"), Some(false));
    assert_eq!(judged("p;_start;main;b_3;spin_3"), Some(false));
    assert_eq!(judged("p;[cut: no unwind row];a_3;spin_3"), Some(false));
    assert_eq!(judged("p;_start;main;a_3;b_3;spin_3;strlen"), Some(false));
}
