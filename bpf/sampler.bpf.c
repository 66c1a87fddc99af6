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
#include "arch/x86_64.h"

/* BTF keeps only what a global names; the agent compares its mirrors with these. */
const volatile struct {
	enum outcome outcome;
	enum stack_end stack_end;
	struct stack_copy stack_copy;
	struct process process;
	struct mapping mapping;
	struct rule rule;
} abi_types = {};

#define PAGE_BYTES 4096

/* Records on their way to the agent. The agent sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ring SEC(".maps");

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
	out->sample.kernel_end = count >= limit ? STACK_END_DEPTH : STACK_END_BOTTOM;
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
 * Copies the stack from the red zone on, so that the agent can walk it. The last page is often not there as a
 * whole: what is there of it is taken too.
 */
static inline void copy_stack(struct scratch *out, u64 ip)
{
	u32 first = out->sample.kernel_frames;
	if (first > KERNEL_FRAMES_MAX)
		return;
	struct stack_copy *copy = (void *)&out->words[first];
	u8 *stack = (u8 *)(copy + 1);
	u64 from = out->walk.all[ARCH_SP] - ARCH_RED_ZONE;

	__builtin_memcpy(copy->registers, out->walk.all, sizeof(copy->registers));
	copy->ip = ip;
	copy->bytes = 0;
	for (u32 at = 0; at < STACK_COPY_MAX; at += PAGE_BYTES) {
		if (read_user(stack + at, PAGE_BYTES, from + at)) {
			copy->bytes = at + PAGE_BYTES;
			continue;
		}
		u32 rest = PAGE_BYTES - ((from + at) & (PAGE_BYTES - 1));
		if (rest < PAGE_BYTES && read_user(stack + at, rest, from + at))
			copy->bytes = at + rest;
		break;
	}
	out->sample.user_frames = 0;
	out->sample.flags |= SAMPLE_UNFINISHED;
}

/*
 * Takes the user stack, from where the thread entered the kernel or was interrupted. Kernel threads have
 * none, and while exec builds a process's memory there is none either: it has no code yet.
 */
static inline void take_user_stack(struct task_struct *current, struct scratch *out, struct counters *counted)
{
	struct pt_regs regs;
	u32 first = out->sample.kernel_frames;

	if (!BPF_CORE_READ(current, mm, start_code) ||
	    bpf_probe_read_kernel(&regs, sizeof(regs), (const void *)bpf_task_pt_regs(current)))
		return;
	if (!arch_in_user_mode(regs.cs))
		return;

	struct walk *walk = &out->walk;
	arch_take_registers(walk->all, &regs);
	walk->registers = (struct registers){
		.ip = regs.rip,
		.sp = regs.rsp,
		.fp = regs.rbp,
		.base = regs.rbx,
		.known = KNOWN_FP | KNOWN_BASE | KNOWN_ALL,
	};
	walk->mapping.start = walk->mapping.end = 0;
	walk->start = out->sample.time;
	walk->process = known_process(out->sample.pid);
	walk->at = first;
	walk->limit = first + settings.user_frames_limit;
	walk->end = STACK_END_DEPTH;
	walk->needs_table = false;
	if (!take_frame(out, regs.rip))
		return;
	if (arch_runs_64_bit(regs.cs))
		bpf_loop(USER_FRAMES_MAX, walk_one, &out, 0);
	else
		walk->end = STACK_END_32_BIT;
	out->sample.user_frames = walk->at - first;
	out->sample.user_end = walk->end;
	if (walk->needs_table && bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) < settings.ring_copy_bytes) {
		copy_stack(out, regs.rip);
		counted->copies++;
	}
}

static inline u64 wakeup_flag(void)
{
	return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= settings.ring_wakeup_bytes ?
		       BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static inline enum outcome deliver(struct scratch *out)
{
	u64 size = ((u32)out->sample.kernel_frames + out->sample.user_frames) * sizeof(u64);

	if (out->sample.flags & SAMPLE_UNFINISHED && out->sample.kernel_frames <= KERNEL_FRAMES_MAX) {
		struct stack_copy *copy = (void *)&out->words[out->sample.kernel_frames];
		size += sizeof(*copy) + copy->bytes;
	}
	if (size > sizeof(out->words))
		size = sizeof(out->words);
	return bpf_ringbuf_output(&ring, &out->sample, sizeof(struct sample) + size, wakeup_flag()) ?
		       OUTCOME_LOST_RING_FULL : OUTCOME_DELIVERED;
}

/* Says whether a sample has a user stack, walked or still to be walked. */
static inline bool has_user_stack(const struct sample *sample)
{
	return sample->user_frames || sample->flags & SAMPLE_UNFINISHED;
}

static inline enum outcome sample_tick(struct bpf_perf_event_data *ctx, struct counters *counted, u64 now)
{
	u32 zero = 0;
	struct scratch *out = bpf_map_lookup_elem(&scratch, &zero);
	if (!out)
		return OUTCOME_LOST_RING_FULL; /* cannot happen: the element exists from the start */

	struct task_struct *task = bpf_get_current_task_btf();
	u64 pid_tgid = bpf_get_current_pid_tgid();
	u32 tgid = pid_tgid >> 32, tid = (u32)pid_tgid;
	u32 visible = tid ? visible_pid(BPF_CORE_READ(task, group_leader), tgid) : 0;

	enum outcome outcome = skip_reason(task, tgid, tid, visible);
	if (outcome != OUTCOME_DELIVERED)
		return outcome;

	out->sample = (struct sample){
		.time = now,
		.sequence = counted->outcomes[OUTCOME_DELIVERED] + counted->outcomes[OUTCOME_LOST_RING_FULL],
		.cgroup_id = bpf_get_current_cgroup_id(),
		.pid = visible,
		.tid = visible_pid(task, tid),
		.cpu = bpf_get_smp_processor_id(),
	};
	bpf_get_current_comm(out->sample.comm, sizeof(out->sample.comm));

	if (settings.kernel_stacks && !arch_in_user_mode(ctx->regs.cs))
		take_kernel_stack(ctx, out);
	if (settings.user_stacks)
		take_user_stack(task, out, counted);
	if (!out->sample.kernel_frames && !has_user_stack(&out->sample) &&
	    !(settings.kernel_stacks && settings.user_stacks))
		return OUTCOME_SKIPPED_MODE;
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

/*
 * Gives 1 for a tick whose user stack is in the ring: then perf writes a record of that very instant, for
 * another unwinder to judge ours by. Global, so that the verifier looks at it once.
 */
__noinline int wants_perf_record(u32 outcome)
{
	u32 zero = 0;
	struct scratch *out = bpf_map_lookup_elem(&scratch, &zero);

	return out && outcome == OUTCOME_DELIVERED && has_user_stack(&out->sample);
}

SEC("perf_event")
int sample(struct bpf_perf_event_data *ctx)
{
	u64 start = bpf_ktime_get_ns();
	u32 zero = 0;
	struct counters *counted = bpf_map_lookup_elem(&counters, &zero);
	if (!counted)
		return 0; /* cannot happen: the element exists from the start */

	counted->ticks++;
	enum outcome outcome = sample_tick(ctx, counted, start);
	if (outcome < OUTCOMES)
		counted->outcomes[outcome]++;
	count_time(counted, bpf_ktime_get_ns() - start);
	return settings.perf_samples ? wants_perf_record(outcome) : 0;
}

char LICENSE[] SEC("license") = "GPL";
