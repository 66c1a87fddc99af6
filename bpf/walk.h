/* SPDX-License-Identifier: GPL-2.0 */
/* Walks the user stack of the current thread into a record. The seat of the unwinder: rules decide here how to step. */
#ifndef EVERYTICK_WALK_H
#define EVERYTICK_WALK_H

#include <bpf/bpf_helpers.h>
#include "abi.h"
#include "arch/x86_64.h"

/* State of a walk between two frames. `frames` are the record's, of which `at` are taken. */
struct walk {
	struct registers registers;
	u64 *frames;
	u32 at;
	u8 end;
};

/* Writes the frame where the walk stands and steps to its caller. */
static long walk_one(u32 depth, struct walk *walk)
{
	u64 words[2];

	if (walk->at >= KERNEL_FRAMES_MAX + USER_FRAMES_MAX)
		return 1;
	walk->frames[walk->at] = walk->registers.ip;
	walk->at++;

	if (!frame_pointer_ready(&walk->registers)) {
		walk->end = STACK_END_FRAME_POINTER;
		return 1;
	}
	if (bpf_probe_read_user(words, sizeof(words), (const void *)walk->registers.fp)) {
		walk->end = STACK_END_UNREADABLE;
		return 1;
	}
	if (!frame_pointer_step(&walk->registers, words[0], words[1])) {
		walk->end = STACK_END_RETURN_ADDRESS;
		return 1;
	}
	return 0;
}

#endif
