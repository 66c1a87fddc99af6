// SPDX-License-Identifier: GPL-2.0
/*
 * The sampler: one perf_event program on every CPU. Each tick is counted by how
 * it ended; a tick that is wanted leaves as one record in the ring.
 *
 * It waits for nobody, allocates nothing, and writes only this CPU's counters,
 * this CPU's scratch and the ring.
 */
#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "kernel_types.h"
#include "maps.h"
#include "namespace.h"
#include "filters.h"
#include "walk.h"
#include "tail_call_unwinder.h"
#include "arch/x86_64.h"

/* BTF keeps only what a global names; the agent compares its mirrors with these. */
const volatile struct {
	enum outcome outcome;
	enum stack_end stack_end;
	struct registers registers;
	struct process process;
	struct mapping mapping;
	struct rule rule;
} abi_types = {};

/*
 * Frames of user stacks that are walked now, 0 for as many as the settings allow. The agent lowers it while it is over
 * its budget.
 */
u32 user_frames_now;

/* Records on their way to the agent. The agent sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ring SEC(".maps");

static inline u32 user_frames_limit(void)
{
	u32 now = user_frames_now;

	return now && now < settings.user_frames_limit ? now : settings.user_frames_limit;
}

static inline enum outcome skip_reason(const struct task_struct *task, u32 tgid, u32 tid, u32 visible)
{
	if (tid == 0)
		return settings.idle ? OUTCOME_DELIVERED : OUTCOME_SKIPPED_IDLE;
	if (!visible)
		return OUTCOME_SKIPPED_NAMESPACE;
	if (settings.filter_processes && !process_wanted(task, tgid, visible))
		return OUTCOME_SKIPPED_PROCESS;
	if (settings.filter_cgroups && !cgroup_wanted(task))
		return OUTCOME_SKIPPED_CGROUP;
	if (settings.filter_comms && !comm_wanted(task))
		return OUTCOME_SKIPPED_COMM;
	return OUTCOME_DELIVERED;
}

/* Gives where the kernel keeps the registers with which a thread was in user mode last. */
static inline const void *user_registers(struct task_struct *current)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return (const void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	return arch_user_registers(BPF_CORE_READ(current, stack)); /* before Linux 5.15 */
}

/* Takes the kernel's own stack when the tick interrupted kernel code. */
static inline void take_kernel_stack(void *ctx, struct scratch *out)
{
	u32 limit = settings.kernel_frames_limit;
	long bytes = bpf_get_stack(ctx, out->words, KERNEL_FRAMES_MAX * sizeof(u64), 0);

	if (bytes <= 0) {
		out->sample.kernel_end = STACK_END_KERNEL_REFUSED;
		return;
	}
	u32 count = (u32)bytes / sizeof(u64);
	out->sample.kernel_frames = count;
	out->sample.kernel_end = count >= limit ? STACK_END_DEPTH : STACK_END_COMPLETE;
}

/* Gives the place of what the agent knows of a process, 0 when that is nothing or of an earlier life. */
static inline u32 known_process(u32 pid)
{
	u32 *place = bpf_map_lookup_elem(&processes, &pid);
	const u8 *slab = place && *place ? slab_of(*place) : NULL;
	if (!slab)
		return 0;
	u64 *stamp = bpf_map_lookup_elem(&stamps, &pid);
	bool is_it = (u32)u64_at(slab, offset_of(*place)) == pid &&
		     u64_at(slab, offset_of(*place) + offsetof(struct process, stamp)) == (stamp ? *stamp : 0);
	return is_it ? *place : 0;
}

/*
 * Begins the user stack, from where the thread entered the kernel or was interrupted: true when there is more to
 * walk. Kernel threads have none, and while exec builds a process's memory there is none either: it has no
 * code yet.
 */
static inline bool begin_user_stack(struct scratch *out)
{
	struct walk *walk = &out->walk;
	struct pt_regs *regs = &out->user;
	struct task_struct *current = (void *)bpf_get_current_task();

	if (!BPF_CORE_READ(current, mm, start_code) ||
	    bpf_probe_read_kernel(regs, sizeof(*regs), user_registers(current)))
		return false;
	if (!arch_in_user_mode(regs->cs))
		return false;

	arch_take_registers(walk->registers.all, regs);
	begin_with_all(&walk->registers, arch_ip(regs));
	walk->stack.from = walk->stack.bytes = 0;
	walk->mapping.start = walk->mapping.end = 0;
	walk->process = known_process(out->sample.pid);
	walk->limit = walk->at + user_frames_limit();
	walk->end = STACK_END_DEPTH;
	if (!take_frame(out, walk->registers.ip))
		return false;
	if (arch_runs_64_bit(regs->cs))
		return true;
	walk->end = STACK_END_32_BIT;
	return false;
}

/*
 * The agent reads now and then by itself. It is woken when the ring fills up, and when it can make the next ticks
 * cheaper and surer by telling the kernel of a process or a table.
 */
static inline u64 wakeup_flag(const struct scratch *out)
{
	bool is_asking = out->sample.flags & SAMPLE_UNFINISHED &&
			 (!out->walk.process || out->walk.end == STACK_END_NO_TABLE);

	return is_asking || bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= settings.ring_wakeup_bytes ?
		       BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* Gives the page in which the stack begins from where the walk stands. */
static inline u64 stack_page(const struct walk *walk)
{
	return (walk->registers.sp - ARCH_RED_ZONE) & ~(PAGE_BYTES - 1ULL);
}

/*
 * Copies the stack from where the walk stands, so that the agent can go on with it: from the page on that the red zone
 * begins in. Page by page: those that were never written are not there, below a stack that was never deeper and also in
 * the middle, in large frames. They become zeros.
 */
static __always_inline void copy_stack(struct unfinished *record, const struct walk *walk, u32 most)
{
	u64 from = stack_page(walk), bytes = 0;

	for (u32 at = 0; at < most; at += PAGE_BYTES)
		if (read_user(record->stack + at, PAGE_BYTES, from + at))
			bytes = at + PAGE_BYTES;
	record->at = walk->registers;
	record->bytes = bytes;
}

/* Delivers a sample with the rest of its stack, which is written into the ring at once: no value of a per-CPU map holds so much. */
static __always_inline bool deliver_with_stack(struct scratch *out, const u32 most)
{
	struct unfinished *record = bpf_ringbuf_reserve(&ring, offsetof(struct unfinished, stack) + most, 0);
	if (!record)
		return false;
	out->sample.flags |= SAMPLE_UNFINISHED;
	bpf_probe_read_kernel(record, offsetof(struct unfinished, at), &out->sample);
	copy_stack(record, &out->walk, most);
	bpf_ringbuf_submit(record, wakeup_flag(out));
	return true;
}

static inline bool deliver_unfinished(struct scratch *out)
{
	u64 word, behind = stack_page(&out->walk) + STACK_SNAPSHOT_SHORT;
	u64 unread = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);

	if (unread < settings.ring_snapshot_bytes && read_user(&word, sizeof(word), behind))
		return deliver_with_stack(out, STACK_SNAPSHOT_MAX);
	/* What the reader has not come to yet must leave room for samples without stacks. */
	return unread < settings.ring_snapshot_bytes * 3ULL / 2 && deliver_with_stack(out, STACK_SNAPSHOT_SHORT);
}

static inline enum outcome deliver(struct scratch *out)
{
	u64 size = ((u32)out->sample.kernel_frames + out->sample.user_frames) * sizeof(u64);

	if (size > sizeof(out->words))
		size = sizeof(out->words);
	return bpf_ringbuf_output(&ring, &out->sample, sizeof(struct sample) + size, wakeup_flag(out)) ?
		       OUTCOME_LOST_RING_FULL : OUTCOME_DELIVERED;
}

/* Begins a sample of the current thread with all but its user stack, unless the tick is not wanted. */
static inline enum outcome begin_sample(struct bpf_perf_event_data *ctx, struct scratch *out, struct counters *counted)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u64 pid_tgid = bpf_get_current_pid_tgid();
	u32 tgid = pid_tgid >> 32, tid = (u32)pid_tgid;
	u32 visible = tid ? visible_pid(BPF_CORE_READ(task, group_leader), tgid) : 0;

	enum outcome outcome = skip_reason(task, tgid, tid, visible);
	if (outcome != OUTCOME_DELIVERED)
		return outcome;

	out->sample = (struct sample){
		.time = out->walk.start,
		.sequence = counted->outcomes[OUTCOME_DELIVERED] + counted->outcomes[OUTCOME_LOST_RING_FULL],
		.cgroup_id = bpf_get_current_cgroup_id(),
		.pid = visible,
		.tid = visible_pid(task, tid),
		.cpu = bpf_get_smp_processor_id(),
	};
	bpf_get_current_comm(out->sample.comm, sizeof(out->sample.comm));
	if (settings.kernel_stacks && !arch_in_user_mode(ctx->regs.cs))
		take_kernel_stack(ctx, out);
	out->walk.at = out->sample.kernel_frames;
	out->walk.end = STACK_END_ABSENT;
	out->walk.needs_table = false;
	return OUTCOME_DELIVERED;
}

static inline enum outcome end_sample(struct scratch *out, struct counters *counted)
{
	out->sample.user_frames = out->walk.at - out->sample.kernel_frames;
	out->sample.user_end = out->walk.end;
	if (!out->walk.at && !(settings.kernel_stacks && settings.user_stacks))
		return OUTCOME_SKIPPED_MODE;
	if (out->walk.needs_table && deliver_unfinished(out)) {
		counted->copies++;
		return OUTCOME_DELIVERED;
	}
	return deliver(out);
}

/* Gives the log-linear class of a time: below 4 ns the time itself, then 4 classes to each power of two. */
static inline u32 time_class(u64 ns)
{
	u32 power = 1;

	if (ns < TIME_CLASSES_PER_POWER)
		return ns;
	for (u32 i = 0; i < 32 && ns >= 2 * TIME_CLASSES_PER_POWER; i++) {
		ns >>= 1;
		power++;
	}
	u32 class = power * TIME_CLASSES_PER_POWER + (u32)(ns & (TIME_CLASSES_PER_POWER - 1));
	return class < TIME_CLASSES ? class : TIME_CLASSES - 1;
}

static inline void count_time(struct counters *counted, u64 ns)
{
	counted->time_total += ns;
	if (ns > counted->time_max)
		counted->time_max = ns;
	u32 class = time_class(ns);
	if (class < TIME_CLASSES)
		counted->time_classes[class]++;
}

/* A tick between its beginning and its end. */
struct tick {
	struct counters *counted;
	struct scratch *out;
	enum outcome outcome;	/* OUTCOME_DELIVERED: there is a sample */
	bool walks;		/* there is a user stack to walk before the tick ends */
};

/* Finds the tick that this CPU is in. */
static __always_inline struct tick current_tick(void)
{
	u32 zero = 0;

	return (struct tick){
		.counted = bpf_map_lookup_elem(&counters, &zero),
		.out = bpf_map_lookup_elem(&scratch, &zero),
		.outcome = OUTCOME_DELIVERED,
	};
}

static __always_inline struct tick begin_tick(struct bpf_perf_event_data *ctx)
{
	u64 start = bpf_ktime_get_ns();
	struct tick tick = current_tick();
	if (!tick.counted || !tick.out)
		return tick; /* cannot happen: the elements exist from the start */

	tick.counted->ticks++;
	tick.out->walk.start = start;
	tick.outcome = begin_sample(ctx, tick.out, tick.counted);
	tick.walks = tick.outcome == OUTCOME_DELIVERED && settings.user_stacks && begin_user_stack(tick.out);
	return tick;
}

/* Every tick ends here, whichever program it has come to. */
static __always_inline int end_tick(struct tick tick)
{
	if (!tick.counted || !tick.out)
		return 0;
	if (tick.outcome == OUTCOME_DELIVERED)
		tick.outcome = end_sample(tick.out, tick.counted);
	if (tick.outcome < OUTCOMES)
		tick.counted->outcomes[tick.outcome]++;
	count_time(tick.counted, bpf_ktime_get_ns() - tick.out->walk.start);
	/* 1 makes perf write a record of this very instant, for another unwinder to judge our stack by. */
	return settings.perf_samples && tick.outcome == OUTCOME_DELIVERED &&
	       (tick.out->sample.user_frames || tick.out->sample.flags & SAMPLE_UNFINISHED);
}

SEC("perf_event")
int sample(struct bpf_perf_event_data *ctx)
{
	struct tick tick = begin_tick(ctx);

	if (tick.walks)
		bpf_loop(USER_FRAMES_MAX, walk_one, &tick.out, 0);
	return end_tick(tick);
}

/*
 * The same where the kernel has no bpf_loop: the walk goes on in unwind_tailcall, which calls itself. A tail call
 * does not return, unless there were too many of them; then the stack counts as cut.
 */
SEC("perf_event")
int sample_tailcall(struct bpf_perf_event_data *ctx)
{
	struct tick tick = begin_tick(ctx);

	if (tick.walks)
		bpf_tail_call(ctx, &tail_calls, 0);
	return end_tick(tick);
}

SEC("perf_event")
int unwind_tailcall(struct bpf_perf_event_data *ctx)
{
	bool is_walked = false;

	for (u32 depth = 0; depth < FRAMES_PER_LINK && !is_walked; depth++)
		is_walked = walk_frame(depth);
	if (!is_walked)
		bpf_tail_call(ctx, &tail_calls, 0);
	return end_tick(current_tick());
}

char LICENSE[] SEC("license") = "GPL";
