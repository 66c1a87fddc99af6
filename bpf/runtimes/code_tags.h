/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sends each code object to the agent once. Which were sent is remembered by tags, each in one of
 * two places, without locks: three that share their places, or two CPUs that see one at the same
 * time, send it again.
 */
#ifndef EVERYTICK_RUNTIMES_CODE_TAGS_H
#define EVERYTICK_RUNTIMES_CODE_TAGS_H

#include <bpf/bpf_helpers.h>
#include "../maps.h"
#include "../rate.h"
#include "anchors.h"

/* Code objects that a CPU sends: so many at once, and one each period. */
#define CODES_BURST 1024
#define CODE_PERIOD_NS 500000ULL

/* Tags of code objects that were sent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CODE_TAGS);
	__type(key, u32);
	__type(value, u64);
} code_tags SEC(".maps");

/*
 * Returns the tag of a code object, a hash of its address and fingerprint with the generation and
 * the epoch of its process.
 */
static inline u64 tag_of(const struct interpreter *in, u64 code, u32 fingerprint)
{
	u64 process = hash_word(hash_word(in->generation, in->record.pid), in->process.epoch);

	return hash_word(hash_word(process, code), fingerprint);
}

/* Returns the first or the second place of a tag. */
static inline u64 *tag_place(u64 tag, u32 which)
{
	u32 number = (tag & (CODE_TAGS - 1)) ^ which;

	return bpf_map_lookup_elem(&code_tags, &number);
}

/* Returns whether the code object with a tag was sent, as far as it is remembered. */
static inline bool is_sent(u64 tag)
{
	const u64 *first = tag_place(tag, 0);
	if (first && *first == tag)
		return true;
	const u64 *second = tag_place(tag, 1);
	return second && *second == tag;
}

/* Remembers that the code object with a tag was sent, in place of the older of two. */
static inline void remember_sent(u64 tag)
{
	u64 *first = tag_place(tag, 0), *second = tag_place(tag, 1);

	if (first && second) {
		*second = *first;
		*first = tag;
	}
}

/* Returns whether this tick may send one more. The rest of the ring is reserved for samples. */
static inline bool may_send_code(struct interpreter *in)
{
	return in->codes < CODE_RECORDS_PER_TICK &&
	       bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) < config.ring_snapshot_bytes &&
	       within_rate(&in->last_code, in->record.time, CODES_BURST, CODE_PERIOD_NS);
}

/* Starts the record of a code object. */
static inline void start_code(struct interpreter *in, u64 code, u32 fingerprint)
{
	in->codes++;
	in->code = (struct code_record){
		.time = in->record.time,
		.marker = RECORD_CODE,
		.code = code,
		.pid = in->record.pid,
		.fingerprint = fingerprint,
		.kind = in->record.kind,
	};
}

/*
 * Sends the record of a code object, and remembers that if the ring takes it. One whose name is not
 * in memory is tried again.
 */
static inline void deliver_code(struct interpreter *in, u64 tag)
{
	if (!in->code.name_bytes)
		return;
	u64 bytes = (u64)in->code.name_bytes + in->code.file_bytes + in->code.lines_bytes;

	if (bytes > sizeof(in->code_bytes))
		bytes = sizeof(in->code_bytes);
	if (!bpf_ringbuf_output(&ring, &in->code, sizeof(in->code) + bytes, BPF_RB_NO_WAKEUP))
		remember_sent(tag);
}

#endif
