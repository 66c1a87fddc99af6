/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * One step of a frame-pointer walk. It reads no memory, so tests compile it for the host and
 * compare it with its twin, unwind/src/frame_pointer.rs.
 *
 * A function with a frame pointer saves the caller's fp at [fp], with the return address above it
 * at [fp + 8]; the caller's sp is fp + 16. The caller of these functions checks
 * frame_pointer_ready(), reads the two words, and passes them to frame_pointer_step().
 */
#ifndef EVERYTICK_FRAME_POINTER_H
#define EVERYTICK_FRAME_POINTER_H

#include "step.h"

enum frame_pointer_limit {
	/* A frame further above sp is implausible: threads have smaller stacks. */
	FRAME_BYTES_MAX = 8 << 20,
};

/*
 * Returns whether a frame can lie at r->fp: aligned, above the stack pointer, and not far above.
 * Each step moves sp above the frame it leaves, so frames only rise and a walk ends.
 */
static inline bool frame_pointer_ready(const struct registers *r)
{
	return (r->known & KNOWN_FP) && (r->fp & 7) == 0 && r->fp >= r->sp &&
	       r->fp - r->sp < FRAME_BYTES_MAX && is_user_address(r->fp);
}

/*
 * Moves to the caller, given the two words at r->fp. Returns false and leaves r unchanged if the
 * second word is not a user address.
 */
static inline bool frame_pointer_step(struct registers *r, u64 saved_fp, u64 return_address)
{
	if (!is_user_address(return_address))
		return false;
	r->sp = r->fp + 16;
	r->fp = saved_fp;
	r->ip = return_address;
	r->known = KNOWN_FP;
	r->is_behind = 1;
	return true;
}

#endif
