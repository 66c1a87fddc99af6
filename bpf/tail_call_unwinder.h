/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The unwinder for kernels without bpf_loop (before Linux 5.17): a program walks a few frames and
 * calls itself by tail call. The state of the walk is in this CPU's scratch, which nothing else
 * uses before the tick ends, because interrupts are off.
 */
#ifndef EVERYTICK_TAIL_CALL_UNWINDER_H
#define EVERYTICK_TAIL_CALL_UNWINDER_H

#include <bpf/bpf_helpers.h>
#include "runtimes/runtime.h"

/* Tail calls that the kernel allows in a row. */
#define TAIL_CALLS_MAX 33
#define FRAMES_PER_TAIL_CALL FRAMES_PER_CLOCK_READ

_Static_assert(TAIL_CALLS_MAX *FRAMES_PER_TAIL_CALL >= TAIL_CALL_FRAMES_MAX,
               "the frame limit is reached before the limit of tail calls");

/* The program that continues a walk. The agent fills this in. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} tail_calls SEC(".maps");

/*
 * Walks one frame of this CPU's tick; returns nonzero if that was the last. Global, so that the
 * verifier checks it once and not in every iteration of the loop.
 */
__noinline int walk_frame(u32 depth)
{
	u32 zero = 0;
	struct scratch *own = bpf_map_lookup_elem(&scratch, &zero);

	return own ? (int)walk_one(depth, &own) : STOP;
}

/* The same for an interpreter frame. */
__noinline int step_interpreter_frame(u32 depth)
{
	struct interpreter *in = current_interpreter();

	return in ? (int)step_interpreter(depth, in) : STOP;
}

/*
 * Walks the interpreter frames of this CPU's tick. A loop of calls to a global function is cheap to
 * verify, so this takes none of the tail calls that the native walk needs.
 */
__noinline int walk_interpreter_frames(void)
{
	const struct interpreter *in = current_interpreter();
	struct walk *walk = current_walk();
	if (!in || !walk)
		return 0;

	bool is_done = !start_interpreter(walk->process, walk->tick_start);
	for (u32 depth = 0; depth < TAIL_CALL_INTERPRETER_FRAMES_MAX && !is_done; depth++)
		is_done = step_interpreter_frame(depth);
	finish_interpreter(in, walk);
	return 0;
}

#endif
