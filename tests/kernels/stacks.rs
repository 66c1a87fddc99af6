//! Stacks of programs without frame pointers that are known by construction. `stacks.sh` runs in
//! the guest.

use crate::common::Folded;
use crate::guest::Guest;

const CHAIN: [&str; 5] = ["main", "a", "b", "c", "spin"];

/// How stacks may end in the first seconds: an emulated CPU takes long to read call frames.
const TOO_EARLY: [&str; 3] =
    ["[cut: no unwind table]", "[cut: mapping replaced]", "[cut: end of the stack snapshot]"];

/// Checks that a program has at least `least` samples, and that 99 % of them are correct.
fn check(stacks: &Folded, program: &str, least: u64, is_correct: impl Fn(&[String]) -> bool) {
    let is_early = |stack: &[String]| TOO_EARLY.contains(&stack[1].as_str());
    let own = || stacks.iter().filter(|(stack, _)| stack[0] == program && !is_early(stack));
    let all: u64 = own().map(|(_, count)| count).sum();
    let wrong: Vec<_> = own().filter(|(stack, _)| !is_correct(&stack[1..])).collect();
    let correct = all - wrong.iter().map(|(_, count)| count).sum::<u64>();
    assert!(all >= least, "only {all} samples of {program}: {stacks:#?}");
    assert!(correct * 100 >= all * 99, "{program}: {correct} of {all} are correct; not {wrong:#?}");
}

/// Returns the user frames of a stack, outermost first.
fn user_frames(stack: &[String]) -> Vec<&str> {
    stack.iter().map(String::as_str).filter(|frame| !frame.ends_with("_[k]")).collect()
}

/// Returns whether the user frames are the entry point, two of the C library, and `from_main`.
fn is_complete(stack: &[String], from_main: &[&str]) -> bool {
    let user = user_frames(stack);
    user[0] == "_start" && user.get(3..).is_some_and(|rest| rest == from_main)
}

/// Returns whether the user frames are the whole recursion.
pub fn is_recursion(stack: &[String], depth: usize) -> bool {
    is_complete(stack, &[vec!["main"], vec!["descend"; depth], vec!["spin"]].concat())
}

/// Returns whether the user frames are the innermost 512 of a recursion, marked as cut.
pub fn is_cut_after_512(stack: &[String]) -> bool {
    user_frames(stack)
        == [vec!["[cut: user depth limit]"], vec!["descend"; 511], vec!["spin"]].concat()
}

pub fn check_doctor(guest: &Guest, frames: u32) {
    let doctor = guest.text("doctor");
    assert!(doctor.contains("`everytick record` works here."), "{doctor}");
    assert!(doctor.contains(&format!("user stacks of up to {frames} frames")), "{doctor}");
    assert!(!doctor.contains("warn "), "{doctor}");
}

/// Checks the recording of four programs. `is_deeper`: whether a stack of the recursion of 900
/// frames is correct.
pub fn check_stacks(guest: &Guest, is_deeper: impl Fn(&[String]) -> bool) {
    guest.text("record");
    let stacks = guest.folded("folded");
    check(&stacks, "chain", 100, |stack| is_complete(stack, &CHAIN));
    check(&stacks, "deep", 100, |stack| is_recursion(stack, 300));
    check(&stacks, "deeper", 100, is_deeper);
    check(&stacks, "syscalls", 100, |stack| {
        is_complete(stack, &["main", "reads"]) || is_complete(stack, &["main"])
    });
    let in_kernel = |stack: &[String]| stack.iter().any(|frame| frame == "vfs_read_[k]");
    let reads = stacks.iter().filter(|(stack, _)| in_kernel(stack)).map(|(_, count)| count);
    assert!(reads.sum::<u64>() >= 80, "system calls have no kernel frames: {stacks:#?}");
}

/// Checks the stacks of `chain` from its main function on, of which there are at least `least`.
pub fn check_chain(stacks: &Folded, least: u64) {
    let is_loaded = |stack: &[String]| stack.iter().any(|frame| frame == "spin");
    let loaded = stacks.iter().filter(|(stack, _)| is_loaded(stack)).cloned().collect();
    check(&loaded, "chain", least, |stack| is_complete(stack, &CHAIN));
}

/// Checks the recording of a command with every filter, from its first instruction.
pub fn check_filters(guest: &Guest) {
    guest.text("record_with_filters");
    let stacks = guest.folded("folded_with_filters");
    // During exec the thread has its new name before the kernel reports it.
    let in_exec = |stack: &[String]| stack.iter().any(|frame| frame == "begin_new_exec_[k]");
    assert!(stacks.iter().all(|(stack, _)| stack[0] == "chain" || in_exec(stack)), "{stacks:#?}");
    check_chain(&stacks, 50);
}
