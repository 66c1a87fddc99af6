/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs know about x86-64: names of registers and the shape of an interrupted context. */
#ifndef EVERYTICK_ARCH_X86_64_H
#define EVERYTICK_ARCH_X86_64_H

#include <asm/ptrace.h>
#include "../frame_pointer.h"

/* Selector of 64-bit user code (__USER_CS): fixed, because user space sees it. */
#define CODE_SEGMENT_USER_64 0x33

static inline bool arch_in_user_mode(u64 code_segment)
{
	return (code_segment & 3) == 3;
}

static inline bool arch_runs_64_bit(u64 code_segment)
{
	return (code_segment & 0xffff) == CODE_SEGMENT_USER_64;
}

static inline struct registers arch_registers(const struct pt_regs *regs)
{
	return (struct registers){ .ip = regs->rip, .sp = regs->rsp, .fp = regs->rbp };
}

#endif
