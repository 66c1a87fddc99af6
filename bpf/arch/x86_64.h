/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs know about x86-64: the layout of an interrupted context. */
#ifndef EVERYTICK_ARCH_X86_64_H
#define EVERYTICK_ARCH_X86_64_H

#include <asm/ptrace.h>
#include <bpf/bpf_core_read.h>
#include "../kernel_types.h"
#include "registers.h"

/* Selector of 64-bit user code (__USER_CS): user space sees it, so it never changes. */
#define CODE_SEGMENT_USER_64 0x33

/* Number of the system call mremap. */
#define ARCH_SYSTEM_CALL_MREMAP 25

/* Bytes of a thread's kernel stack: THREAD_SIZE of a kernel without KASAN. */
#define KERNEL_STACK_BYTES 16384

/*
 * Returns the saved user-mode registers of a thread: they are at the top of its kernel stack.
 * Kernels with FRED differ, but those have bpf_task_pt_regs.
 */
static inline const void *arch_user_registers(const void *kernel_stack)
{
	return kernel_stack + KERNEL_STACK_BYTES - sizeof(struct pt_regs);
}

static inline bool arch_in_user_mode(u64 code_segment)
{
	return (code_segment & 3) == 3;
}

static inline bool arch_runs_64_bit(u64 code_segment)
{
	return (code_segment & 0xffff) == CODE_SEGMENT_USER_64;
}

static inline u64 arch_ip(const struct pt_regs *regs)
{
	return regs->rip;
}

/*
 * Returns the thread pointer of the current task. The kernel keeps it up to date for threads that
 * set it by system calls, as C libraries do.
 */
static inline u64 arch_thread_pointer(const struct task_struct *current)
{
	return BPF_CORE_READ(current, thread.fsbase);
}

/* System calls that replace the program: on success the thread is at its first instruction. */
#define SYSTEM_CALL_EXECVE 59
#define SYSTEM_CALL_EXECVEAT 322

/*
 * The page of three system calls that old programs call by their fixed addresses. Its code is
 * `mov`, `syscall`, `ret`; where the kernel emulates it, it is never executed, and ip is at its
 * start.
 */
#define VSYSCALL_PAGE 0xffffffffff600000ULL

static inline bool arch_in_vsyscall(u64 ip)
{
	return ip - VSYSCALL_PAGE < PAGE_BYTES;
}

/*
 * Returns whether a signal was delivered at the end of a system call: the thread is at the first
 * instruction of the handler, whose third argument is above its return address, and the handler
 * begins with 0 in rax (x64_setup_rt_frame in arch/x86/kernel/signal_64.c).
 */
static inline bool arch_begins_signal_handler(const struct pt_regs *regs)
{
	return regs->rcx != regs->rip && regs->rax == 0 && regs->rdx == regs->rsp + 8;
}

/*
 * Returns whether the thread is in a system call: ip is behind the instruction. The kernel keeps
 * its number, and -1 in other cases, in orig_rax (PUSH_AND_CLEAR_REGS in arch/x86/entry/calling.h).
 */
static inline bool arch_in_system_call(const struct pt_regs *regs)
{
	bool is_exec =
		regs->orig_rax == SYSTEM_CALL_EXECVE || regs->orig_rax == SYSTEM_CALL_EXECVEAT;

	return (s64)regs->orig_rax >= 0 && !(is_exec && regs->rax == 0) &&
	       !arch_in_vsyscall(regs->rip) && !arch_begins_signal_handler(regs);
}

/* Copies the interrupted registers into the order of their DWARF numbers. */
static inline void arch_copy_registers(u64 *all, const struct pt_regs *regs)
{
	all[0] = regs->rax;
	all[1] = regs->rdx;
	all[2] = regs->rcx;
	all[3] = regs->rbx;
	all[4] = regs->rsi;
	all[5] = regs->rdi;
	all[6] = regs->rbp;
	all[7] = regs->rsp;
	all[8] = regs->r8;
	all[9] = regs->r9;
	all[10] = regs->r10;
	all[11] = regs->r11;
	all[12] = regs->r12;
	all[13] = regs->r13;
	all[14] = regs->r14;
	all[15] = regs->r15;
}

#endif
