/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Delivers a finished sample, or an unfinished one with a stack snapshot, through the ring. It
 * never waits: a full ring loses the sample, and a ring that fills up takes no more snapshots.
 */
#ifndef EVERYTICK_DELIVER_H
#define EVERYTICK_DELIVER_H

#include <bpf/bpf_helpers.h>
#include "walk.h"

/*
 * The agent reads the ring now and then by itself. It is woken early if the ring fills up, and if
 * it can make the next ticks cheaper and more complete by publishing mappings or a table.
 */
static inline u64 wakeup_flag(const struct scratch *scratch)
{
	bool agent_can_help = scratch->sample.flags & SAMPLE_UNFINISHED &&
	                      (!scratch->walk.process || scratch->walk.end == STACK_END_NO_TABLE);

	if (agent_can_help ||
	    bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= config.ring_wakeup_bytes)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* Returns the page in which the snapshot starts: that of the red zone. */
static inline u64 snapshot_start(const struct walk *walk)
{
	return (walk->registers.sp - ARCH_RED_ZONE) & ~(PAGE_BYTES - 1ULL);
}

/*
 * Takes a snapshot of the stack, from the last frame of the walk. Page by page: untouched pages
 * cannot be read. Those are pages below the deepest point so far, and pages inside large frames.
 * They are left as zeros.
 */
static __always_inline void take_snapshot(struct unfinished_sample *record, const struct walk *walk,
                                          u32 size)
{
	u64 start = snapshot_start(walk), bytes = 0;

	for (u32 page = 0; page < size; page += PAGE_BYTES)
		if (read_user(record->stack + page, PAGE_BYTES, start + page))
			bytes = page + PAGE_BYTES;
	record->registers = walk->registers;
	record->stack_bytes = bytes;
}

/*
 * Delivers a sample with a stack snapshot of at most `size` bytes. The snapshot is written directly
 * into the ring: a value of a per-CPU map cannot be that large.
 */
static __always_inline bool deliver_with_snapshot(struct scratch *scratch, const u32 size)
{
	struct unfinished_sample *record =
		bpf_ringbuf_reserve(&ring, offsetof(struct unfinished_sample, stack) + size, 0);
	if (!record)
		return false;
	scratch->sample.flags |= SAMPLE_UNFINISHED;
	bpf_probe_read_kernel(record, offsetof(struct unfinished_sample, registers),
	                      &scratch->sample);
	take_snapshot(record, &scratch->walk, size);
	bpf_ringbuf_submit(record, wakeup_flag(scratch));
	return true;
}

/* Delivers an unfinished sample; returns false if the ring has no space for a snapshot. */
static inline bool deliver_unfinished(struct scratch *scratch)
{
	u64 word, beyond_short = snapshot_start(&scratch->walk) + STACK_SNAPSHOT_SHORT;
	u64 unread = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);

	if (unread < config.ring_snapshot_bytes && read_user(&word, sizeof(word), beyond_short))
		return deliver_with_snapshot(scratch, STACK_SNAPSHOT_MAX);
	/* The rest of the ring is reserved for samples without snapshots. */
	return unread < config.ring_snapshot_bytes * 3ULL / 2 &&
	       deliver_with_snapshot(scratch, STACK_SNAPSHOT_SHORT);
}

static inline enum outcome deliver(struct scratch *scratch)
{
	u64 bytes =
		((u32)scratch->sample.kernel_frames + scratch->sample.user_frames) * sizeof(u64);

	if (bytes > sizeof(scratch->frames))
		bytes = sizeof(scratch->frames);
	return bpf_ringbuf_output(&ring, &scratch->sample, sizeof(struct sample) + bytes,
	                          wakeup_flag(scratch))
	               ? OUTCOME_LOST_RING_FULL
	               : OUTCOME_DELIVERED;
}

#endif
