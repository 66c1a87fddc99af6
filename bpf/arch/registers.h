/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Registers of x86-64 by their DWARF numbers. Twin of unwind/src/arch/x86_64.rs. */
#ifndef EVERYTICK_ARCH_REGISTERS_H
#define EVERYTICK_ARCH_REGISTERS_H

#include "../types.h"

/* Registers that unwind rules name. */
enum arch_register {
	ARCH_BASE = 3, /* rbx */
	ARCH_FP = 6,   /* rbp */
	ARCH_SP = 7,   /* rsp */
};

enum arch_frame {
	/* Bytes below sp that a function may use without moving sp. */
	ARCH_RED_ZONE = 128,
	/* Bytes from sp to the saved registers of a signal frame. Source: struct sigcontext. */
	ARCH_SIGNAL_OFFSET = 40,
	/* Words of saved registers in a signal frame. */
	ARCH_SIGNAL_WORDS = 18,
	/* The word that holds the interrupted instruction. */
	ARCH_SIGNAL_IP = 16,
	/* The word that holds the flags. */
	ARCH_SIGNAL_FLAGS = 17,
};

/*
 * Returns whether these are the registers of a thread behind a system call: the instruction puts
 * the address of the next one into rcx, and the flags into r11.
 */
static inline bool arch_is_behind_system_call(const u64 *all, u64 ip, u64 flags)
{
	return ((all[2] ^ ip) | (all[11] ^ flags)) == 0;
}

/*
 * Returns whether a function may change a register without saving it for its caller: rax, rdx, rcx,
 * rsi, rdi, r8 to r11.
 */
static inline bool arch_is_volatile(u32 number)
{
	return 0xf37 >> number & 1;
}

/* Copies a signal frame's registers into the order of their DWARF numbers. */
static inline void arch_copy_signal_registers(u64 *all, const u64 *words)
{
	all[0] = words[13]; /* rax */
	all[1] = words[12]; /* rdx */
	all[2] = words[14]; /* rcx */
	all[3] = words[11]; /* rbx */
	all[4] = words[9];  /* rsi */
	all[5] = words[8];  /* rdi */
	all[6] = words[10]; /* rbp */
	all[7] = words[15]; /* rsp */
	for (u32 i = 0; i < 8; i++)
		all[8 + i] = words[i]; /* r8 to r15 */
}

#endif
