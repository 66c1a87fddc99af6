//! Haskell code of GHC: without call frames, on a stack of its own.
//!
//! The programs are assembly as GHC writes it, so that no GHC is needed: its functions jump to each
//! other, and the stack of C stays as the runtime's `StgRun` has left it.

use crate::common::alone;
use crate::{KNOWN, assembly, check, stacks_of};

/// Calls the Haskell function on top of the stack in `sp`. `gc` is never jumped to.
const MAIN: &str = "
struct { void *gc; void **sp; } registers;
void run(void *function, void *registers);
void enter(void), works(void), loops(void), leave(void);
N void schedule(void)
{
	void *stack[] = { works, loops, leave };
	registers.sp = stack;
	run(enter, &registers.sp);
	sink++;
}
";

/// `StgRun` and `StgReturn` of the runtime.
const RUN: &str = ".cfi_startproc; sub $48, %rsp; mov %rsp, %rax; sub $16384, %rsp; \
    mov %rbx, (%rax); mov %rbp, 8(%rax); mov %r12, 16(%rax); mov %r13, 24(%rax); \
    mov %r14, 32(%rax); mov %r15, 40(%rax); .cfi_def_cfa_offset 16440; .cfi_offset rbx, -56; \
    .cfi_offset rbp, -48; .cfi_offset r13, -32; mov %rsi, %r13; jmp *%rdi; \
    .globl leave; leave: add $16384, %rsp; mov (%rsp), %rbx; mov 8(%rsp), %rbp; \
    mov 16(%rsp), %r12; mov 24(%rsp), %r13; mov 32(%rsp), %r14; mov 40(%rsp), %r15; \
    add $48, %rsp; .cfi_def_cfa_offset 8; ret; .cfi_endproc; ";

/// Haskell functions: one that calls C, and one that loops.
fn functions(call: &str) -> String {
    let function = |name: &str, body: &str| {
        format!(
            ".p2align 3; .quad 0, 15; .globl {name}; .type {name}, @object; {name}: {body}; \
             .size {name}, . - {name}; "
        )
    };
    let next = "add $8, %rbp; jmp *(%rbp)";
    let loops = "mov $100000, %ecx; 1: dec %ecx; jnz 1b; cmp $0, %rbp; je 2f";
    [
        function("enter", "mov (%r13), %rbp; jmp *(%rbp)"),
        function("works", &format!("{call}; {next}")),
        function("loops", &format!("{loops}; {next}; 2: jmp *-8(%r13)")),
    ]
    .concat()
}

/// Checks that both Haskell functions have the scheduler as their caller.
fn check_calls(main: &str, call: &str, arguments: &[&str], what: &str) {
    let directory = crate::directory();
    let body = [RUN, &functions(call)].concat();
    let sources =
        [("main.c", [KNOWN, MAIN, main].concat()), assembly("run", body.trim_end_matches("; "))];
    let program = crate::build(directory.path(), "gcc", &sources, arguments);
    let stacks = stacks_of(&program);
    check(&stacks, &["schedule", "works", "spin"], &format!("{what}, spin"));
    check(&stacks, &["schedule", "loops"], &format!("{what}, loops"));
}

const IN_MAIN: &str = "int main(void) { while (runs()) schedule(); return 0; }";

#[test]
fn scheduler_is_the_caller_of_haskell_code() {
    let _alone = alone();
    let call = "sub $8, %rsp; mov %rbx, %rdi; xor %eax, %eax; call spin; add $8, %rsp";
    for arguments in [["-O2", "-no-pie"], ["-O0", "-no-pie"]] {
        check_calls(IN_MAIN, call, &arguments, arguments[0]);
    }
}

#[test]
fn haskell_code_calls_through_tables_and_with_arguments_on_the_stack() {
    let _alone = alone();
    for (what, call) in [
        ("a table", "sub $8, %rsp; mov %rbx, %rdi; call *spin@GOTPCREL(%rip); add $8, %rsp"),
        ("an argument", "push $7; call spin@PLT; add $8, %rsp"),
    ] {
        check_calls(IN_MAIN, call, &["-O1", "-pie", "-fPIE"], what);
    }
}

#[test]
fn haskell_code_runs_in_threads() {
    let _alone = alone();
    let main = "
#include <pthread.h>
void *work(void *unused) { while (runs()) schedule(); return 0; }
int main(void)
{
	pthread_t thread;
	pthread_create(&thread, 0, work, 0);
	return pthread_join(thread, 0);
}
";
    let call = "sub $8, %rsp; call spin; add $8, %rsp";
    check_calls(main, call, &["-O2", "-no-pie", "-pthread"], "a thread");
}
