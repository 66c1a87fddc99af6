//! Stacks reach their ends: contexts that a program makes itself, expressions of call frames,
//! linkage tables, signals, and system calls.
//!
//! Each test has the situation in which it was first seen, and variants of its kind.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod contexts;
mod expressions;
mod haskell;
mod linkage;
mod system;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Folded, directory, record, succeed};

/// What every program of these tests begins with: `spin()` is to be called while `runs()`, which is
/// for a second of CPU time.
const KNOWN: &str = "
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#define N __attribute__((noinline))
volatile uint64_t sink;
N void spin(void)
{
	for (int i = 0; i < 100000; i++)
		sink += 1;
}
static int runs(void) { return clock() < CLOCKS_PER_SEC; }
";

/// Writes files and builds a program of them. `.h` files are only included.
fn build(
    directory: &Path,
    compiler: &str,
    sources: &[(&str, String)],
    arguments: &[&str],
) -> PathBuf {
    let program = directory.join("program");
    let mut command = Command::new(compiler);
    command.current_dir(directory).args(["-w", "-o"]).arg(&program);
    for (name, text) in sources {
        fs::write(directory.join(name), text).unwrap();
        command.arg(name);
    }
    succeed(command.args(arguments));
    program
}

/// Records a program until it ends.
fn stacks_of(program: &Path) -> Folded {
    record(&["-F", "997", "--no-kernel", "--", program.to_str().unwrap()]).succeeded().folded()
}

fn is_cut(stack: &[String]) -> bool {
    stack.iter().any(|frame| frame.starts_with("[cut"))
}

/// Checks the stacks that end in a function: they are complete and end in this chain, which is all
/// that follows the name of the program if it begins with `^`. The first ticks of a program come
/// before its rows, and are cut: less than a half. Of the others, up to 3 % are cut.
fn check(stacks: &Folded, chain: &[&str], what: &str) {
    let (is_whole, chain) = match chain {
        ["^", chain @ ..] => (true, chain),
        chain => (false, chain),
    };
    let leaf = chain.last().unwrap();
    let ends_here = |stack: &[String]| stack.last().is_some_and(|frame| frame == leaf);
    let is_right = |stack: &[String]| {
        let tail = stack.len().checked_sub(chain.len()).map(|from| &stack[from..]);
        let is_chain = tail.is_some_and(|tail| tail.iter().eq(chain.iter()));
        is_chain && !is_cut(stack) && (!is_whole || stack.len() == chain.len() + 1)
    };
    let count = |is: &dyn Fn(&[String]) -> bool| -> u64 {
        stacks.iter().filter(|(stack, _)| is(stack)).map(|(_, count)| count).sum()
    };
    let is_early = |stack: &[String]| stack.iter().any(|frame| frame == "[cut: no unwind table]");
    let early = count(&|stack| ends_here(stack) && is_early(stack));
    let (all, right) = (count(&ends_here), count(&|stack| ends_here(stack) && is_right(stack)));
    assert!(early * 2 < all, "{what}: {early} of {all} without a table: {stacks:#?}");
    let all = all - early;
    assert!(all > 50, "{what}: only {all} samples: {stacks:#?}");
    assert!(right * 100 >= all * 97, "{what}: {right} of {all}: {stacks:#?}");
}

/// Builds and records a program, and checks the stacks that end in a function.
fn check_program(
    compiler: &str,
    sources: &[(&str, String)],
    arguments: &[&str],
    chain: &[&str],
    what: &str,
) {
    let directory = directory();
    let program = build(directory.path(), compiler, sources, arguments);
    check(&stacks_of(&program), chain, what);
}

/// Returns a source of assembly with one function, or several of which this is the first.
fn assembly(name: &str, body: &str) -> (&'static str, String) {
    let text = format!(
        ".text\n.globl {name}\n.p2align 4\n.type {name}, @function\n{name}:\n{}\n\
         .size {name}, . - {name}\n.section .note.GNU-stack, \"\", @progbits\n",
        body.replace(';', "\n")
    );
    ("code.s", text)
}
