//! Contexts and coroutines: stacks that a program has made itself.

use crate::common::{alone, directory};
use crate::{KNOWN, assembly, build, check, check_program, stacks_of};

/// Saves the registers and sp of a context, and goes on in another; without call frames.
const SWITCH: &str = "push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15; \
                      mov %rsp, (%rdi); mov %rsi, %rsp; pop %r15; pop %r14; pop %r13; pop %r12; \
                      pop %rbx; pop %rbp; ret";

/// A program with a coroutine `body`, whose stack begins with `top[-2]` and `top[-1]`.
fn program(definitions: &str, words: [&str; 2]) -> String {
    let [entry, return_address] = words;
    format!(
        "{KNOWN}
void switch_stack(void **save, void *load);
static void *outside, *inside;
N void work(void) {{ spin(); sink++; }}
N void loop(void)
{{
	while (sink != 1) {{
		work();
		switch_stack(&inside, outside);
	}}
}}
{definitions}
int main(void)
{{
	void **top = (void **)((char *)aligned_alloc(64, 65536) + 65536);
	top[-2] = {entry};
	top[-1] = {return_address};
	inside = top - 8;
	while (runs())
		switch_stack(&outside, inside);
	return 0;
}}
"
    )
}

fn sources(definitions: &str, words: [&str; 2]) -> [(&'static str, String); 2] {
    [("main.c", program(definitions, words)), assembly("switch_stack", SWITCH)]
}

/// Ruby's fibers: the function of a fiber never returns, and its return address is zero.
#[test]
fn zero_behind_a_function_that_never_returns_is_the_root() {
    let _alone = alone();
    let never = "
N __attribute__((noreturn)) void finish(void) { abort(); }
N __attribute__((noreturn)) void body(void *fiber) { sink += (long)fiber; loop(); finish(); }";
    let endless = "N void body(void) { for (;;) { loop(); sink++; } }";
    let chain = ["^", "body", "loop", "work", "spin"];
    for (compiler, level, definitions) in
        [("gcc", "-O2", never), ("gcc", "-O0", never), ("clang", "-O2", endless)]
    {
        let what = format!("{compiler} {level}");
        let arguments = [level, "-fomit-frame-pointer"];
        check_program(compiler, &sources(definitions, ["body", "0"]), &arguments, &chain, &what);
    }
    let with_frame_pointer = ["-O1", "-fno-omit-frame-pointer"];
    let sources = sources(endless, ["body", "0"]);
    check_program("gcc", &sources, &with_frame_pointer, &chain, "frame pointer");
}

/// A zero alone proves nothing: here the function returns as far as its code says.
#[test]
fn zero_behind_another_function_is_no_root() {
    let _alone = alone();
    let returns = "N int body(int a) { loop(); sink++; return sink ^ a; }";
    let directory = directory();
    let program = build(directory.path(), "gcc", &sources(returns, ["body", "0"]), &["-O2"]);
    let stacks = stacks_of(&program);
    let through = |is_cut: bool| -> u64 {
        let is = |stack: &&(Vec<String>, u64)| {
            stack.0.iter().any(|frame| frame == "body") && crate::is_cut(&stack.0) == is_cut
        };
        stacks.iter().filter(is).map(|(_, count)| count).sum()
    };
    assert!(through(true) > 50 && through(false) == 0, "{stacks:#?}");
}

/// As libco does it: the return address is the start of a function that aborts. Without the rule
/// for this, the function that happens to be before it appears as the caller.
#[test]
fn start_of_a_function_that_never_returns_is_the_root_as_a_return_address() {
    let _alone = alone();
    let definitions = "
N int innocent(int a) { spin(); sink += a; return sink; }
N void crash(void) { sink = 0; abort(); }
N int body(int a) { loop(); sink++; return sink ^ a; }";
    let chain = ["^", "body", "loop", "work", "spin"];
    for (compiler, level) in [("gcc", "-O2"), ("clang", "-O2"), ("clang", "-O0")] {
        let what = format!("{compiler} {level}");
        check_program(compiler, &sources(definitions, ["body", "crash"]), &[level], &chain, &what);
    }
}

/// `make_fcontext` of boost.context, and of PHP. The start of the context pushes the address of
/// what ends the program, and jumps to the function; nothing has call frames.
#[test]
fn contexts_of_boost_are_complete() {
    let _alone = alone();
    let start = "start_context: push %rbp; jmp *%rbx; finish: xor %rdi, %rdi; call _exit; hlt";
    let enter = |pad: &str| {
        let body = format!("{SWITCH}; .globl start_context, finish; .p2align 4; {pad}{start}");
        assembly("switch_stack", &body)
    };
    // The six registers below the start: r15 first, rbx and rbp last.
    let definitions = "
void start_context(void), finish(void);
N int body(int a) { loop(); sink++; return sink ^ a; }";
    let main = program(definitions, ["start_context", "0"])
        .replace("inside = top - 8;", "inside = top - 8; top[-3] = finish; top[-4] = body;");
    for (what, pad) in [("plain", ""), ("with a landing pad", "endbr64; ")] {
        let sources = [("main.c", main.clone()), enter(pad)];
        let directory = directory();
        let program = build(directory.path(), "gcc", &sources, &["-O1", "-no-pie"]);
        let mut stacks = stacks_of(&program);
        // The start of a context has no symbol of its own in some files.
        for (stack, _) in &mut stacks {
            stack.retain(|frame| !frame.starts_with("start_context"));
        }
        check(&stacks, &["^", "body", "loop", "work", "spin"], what);
    }
}
