//! What the kernel does: signals, system calls, and the pages that it maps.

use std::fs;

use crate::common::{Folded, alone, directory, record};
use crate::{KNOWN, assembly, build, check, stacks_of};

/// A handler that spins, of a signal that an instruction raises.
fn handled(definitions: &str, install: &str) -> String {
    format!(
        "{KNOWN}
#define _GNU_SOURCE
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
N void handler(int signal)
{{
	while (runs())
		spin();
	exit(0);
}}
{definitions}
N void raises(void) {{ __asm__ volatile(\"ud2\"); sink++; }}
int main(void)
{{
	{install}
	raises();
	sink++;
	return 0;
}}
"
    )
}

/// musl returns from signals in code without call frames, here behind a call and one `nop`. The
/// handler of the second program returns to code of the program's own.
#[test]
fn handlers_return_to_code_without_call_frames() {
    let _alone = alone();
    let by_library = handled("", "signal(SIGILL, handler);");
    let by_program = handled(
        "
void restorer(void);
struct { void (*handler)(int); unsigned long flags; void (*restorer)(void); unsigned long mask; }
	action = { handler, 0x4000000, restorer, 0 };",
        "syscall(SYS_rt_sigaction, SIGILL, &action, 0, 8);",
    );
    let restorer = |before: &str, number: &str| {
        let restorer = ".globl restorer; .type restorer, @function; restorer";
        let body = format!(
            "ret; {before}; {restorer}: mov $15, {number}; syscall; .size restorer, . - restorer; \
             next: ret"
        );
        assembly("before", &body)
    };
    let check_handler = |compiler: &str, sources: &[(&str, String)], arguments: &[&str]| {
        let name = if compiler == "gcc" { "restorer" } else { "__restore_rt" };
        let directory = directory();
        let program = build(directory.path(), compiler, sources, arguments);
        let mut stacks = stacks_of(&program);
        for frame in stacks.iter_mut().flat_map(|(stack, _)| stack) {
            if frame.starts_with("libc.so+") {
                *frame = name.to_owned(); // the C library is stripped
            }
        }
        let chain = ["main", "raises", name, "handler", "spin"];
        check(&stacks, &chain, &format!("{compiler} {arguments:?}"));
    };
    let musl = [("main.c", by_library)];
    check_handler("musl-gcc", &musl, &["-O1", "-static"]);
    check_handler("musl-gcc", &musl, &["-O1"]);
    for (before, number) in [("nop", "%eax"), ("int3; int3", "%rax")] {
        let own = [("main.c", by_program.clone()), restorer(before, number)];
        check_handler("gcc", &own, &["-O1"]);
    }
}

/// Counts the innermost user frames of the ticks in the kernel function that fills random bytes.
fn user_frames(stacks: &Folded, inside: &str) -> Vec<(String, u64)> {
    let user = |stack: &[String]| {
        let is_inside = stack.iter().any(|frame| frame.starts_with(inside));
        stack.iter().rev().find(|frame| !frame.ends_with("_[k]")).filter(|_| is_inside).cloned()
    };
    stacks.iter().filter_map(|(stack, count)| Some((user(stack)?, *count))).collect()
}

/// During a system call, ip is behind its instruction: here at the first byte of another function.
#[test]
fn system_call_as_the_last_instruction_of_a_function() {
    let _alone = alone();
    let main = format!(
        "{KNOWN}
long last(void *bytes, long count, long flags);
int main(void)
{{
	char *bytes = malloc(1 << 20);
	while (runs())
		sink += last(bytes, 1 << 20, 0);
	return 0;
}}
"
    );
    let with_frames = "mov $318, %eax; syscall; .cfi_endproc; .size last, . - last; \
                       .type next, @function; next: .cfi_startproc; ret; .size next, . - next; \
                       .cfi_endproc";
    let described = format!(".cfi_startproc; {with_frames}");
    let undescribed = described.replace(".cfi_startproc; ", "").replace(".cfi_endproc; ", "");
    let undescribed = undescribed.replace("; .cfi_endproc", "");
    for (what, body) in [("with call frames", described), ("without", undescribed)] {
        let directory = directory();
        let sources = [("main.c", main.clone()), assembly("last", &body)];
        let program = build(directory.path(), "gcc", &sources, &["-O1"]);
        let arguments = ["-F", "997", "--", program.to_str().unwrap()];
        let stacks = record(&arguments).succeeded().folded();
        let frames = user_frames(&stacks, "get_random_bytes_user");
        let all: u64 = frames.iter().map(|(_, count)| count).sum();
        let last: u64 = frames.iter().filter(|(f, _)| f == "last").map(|(_, count)| count).sum();
        assert!(all > 50 && last * 100 >= all * 99, "{what}: {last} of {all}: {stacks:#?}");
    }
}

/// So is the one that returns from a signal, in code that has the rule of a signal frame.
#[test]
fn system_call_that_returns_from_a_signal() {
    let _alone = alone();
    let main = format!(
        "{KNOWN}
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
void handler(int signal) {{ sink++; }}
int main(void)
{{
	int self = getpid();
	signal(SIGUSR1, handler);
	while (runs())
		for (int i = 0; i < 1000; i++)
			syscall(SYS_tgkill, self, self, SIGUSR1);
	return 0;
}}
"
    );
    for (compiler, arguments) in
        [("musl-gcc", &["-O1", "-static"][..]), ("musl-gcc", &["-O1"]), ("gcc", &["-O1"])]
    {
        let directory = directory();
        let program = build(directory.path(), compiler, &[("main.c", main.clone())], arguments);
        let options = ["-F", "997", "--", program.to_str().unwrap()];
        let stacks = record(&options).succeeded().folded();
        // Before the registers are restored, a tick is in the code that returns; then in `syscall`.
        let is_right = |frame: &str| {
            let known = ["__restore_rt", "syscall", "handler"].contains(&frame);
            known || frame.starts_with("libc.so")
        };
        for inside in ["__x64_sys_rt_sigreturn", "__ia32_sys_rt_sigreturn", "restore_altstack"] {
            let frames = user_frames(&stacks, inside);
            let all: u64 = frames.iter().map(|(_, count)| count).sum();
            let right = frames.iter().filter(|(frame, _)| is_right(frame));
            let right: u64 = right.map(|(_, count)| count).sum();
            assert!(right * 100 >= all * 97, "{compiler} {inside}: {right} of {all}: {frames:?}");
        }
        assert!(stacks.iter().any(|(stack, _)| stack.iter().any(|f| f.contains("rt_sigreturn"))));
    }
}

/// The same below a signal handler: the frame that it interrupted is in the system call.
#[test]
fn signal_in_a_system_call_that_is_the_last_instruction() {
    let _alone = alone();
    let main = format!(
        "{KNOWN}
#include <signal.h>
#include <unistd.h>
long last(int file, void *bytes, long count);
N void handler(int signal)
{{
	while (runs())
		spin();
	exit(0);
}}
N void waits(void)
{{
	int files[2];
	char byte;
	pipe(files);
	last(files[0], &byte, 1);
	sink++;
}}
int main(void)
{{
	struct sigaction action = {{ .sa_handler = handler }};
	sigaction(SIGALRM, &action, 0);
	ualarm(20000, 0);
	waits();
	return 0;
}}
"
    );
    let body = ".cfi_startproc; xor %eax, %eax; syscall; .cfi_endproc; .size last, . - last; \
                .type next, @function; next: .cfi_startproc; sub $64, %rsp; \
                .cfi_def_cfa_offset 72; add $64, %rsp; ret; .size next, . - next; .cfi_endproc";
    let directory = directory();
    let sources = [("main.c", main), assembly("last", body)];
    let program = build(directory.path(), "gcc", &sources, &["-O1"]);
    let mut stacks = stacks_of(&program);
    for (stack, _) in &mut stacks {
        stack.retain(|frame| !frame.contains("restore_rt") && !frame.starts_with("libc.so"));
    }
    check(&stacks, &["main", "waits", "last", "handler", "spin"], "interrupted");
}

#[test]
fn clock_of_the_kernel_called_by_musl() {
    let _alone = alone();
    let main = "
#include <time.h>
__attribute__((noinline)) long reads(void)
{
	struct timespec now;
	for (int i = 0; i < 10000; i++)
		clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_nsec;
}
int main(void)
{
	long sum = 0;
	while (clock() < CLOCKS_PER_SEC)
		sum += reads();
	return sum == 1;
}
";
    for arguments in
        [&["-O1", "-static"][..], &["-O2", "-static", "-fno-omit-frame-pointer"], &["-O1"]]
    {
        let directory = directory();
        let sources = [("main.c", main.to_owned())];
        let program = build(directory.path(), "musl-gcc", &sources, arguments);
        let mut stacks = stacks_of(&program);
        for frame in stacks.iter_mut().flat_map(|(stack, _)| stack) {
            if frame == "__clock_gettime" || frame == "__vdso_clock_gettime" {
                *frame = "clock_gettime".to_owned(); // the same function
            }
        }
        let sum = |is: &dyn Fn(&[String]) -> bool| -> u64 {
            stacks.iter().filter(|(stack, _)| is(stack)).map(|(_, count)| count).sum()
        };
        let all = sum(&|_| true);
        // The function of musl calls that of the vDSO, which has the same name.
        let in_vdso = ["main", "reads", "clock_gettime", "clock_gettime"];
        let in_vdso = sum(&|stack| stack.ends_with(&in_vdso.map(str::to_owned)));
        let right = sum(&|stack| {
            let clocks = stack.iter().filter(|frame| frame.contains("clock_gettime")).count();
            !crate::is_cut(stack) && stack.contains(&"main".to_owned()) && clocks <= 2
        });
        assert!(all > 100 && in_vdso * 4 > all, "{arguments:?}: {in_vdso} of {all}: {stacks:#?}");
        assert!(right * 100 >= all * 97, "{arguments:?}: {right} of {all}: {stacks:#?}");
    }
}

/// Old programs call into this page, which the kernel emulates.
#[test]
fn page_of_old_system_calls_has_a_caller() {
    let _alone = alone();
    if !fs::read_to_string("/proc/self/maps").unwrap().contains("[vsyscall]") {
        return; // the kernel has none
    }
    for (offset, argument) in [(0, "&now"), (0x400, "0"), (0x800, "&now")] {
        let main = format!(
            "{KNOWN}
N void calls(void)
{{
	long now[2];
	for (int i = 0; i < 1000; i++)
		sink += ((long (*)(void *, void *, void *))(0xffffffffff600000 + {offset}))({argument}, 0, 0);
}}
int main(void)
{{
	while (runs())
		calls();
	return 0;
}}
"
        );
        let directory = directory();
        let program = build(directory.path(), "gcc", &[("main.c", main)], &["-O1"]);
        let mut stacks =
            record(&["-F", "997", "--", program.to_str().unwrap()]).succeeded().folded();
        for (stack, _) in &mut stacks {
            stack.retain(|frame| !frame.ends_with("_[k]"));
        }
        let page = format!("[vsyscall]+{:#x}", 0xffff_ffff_ff60_0000u64 + offset);
        check(&stacks, &["main", "calls", &page], &page);
    }
}
