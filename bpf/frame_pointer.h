/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * One step of a frame-pointer walk, as arithmetic alone: it reads no memory, so
 * that tests compile it for the host and compare it with the reference walker in
 * the crate `unwind`.
 *
 * A function with a frame pointer keeps at [fp] the caller's fp and at [fp + 8]
 * the return address; the caller's sp is fp + 16. A step asks for these two
 * words with frame_pointer_ready(), and after reading them takes them to
 * frame_pointer_step().
 */
#ifndef EVERYTICK_FRAME_POINTER_H
#define EVERYTICK_FRAME_POINTER_H

#include "step.h"

/* Frames further up than this are not believed: threads have smaller stacks, and what looks like a frame is none. */
#define FRAME_BYTES_MAX (8ULL << 20)

/*
 * Says whether a frame can lie at r->fp: aligned, above the stack pointer, and not
 * far above. Each step moves sp above the frame it leaves, so frames only rise and
 * a walk ends.
 */
static inline bool frame_pointer_ready(const struct registers *r)
{
	return (r->known & KNOWN_FP) && (r->fp & 7) == 0 && r->fp >= r->sp &&
	       r->fp - r->sp < FRAME_BYTES_MAX && is_user_address(r->fp);
}

/*
 * Moves to the caller, given the two words at r->fp. Gives false and leaves r
 * alone when the second is no user address.
 */
static inline bool frame_pointer_step(struct registers *r, u64 saved_fp, u64 return_address)
{
	if (!is_user_address(return_address))
		return false;
	r->sp = r->fp + 16;
	r->fp = saved_fp;
	r->ip = return_address;
	r->known = KNOWN_FP;
	r->is_return = 1;
	return true;
}

#endif
