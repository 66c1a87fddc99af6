/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Registers of x86-64 by their DWARF numbers. Twin of unwind/src/arch/x86_64.rs. */
#ifndef EVERYTICK_ARCH_REGISTERS_H
#define EVERYTICK_ARCH_REGISTERS_H

#include "../types.h"

#define ARCH_SP 7	/* rsp */
#define ARCH_FP 6	/* rbp */
#define ARCH_BASE 3	/* rbx */

/* Bytes below sp that a function may use without moving sp. */
#define ARCH_RED_ZONE 128

/* The part of a signal frame that holds registers: so many words, from sp on. Source: struct sigcontext. */
#define ARCH_SIGNAL_AT 40
#define ARCH_SIGNAL_WORDS 17
#define ARCH_SIGNAL_IP 16

/* Puts a signal frame's registers in the order of their numbers. */
static inline void arch_take_signal_registers(u64 *all, const u64 *words)
{
	all[0] = words[13];	/* rax */
	all[1] = words[12];	/* rdx */
	all[2] = words[14];	/* rcx */
	all[3] = words[11];	/* rbx */
	all[4] = words[9];	/* rsi */
	all[5] = words[8];	/* rdi */
	all[6] = words[10];	/* rbp */
	all[7] = words[15];	/* rsp */
	for (u32 i = 0; i < 8; i++)
		all[8 + i] = words[i]; /* r8 to r15 */
}

#endif
