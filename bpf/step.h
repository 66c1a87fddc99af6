/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * One step from a frame to its caller, by an unwind rule. Twin of unwind/src/step.rs; tests compile
 * this file for the host and compare the two.
 *
 * It reads memory through read_user() and read_word() only, which the including file defines.
 */
#ifndef EVERYTICK_STEP_H
#define EVERYTICK_STEP_H

#include "abi.h"
#include "arch/registers.h"
#include "user_memory.h"

enum step {
	STEP_CALLER,
	STEP_ROOT,
	STEP_OUTSIDE, /* this is no frame: the one before was the root */
	STEP_NO_ROW,
	STEP_NOT_EXPRESSIBLE,
	STEP_UNREADABLE,
	STEP_BAD_RETURN_ADDRESS,
};

/* Reads a word of the user stack, part of which `stack` may cache; returns false if it cannot. */
struct stack;
static inline bool read_word(struct stack *stack, u64 *value, u64 address);

/* The fields of a struct rule, read as 8 bytes. */
#define RULE_OFFSET(rule) ((s32)(u32)(rule))
#define RULE_OP(rule) ((u32)((rule) >> 32) & 15)
#define RULE_REGISTER(rule) ((u32)((rule) >> 36) & 15)
#define RULE_FP(rule) ((s8)(u8)((rule) >> 40))
#define RULE_BASE(rule) ((s8)(u8)((rule) >> 48))
#define RULE_RA(rule) ((s8)(u8)((rule) >> 56))

/*
 * Returns the address by which the row and the name of a frame are looked up: that of the
 * instruction that it is at. A call has returned to ip, or would, and may be the last instruction
 * of its function; likewise a system call while it runs. A thread that was interrupted elsewhere,
 * by a tick or by a signal, is at ip itself. src/events/raw_sample.rs does the same by FRAME_EXACT.
 */
static inline u64 lookup_address(const struct registers *r)
{
	return r->ip - r->is_behind;
}

/*
 * Reads a register of this frame; returns false if its value is not known. Of those that a function
 * may change, a caller has its own value only if the function it called is written so; call frames
 * in assembly rely on that.
 */
static inline bool register_value(const struct registers *r, u32 number, u64 *value)
{
	u32 known = KNOWN_ALL | KNOWN_CALLEE * arch_is_volatile(number & 15);

	if (number == ARCH_SP)
		return *value = r->sp, true;
	if (number == ARCH_FP)
		return *value = r->fp, r->known & KNOWN_FP;
	if (number == ARCH_BASE)
		return *value = r->base, r->known & KNOWN_BASE;
	return *value = r->all[number & 15], r->known & known;
}

enum saved_result {
	SAVED_KNOWN,
	SAVED_LOST,
	SAVED_UNREADABLE,
};

/*
 * Reads the caller's value of a register that is saved in memory or in another register. Inlined:
 * with some CPU mitigations, a call takes as long as all of this.
 */
static inline __attribute__((always_inline)) enum saved_result
saved_value(const struct registers *r, struct stack *stack, s8 location, u64 cfa, u64 *value)
{
	if (location == RULE_SAVED_UNDEFINED || location == RULE_SAVED_SAME_VALUE)
		return SAVED_LOST; /* the calling function handles "same as here" */
	if (location == RULE_SAVED_AT_FP) {
		if (!(r->known & KNOWN_FP))
			return SAVED_LOST;
		return read_word(stack, value, r->fp) ? SAVED_KNOWN : SAVED_UNREADABLE;
	}
	if (location == RULE_SAVED_INTERRUPTED)
		location = -1; /* where a call saves the return address */
	if (location >= RULE_SAVED_IN_REGISTER)
		return register_value(r, (u32)(location - RULE_SAVED_IN_REGISTER), value)
		               ? SAVED_KNOWN
		               : SAVED_LOST;
	return read_word(stack, value, cfa + 8 * (s64)location) ? SAVED_KNOWN : SAVED_UNREADABLE;
}

/*
 * Starts where a thread was interrupted: every register is known, and `all` holds them already.
 * `is_behind`: whether ip is behind a system call.
 */
static inline void start_with_all_registers(struct registers *r, u64 ip, bool is_behind)
{
	r->ip = ip;
	r->sp = r->all[ARCH_SP];
	r->fp = r->all[ARCH_FP];
	r->base = r->all[ARCH_BASE];
	r->known = KNOWN_FP | KNOWN_BASE | KNOWN_ALL;
	r->is_behind = is_behind;
}

/* Leaves a frame that the kernel built to call a signal handler: it holds all registers. */
static inline enum step step_from_signal(struct registers *r)
{
	u64 words[ARCH_SIGNAL_WORDS];

	if (!read_user(words, sizeof(words), r->sp + ARCH_SIGNAL_OFFSET))
		return STEP_UNREADABLE;
	if (!is_user_address(words[ARCH_SIGNAL_IP]))
		return STEP_BAD_RETURN_ADDRESS;
	arch_copy_signal_registers(r->all, words);
	start_with_all_registers(r, words[ARCH_SIGNAL_IP],
	                         arch_is_behind_system_call(r->all, words[ARCH_SIGNAL_IP],
	                                                    words[ARCH_SIGNAL_FLAGS]));
	return STEP_CALLER;
}

/* Returns whether a rule computes the CFA from sp. */
static inline bool is_by_sp(u64 rule)
{
	return RULE_OP(rule) == RULE_OP_PLT ||
	       (RULE_OP(rule) == RULE_OP_REGISTER && RULE_REGISTER(rule) == ARCH_SP);
}

/* Computes the canonical frame address; returns STEP_CALLER on success. */
static inline enum step compute_cfa(const struct registers *r, struct stack *stack, u64 rule,
                                    u64 *cfa)
{
	u64 value = 0;
	s32 offset = RULE_OFFSET(rule);

	switch (RULE_OP(rule)) {
	case RULE_OP_REGISTER:
		if (!register_value(r, RULE_REGISTER(rule), &value))
			return STEP_NOT_EXPRESSIBLE;
		*cfa = value + (s64)offset;
		return STEP_CALLER;
	case RULE_OP_AT_REGISTER:
	case RULE_OP_AT_INDEX:
		if (!register_value(r, RULE_REGISTER(rule), &value))
			return STEP_NOT_EXPRESSIBLE;
		if (RULE_OP(rule) == RULE_OP_AT_INDEX)
			value = r->sp + 8 * value;
		if (!read_word(stack, &value, value + (s64)(s16)(u16)offset))
			return STEP_UNREADABLE;
		*cfa = value + (s64)(s16)(u16)((u32)offset >> 16);
		return STEP_CALLER;
	case RULE_OP_PLT:
		*cfa = r->sp + ((lookup_address(r) & 15) >= (u32)offset ? 16 : 8);
		return STEP_CALLER;
	case RULE_OP_ROOT:
		return STEP_ROOT;
	case RULE_OP_OUTSIDE:
		return STEP_OUTSIDE;
	case RULE_OP_GAP:
		return offset == RULE_GAP_NOT_EXPRESSIBLE ? STEP_NOT_EXPRESSIBLE : STEP_NO_ROW;
	case RULE_OP_FRAME_POINTER:
		return STEP_NO_ROW;
	default:
		return STEP_NOT_EXPRESSIBLE;
	}
}

/* Steps to the caller. Leaves r unchanged if the caller cannot be found. */
static inline enum step step_by_rule(struct registers *r, struct stack *stack, u64 rule)
{
	u64 cfa = 0, ip = 0, fp = r->fp, base = r->base;
	u32 known = r->known & (KNOWN_FP | KNOWN_BASE);

	if (RULE_OP(rule) == RULE_OP_SIGNAL)
		return step_from_signal(r);
	enum step result = compute_cfa(r, stack, rule, &cfa);
	if (result != STEP_CALLER)
		return result;

	s8 fp_location = RULE_FP(rule), base_location = RULE_BASE(rule);
	s8 ra_location = RULE_RA(rule) == RULE_SAVED_RETURN_OR_ROOT ? -1 : RULE_RA(rule);
	enum saved_result ra = saved_value(r, stack, ra_location, cfa, &ip),
			  caller_fp = SAVED_KNOWN;
	if (fp_location) {
		caller_fp = saved_value(r, stack, fp_location, cfa, &fp);
		known = caller_fp == SAVED_KNOWN ? known | KNOWN_FP : known & ~KNOWN_FP;
	}
	if (ra == SAVED_UNREADABLE || caller_fp == SAVED_UNREADABLE)
		return STEP_UNREADABLE;
	if (ra == SAVED_LOST)
		return STEP_NOT_EXPRESSIBLE;
	if (base_location == RULE_SAVED_UNDEFINED) {
		known &= ~KNOWN_BASE;
	} else if (base_location) {
		enum saved_result caller_base = saved_value(r, stack, base_location, cfa, &base);
		if (caller_base == SAVED_UNREADABLE)
			return STEP_UNREADABLE;
		known = caller_base == SAVED_KNOWN ? known | KNOWN_BASE : known & ~KNOWN_BASE;
	}
	/*
	 * sp rises with each step to a caller. It stays where it is only if an interrupted frame has
	 * popped its return address already. A CFA that is not computed from sp may be on another
	 * stack: this frame has switched to the stack it is on.
	 */
	bool is_interrupted = r->known & KNOWN_ALL;
	if ((cfa < r->sp && is_by_sp(rule)) || (cfa == r->sp && !is_interrupted))
		return STEP_BAD_RETURN_ADDRESS;
	if (!is_user_address(ip))
		return ip == 0 && RULE_RA(rule) == RULE_SAVED_RETURN_OR_ROOT
		               ? STEP_ROOT
		               : STEP_BAD_RETURN_ADDRESS;
	r->ip = ip;
	r->sp = cfa;
	r->fp = fp;
	r->base = base;
	r->known = known | KNOWN_CALLEE * is_interrupted;
	r->is_behind = RULE_RA(rule) != RULE_SAVED_INTERRUPTED;
	return STEP_CALLER;
}

#endif
