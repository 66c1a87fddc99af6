/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A walk in links, for kernels without bpf_loop (before Linux 5.17): a program walks a few
 * frames and calls itself by tail call. All that a link needs to know lies in this CPU's
 * scratch, where nobody else comes before the tick ends: interrupts are off.
 */
#ifndef EVERYTICK_TAIL_CALL_UNWINDER_H
#define EVERYTICK_TAIL_CALL_UNWINDER_H

#include <bpf/bpf_helpers.h>
#include "walk.h"

/* The kernel allows so many tail calls in a row. */
#define TAIL_CALLS_MAX 33
#define FRAMES_PER_LINK FRAMES_PER_LOOK

_Static_assert(TAIL_CALLS_MAX * FRAMES_PER_LINK >= TAIL_CALL_FRAMES_MAX, "the calls end before the frames do");

/* The program that goes on with a walk. The agent puts it here. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} tail_calls SEC(".maps");

/*
 * Walks one frame of the tick that this CPU is in; nonzero when that was the last. Global, so that the
 * verifier looks at it once and not in every turn of the loop.
 */
__noinline int walk_frame(u32 depth)
{
	u32 zero = 0;
	struct scratch *out = bpf_map_lookup_elem(&scratch, &zero);

	return out ? (int)walk_one(depth, &out) : 1;
}

#endif
