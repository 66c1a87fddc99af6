//! Linkage tables as different linkers write them.

use std::path::Path;

use crate::common::{Folded, alone, directory};
use crate::{build, is_cut, stacks_of};

const CALLER: &str = "
#include <time.h>
void empty(void);
volatile int sink;
__attribute__((noinline)) void caller(void)
{
	for (int i = 0; i < 1000000; i++)
		empty();
	sink++;
}
int main(void)
{
	while (clock() < CLOCKS_PER_SEC)
		caller();
	return 0;
}
";

/// Calls an indirect function of the C library.
const STATIC_CALLER: &str = "
#include <string.h>
#include <time.h>
volatile unsigned long sink;
__attribute__((noinline)) void caller(const char *text)
{
	for (int i = 0; i < 1000000; i++)
		sink += strlen(text);
}
int main(int count, char **words)
{
	while (clock() < CLOCKS_PER_SEC)
		caller(words[0]);
	return 0;
}
";

/// Checks that some of the stacks through `caller` go on, that these are complete, and that no
/// stack has another function between.
fn check(stacks: &Folded, what: &str) {
    let sum = |is: &dyn Fn(&[String]) -> bool| -> u64 {
        stacks.iter().filter(|(stack, _)| is(stack)).map(|(_, count)| count).sum()
    };
    let is_below = |stack: &[String]| {
        let main = stack.iter().position(|frame| frame == "main");
        main.is_some_and(|main| stack.get(main + 1).is_some_and(|frame| frame == "caller"))
    };
    let (all, right) = (sum(&|_| true), sum(&|stack| is_below(stack) && !is_cut(stack)));
    let beyond = sum(&|stack| is_below(stack) && stack.last().is_some_and(|f| f != "caller"));
    assert!(all > 100 && right * 100 >= all * 97, "{what}: {right} of {all}: {stacks:#?}");
    assert!(beyond * 50 >= all, "{what}: {beyond} of {all} are in the table: {stacks:#?}");
}

fn check_linked(directory: &Path, compiler: &str, source: &str, arguments: &[&str]) {
    let sources = [("main.c", source.to_owned())];
    let program = build(directory, compiler, &sources, arguments);
    check(&stacks_of(&program), &arguments.join(" "));
}

#[test]
fn calls_into_a_library() {
    let _alone = alone();
    let directory = directory();
    let library = [("empty.c", "void empty(void) {}".to_owned())];
    let built = build(directory.path(), "gcc", &library, &["-O1", "-shared", "-fPIC"]);
    let path = directory.path().join("libempty.so");
    std::fs::rename(built, &path).unwrap();
    let path = path.to_str().unwrap();
    let ways: [&[&str]; 5] = [
        &["-fuse-ld=mold"],
        &["-fuse-ld=lld", "-Wl,-z,lazy"],
        &["-fuse-ld=lld", "-Wl,-z,retpolineplt"],
        &["-fuse-ld=lld", "-Wl,-z,retpolineplt,-z,now"],
        &["-fuse-ld=gold", "-Wl,-z,lazy"],
    ];
    for way in ways {
        check_linked(directory.path(), "clang", CALLER, &[&["-O1", path], way].concat());
    }
}

#[test]
fn indirect_functions_of_static_programs() {
    let _alone = alone();
    for linker in ["-fuse-ld=bfd", "-fuse-ld=lld", "-fuse-ld=mold"] {
        let directory = directory();
        let arguments = ["-O1", "-fno-builtin", "-static", linker];
        check_linked(directory.path(), "clang", STATIC_CALLER, &arguments);
    }
}
