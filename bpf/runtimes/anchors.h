/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The memory of this CPU's walk over interpreter frames, and the anchors in it that the native walk
 * passes: the frame whose CFA is the first above an anchor is the evaluation loop of the group of
 * frames that the anchor ends.
 */
#ifndef EVERYTICK_RUNTIMES_ANCHORS_H
#define EVERYTICK_RUNTIMES_ANCHORS_H

#include <bpf/bpf_helpers.h>
#include "../maps.h"
#include "interpreter.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct interpreter);
} interpreters SEC(".maps");

/* In place of an anchor: none is left. No CFA is above it. */
#define NO_ANCHOR ~0ULL
/* In place of the number of a frame. */
#define NO_FRAME ~0U
/* Anchors in a row that do not lie on the stack that is walked. */
#define ANCHORS_SKIPPED_MAX 16

/*
 * Returns the memory of this CPU's walk; NULL where interpreter frames are not walked. The agent
 * does not create the maps then: what uses them must come after this test.
 */
static inline struct interpreter *current_interpreter(void)
{
	u32 zero = 0;

	return config.runtimes ? bpf_map_lookup_elem(&interpreters, &zero) : NULL;
}

/*
 * Assigns the current anchor to the native user frame with this number, unless that is NO_FRAME.
 * Returns the next anchor at or above sp, NO_ANCHOR if there is none. Anchors below it are on
 * another stack. Global, so that the verifier checks this loop once and not in every frame of every
 * path.
 */
__noinline u64 pass_anchor(u64 sp, u32 frame)
{
	struct interpreter *in = current_interpreter();
	if (!in)
		return NO_ANCHOR;

	u32 entry = in->next_entry;
	for (u32 i = 0; i < ANCHORS_SKIPPED_MAX; i++, entry++) {
		if (entry >= in->entries)
			break;
		u32 number =
			in->entry_numbers[entry % INTERPRETER_FRAMES_MAX] % INTERPRETER_FRAMES_MAX;
		if (frame != NO_FRAME) {
			in->frames[number].position = frame;
			frame = NO_FRAME;
			continue;
		}
		u64 anchor = in->frames[number].code & ~INTERPRETER_ENTRY;
		if (anchor >= sp) {
			in->next_entry = entry;
			return anchor;
		}
	}
	in->next_entry = INTERPRETER_FRAMES_MAX;
	return NO_ANCHOR;
}

#endif
