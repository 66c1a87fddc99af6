/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Rules by the x86-64 machine code at ip, where there is no row: in code of a JIT compiler, and in
 * trampolines that a program writes.
 *
 * Two places in a function show where its return address is: the instructions that set up a frame
 * pointer, and those that lead straight to the return. All else is left to the frame pointer.
 */
#ifndef EVERYTICK_ARCH_CODE_RULE_H
#define EVERYTICK_ARCH_CODE_RULE_H

#include "../step.h"

enum code_limit {
	/* Instructions up to the return: add, vzeroupper, the six registers of callers, ret. */
	EPILOGUE_STEPS = 9,
	/* Words of code that are read. */
	CODE_WORDS = 3,
	/* Words from the CFA that a rule can express. */
	RULE_WORDS_MAX = 63,
	/* A larger frame is implausible. */
	EPILOGUE_BYTES_MAX = 8 << 20,
};

/* Registers as instructions number them. */
enum popped_register {
	POP_BASE = 3,
	POP_SP = 4,
	POP_FP = 5,
};

#define RULE(register, offset, fp, base, ra)                                        \
	((u64)(u32)(offset) | (u64)RULE_OP_REGISTER << 32 | (u64)(register) << 36 | \
	 (u64)(u8)(fp) << 40 | (u64)(u8)(base) << 48 | (u64)(u8)(ra) << 56)

/* Where a register was popped from is a multiple of 8, so this is none. */
#define NOT_POPPED 1

/*
 * What the instructions up to the return do with the stack. It lies in a map, as the state of a
 * walk does: the verifier would track each number on each path.
 */
struct epilogue {
	u64 code[CODE_WORDS]; /* from the next instruction on */
	u32 start;            /* sp is counted from this register as it is at ip */
	s32 sp;               /* bytes above it */
	s32 fp_at, base_at;   /* where these are popped from, likewise */
	s32 arguments;        /* bytes above the return address that the return removes */
	u32 has_returned;
};

static inline void skip_code(struct epilogue *e, u32 bytes)
{
	u32 shift = bytes * 8 & 63, rest = (64 - shift) & 63;

	e->code[0] = e->code[0] >> shift | e->code[1] << rest;
	e->code[1] = e->code[1] >> shift | e->code[2] << rest;
	e->code[2] >>= shift;
}

/* Continues from the frame pointer; returns false if it was popped before. */
static inline bool start_at_fp(struct epilogue *e)
{
	bool is_possible = e->fp_at == NOT_POPPED && e->base_at == NOT_POPPED;

	e->start = ARCH_FP;
	e->sp = 0;
	return is_possible;
}

/* Pops a register; returns the length of the instruction. */
static inline u32 pop(struct epilogue *e, u32 number)
{
	if (number == POP_SP)
		return 0;
	if (number == POP_FP)
		e->fp_at = e->sp;
	if (number == POP_BASE)
		e->base_at = e->sp;
	e->sp += 8;
	return 1;
}

/* Applies an instruction that starts with a prefix of 64 bits: add, or mov %rbp, %rsp. */
static inline u32 apply_wide(struct epilogue *e)
{
	u64 code = e->code[0];
	s32 bytes = 0;

	switch (code >> 8 & 0xffff) {
	case 0xec89:
	case 0xe58b:
		return start_at_fp(e) ? 3 : 0;
	case 0xc483:
		bytes = (s8)(code >> 24);
		e->sp += bytes;
		return bytes > 0 ? 4 : 0;
	case 0xc481:
		bytes = (s32)(code >> 24);
		e->sp += bytes;
		return bytes > 0 && bytes < EPILOGUE_BYTES_MAX ? 7 : 0;
	}
	return 0;
}

/* Applies the next instruction; returns its length, 0 if it is none of an epilogue. */
static inline u32 apply_instruction(struct epilogue *e)
{
	u64 code = e->code[0];
	u32 byte = code & 0xff;

	if (byte == 0x48)
		return apply_wide(e);
	if (byte >> 3 == 0x58 >> 3)
		return pop(e, byte & 7);
	if (byte == 0x41 && (code >> 11 & 31) == 0x58 >> 3) { /* r8 to r15 */
		e->sp += 8;
		return 2;
	}
	if (byte == 0xc9) /* leave */
		return start_at_fp(e) ? pop(e, POP_FP) : 0;
	if ((code & 0xffffff) == 0x77f8c5) /* vzeroupper */
		return 3;
	if (byte == 0xf2 || byte == 0xf3) /* bnd, rep: before the return */
		return (code >> 8 & 0xff) == 0xc3 ? 1 : 0;
	e->has_returned = byte == 0xc3 || byte == 0xc2;
	e->arguments = byte == 0xc2 ? (s32)(code >> 8 & 0xffff) : 0;
	return 0;
}

/* Returns where a register was popped from, in words from the CFA as a rule has it. */
static inline s32 popped_at(s32 at, s32 cfa)
{
	return at == NOT_POPPED ? RULE_SAVED_SAME_VALUE : (at - cfa) >> 3;
}

static inline u64 rule_by_epilogue(struct epilogue *e)
{
	for (u32 i = 0; i < EPILOGUE_STEPS; i++) {
		__asm__ volatile("" ::: "memory"); /* keeps all numbers in memory */
		u32 length = apply_instruction(e);
		if (!length)
			break;
		skip_code(e, length);
	}
	if (!e->has_returned || (e->sp & 7) || (e->arguments & 7))
		return 0;
	s32 cfa = e->sp + 8 + e->arguments, ra = -1 - (e->arguments >> 3);
	s32 fp = popped_at(e->fp_at, cfa), base = popped_at(e->base_at, cfa);
	if (ra < -RULE_WORDS_MAX || fp < -RULE_WORDS_MAX || base < -RULE_WORDS_MAX)
		return 0;
	return RULE(e->start, cfa, fp, base, ra);
}

/* Returns whether code sets up a frame pointer: mov %rsp, %rbp. */
static inline bool sets_frame_pointer(u64 code)
{
	return (code & 0xffffff) == 0xe58948 || (code & 0xffffff) == 0xec8b48;
}

/* Returns whether the instruction before ip is push %rbp, which is push %r13 with a prefix. */
static inline bool is_behind_push(u64 ip)
{
	u8 before[2] = { 0, 0 };

	if (!read_user(before, 2, ip - 2) && !read_user(before + 1, 1, ip - 1)) /* a page begins */
		return false;
	return before[1] == 0x55 && (before[0] & 0xf0) != 0x40;
}

static inline u64 rule_by_prologue(u64 ip, u64 code)
{
	if (sets_frame_pointer(code))
		return is_behind_push(ip) ? RULE(ARCH_SP, 16, -2, RULE_SAVED_SAME_VALUE, -1) : 0;
	if ((u32)code == 0xfa1e0ff3) /* endbr64 */
		code >>= 32;
	return (code & 0xff) == 0x55 && sets_frame_pointer(code >> 8)
	               ? RULE(ARCH_SP, 8, RULE_SAVED_SAME_VALUE, RULE_SAVED_SAME_VALUE, -1)
	               : 0;
}

/*
 * Returns the rule that the code at ip proves, 0 if there is none. `is_behind`: whether ip is where
 * a call returns to. `e`: memory for this.
 */
static inline u64 rule_by_code(struct epilogue *e, u64 ip, bool is_behind)
{
	*e = (struct epilogue){ .start = ARCH_SP, .fp_at = NOT_POPPED, .base_at = NOT_POPPED };
	/* The page may end before the last word. */
	if (!read_user(e->code, sizeof(e->code), ip) && !read_user(e->code, sizeof(u64), ip))
		return 0;
	u64 rule = is_behind ? 0 : rule_by_prologue(ip, e->code[0]);
	return rule ? rule : rule_by_epilogue(e);
}

#endif
