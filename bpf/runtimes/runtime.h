/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Walks the interpreter frames of the current thread, before and apart from the native walk: what
 * cuts one walk does not cut the other.
 *
 * A runtime is a header here, a line in FOR_EACH_RUNTIME and a kind in abi.h. The header defines
 * for `name`:
 *
 *   struct name_layout      what the agent publishes of the runtime's structures, in
 *                           runtime_process.layout
 *   bool name_start(in)     finds the first frame; false, with the end set, if there is none
 *   long name_step(in)      appends the next frame to the list, or ends it
 *   void name_describe(in)  fills the record of the code object that the step has come upon
 */
#ifndef EVERYTICK_RUNTIMES_RUNTIME_H
#define EVERYTICK_RUNTIMES_RUNTIME_H

#include <bpf/bpf_core_read.h>
#include "../arch/x86_64.h"
#include "../kernel_types.h"
#include "../walk.h"
#include "code_tags.h"
#include "cpython_code.h"

/* All runtimes: the kind and the name of each. */
#define FOR_EACH_RUNTIME(RUNTIME) RUNTIME(RUNTIME_CPYTHON, cpython)

/* The layouts, so that they are in BTF and the agent can compare its mirrors with them. */
const volatile struct {
#define LAYOUT(kind, name) struct name##_layout name;
	FOR_EACH_RUNTIME(LAYOUT)
} runtime_layouts = {};

/*
 * Sends the code object that the step has come upon. Global, so that the verifier checks it once
 * and not in every step.
 */
__noinline int send_code(u64 code, u32 fingerprint)
{
	struct interpreter *in = current_interpreter();
	if (!in || !may_send_code(in))
		return 0;

	start_code(in, code, fingerprint);
	switch (in->record.kind) {
#define DESCRIBE(kind, name)         \
	case kind:                   \
		name##_describe(in); \
		break;
		FOR_EACH_RUNTIME(DESCRIBE)
	}
	deliver_code(in, tag_of(in, code, fingerprint));
	return 0;
}

static inline void meet_code(struct interpreter *in, u64 code, u32 fingerprint)
{
	if (!is_sent(tag_of(in, code, fingerprint)))
		send_code(code, fingerprint);
}

/* Copies what is published of a process; returns the kind of its runtime. */
static inline u32 copy_published(struct interpreter *in, u32 process, u64 time)
{
	const u8 *slab = slab_of(process);
	if (!slab)
		return RUNTIME_NONE;

	u32 header = offset_of(process);
	u64 pid_and_count = u64_at(slab, header);
	u32 kind = u64_at(slab, header + offsetof(struct process_header, is_partial)) >> 32;
	u32 runtime = header + sizeof(struct process_header) +
	              (u32)(pid_and_count >> 32) * sizeof(struct mapping_entry);
	in->generation = u64_at(slab, header + offsetof(struct process_header, generation));
	in->record.time = time;
	in->record.marker = RECORD_INTERPRETER;
	in->record.pid = pid_and_count;
	in->record.count = 0;
	in->record.kind = kind;
	return bpf_probe_read_kernel(&in->process, sizeof(in->process),
	                             slab + (runtime & (SLAB_BYTES - 8)))
	               ? RUNTIME_NONE
	               : kind;
}

/*
 * Starts the walk of a process whose runtime is published; returns whether there is a frame. Global
 * because that needs stack of its own.
 */
__noinline int start_interpreter(u32 process, u64 time)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct interpreter *in = current_interpreter();
	bool has_frame = false;
	if (!in)
		return 0;

	in->codes = in->entries = in->next_entry = 0;
	in->record.end = INTERPRETER_END_NO_THREAD;
	in->thread_pointer = arch_thread_pointer(task);
	switch (copy_published(in, process, time)) {
#define START(kind, name)                     \
	case kind:                            \
		has_frame = name##_start(in); \
		break;
		FOR_EACH_RUNTIME(START)
	}
	if (has_frame)
		in->record.end = INTERPRETER_END_DEPTH; /* unless the walk ends sooner */
	return has_frame;
}

/* Appends the next frame to the list, or ends it. */
static long step_interpreter(u32 depth, struct interpreter *in)
{
	/* The other half of the time is for the native walk. */
	if (depth % FRAMES_PER_CLOCK_READ == FRAMES_PER_CLOCK_READ - 1 &&
	    bpf_ktime_get_ns() - in->record.time > config.tick_limit / 2)
		return STOP;
	switch (in->record.kind) {
#define STEP(kind, name) \
	case kind:       \
		return name##_step(in);
		FOR_EACH_RUNTIME(STEP)
	}
	return STOP;
}

/*
 * Returns whether there is a list to send. A thread that runs no interpreter has none, and neither
 * has one that is not in interpreted code.
 */
static inline bool has_interpreter_list(const struct interpreter *in)
{
	return in->record.end != INTERPRETER_END_NO_THREAD &&
	       (in->record.count || in->record.end != INTERPRETER_END_COMPLETE);
}

/* Ends the walk over interpreter frames, and prepares the native walk for their anchors. */
static inline void finish_interpreter(const struct interpreter *in, struct walk *walk)
{
	walk->has_interpreter_list = has_interpreter_list(in);
	walk->anchor = pass_anchor(walk->registers.sp, NO_FRAME);
}

/* Delivers the list of interpreter frames of a sample. */
static inline void deliver_interpreter(const struct scratch *scratch)
{
	struct interpreter *in = current_interpreter();
	if (!in)
		return;

	u64 bytes = in->record.count * sizeof(struct interpreter_frame);
	in->record.sequence = scratch->sample.sequence;
	in->record.cpu = scratch->sample.cpu;
	if (bytes > sizeof(in->frames))
		bytes = sizeof(in->frames);
	/* The rest of the ring is reserved for samples without them. */
	if (bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) < config.ring_snapshot_bytes * 3ULL / 2)
		bpf_ringbuf_output(&ring, &in->record, sizeof(in->record) + bytes,
		                   BPF_RB_NO_WAKEUP);
}

#endif
