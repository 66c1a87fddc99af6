//! Exceptions, whose unwinder overwrites the stack that it runs on.
//!
//! At the end of a throw `_Unwind_RaiseException` has a function copy what the landing pad's frame
//! saved over what its own frame saved, and leaves with another stack pointer. Until it has left, a
//! walk would find the one frame's values with the other's address. Stacks are cut there.

use std::ops::Range;
use std::process::Command;

use crate::common::{alone, directory};
use crate::programs::{EVERYWHERE, build_all};
use crate::truth::{Stack, Truth};
use crate::{check_stacks, profile};

/// One of this many samples may be at the end of a throw: it takes 10 to 200 ns of some 150 us.
const OVERWRITING_ONE_OF: u64 = 200;

#[test]
fn exceptions() {
    let _alone = alone();
    let dir = directory();
    let programs = build_all(dir.path(), &EVERYWHERE, "throw.cpp", &[]);
    let chain = "_start @libc.so.6{2} main > run catcher a deep{500} b thrower";
    let tops =
        "@libstdc++.so.6|@libgcc_s.so.1|@libc.so.6|@ld-linux-x86-64.so.2|.plt|~@plt|Guard::~Guard";
    let truth = Truth { chains: &[chain], tops, guessed: "" };

    let ends = ends_of_throws();
    let (overwriting, stacks): (Vec<Stack>, Vec<Stack>) =
        profile(&programs).into_iter().partition(|stack| is_overwriting(stack, &ends));
    let count = |stacks: &[Stack]| stacks.iter().map(|stack| stack.count).sum::<u64>();
    println!("{} samples at the end of a throw", count(&overwriting));
    assert!(overwriting.iter().all(|stack| stack.cut.is_some()), "{overwriting:?}");
    assert!(count(&overwriting) * OVERWRITING_ONE_OF <= count(&stacks), "{overwriting:?}");
    check_stacks(programs.iter().map(|program| (program, truth)), &stacks);
}

/// Whether a sample is in the code that overwrites the stack, or in what this calls.
fn is_overwriting(stack: &Stack, ends: &[Range<u64>]) -> bool {
    stack.frames.iter().rev().take(2).any(|frame| {
        let is_end = ends.iter().any(|end| end.contains(&frame.address));
        frame.file.starts_with("libgcc_s.so.1") && is_end
    })
}

/// Returns the addresses in libgcc at which throws end: from the second last call before one to
/// another stack, that which copies, to the jump after it.
fn ends_of_throws() -> Vec<Range<u64>> {
    let output = Command::new("objdump")
        .args(["-d", "--no-show-raw-insn", "/lib/x86_64-linux-gnu/libgcc_s.so.1"])
        .output()
        .unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    let (mut calls, mut ends) = ([0; 2], Vec::new());
    for line in listing.lines() {
        let Some((address, code)) = line.trim().split_once(":\t") else { continue };
        let address = u64::from_str_radix(address, 16).unwrap();
        if code.starts_with("call ") {
            calls = [calls[1], address];
        } else if code.trim_end() == "mov    %rcx,%rsp" {
            ends.push(calls[0]..address + 6); // pop %rcx; jmp *%rcx
        }
    }
    assert!(!ends.is_empty(), "libgcc leaves functions by another stack pointer");
    ends
}
