// SPDX-License-Identifier: GPL-2.0
/*
 * The sampler: one perf_event program on every CPU. Each tick is counted by how it ended; a tick
 * that passes the filters leaves as one record in the ring.
 *
 * It never waits, allocates nothing, and writes only this CPU's counters, this CPU's scratch and
 * the ring.
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
#include "runtimes/runtime.h"
#include "tail_call_unwinder.h"
#include "deliver.h"
#include "arch/x86_64.h"

/*
 * BTF holds only the types that a global refers to. The agent takes its constants from these enums
 * and compares its mirrors with these structures. The agent does not compile if one is missing.
 */
const volatile struct {
	enum stack_limit stack_limit;
	enum snapshot_size snapshot_size;
	enum time_class_limit time_class_limit;
	enum frame_flag_bit frame_flag_bit;
	enum slab_layout slab_layout;
	enum map_limit map_limit;
	enum block_state block_state;
	enum rule_op rule_op;
	enum rule_gap rule_gap;
	enum rule_saved rule_saved;
	enum outcome outcome;
	enum stack_end stack_end;
	enum sample_flag sample_flag;
	enum runtime_kind runtime_kind;
	enum interpreter_limit interpreter_limit;
	enum record_marker record_marker;
	enum interpreter_flag_bit interpreter_flag_bit;
	enum interpreter_end interpreter_end;
	enum thread_value_kind thread_value_kind;
	enum libc_kind libc_kind;
	enum position_kind position_kind;
	enum entry_kind entry_kind;
	enum known_register known_register;
	enum arch_register arch_register;
	enum arch_frame arch_frame;
	enum user_address user_address;
	enum frame_pointer_limit frame_pointer_limit;
	struct registers registers;
	struct process_header process_header;
	struct mapping_entry mapping_entry;
	struct moved_code moved_code;
	struct rule rule;
	struct interpreter_frame interpreter_frame;
	struct interpreter_record interpreter_record;
	struct code_record code_record;
	struct runtime_process runtime_process;
	struct unfinished_sample unfinished_sample[0]; /* its type, without its 9 KiB */
} abi_types = {};

/* Returns how a tick ends by the filters alone: OUTCOME_DELIVERED if they do not skip it. */
static inline enum outcome outcome_of_filters(const struct task_struct *task, u32 tgid, u32 tid,
                                              u32 visible)
{
	if (tid == 0)
		return config.idle ? OUTCOME_DELIVERED : OUTCOME_SKIPPED_IDLE;
	if (!visible)
		return OUTCOME_SKIPPED_NAMESPACE;
	if ((config.filter_processes || config.filter_threads) &&
	    !(config.filter_processes && process_matches(task, tgid, visible)) &&
	    !(config.filter_threads && thread_matches(task, tid)))
		return OUTCOME_SKIPPED_PROCESS;
	if (config.filter_cgroups && !cgroup_matches(task))
		return OUTCOME_SKIPPED_CGROUP;
	if (config.filter_comms && !comm_matches(task))
		return OUTCOME_SKIPPED_COMM;
	return OUTCOME_DELIVERED;
}

/* Returns the saved user-mode `pt_regs` of the current thread. */
static inline const void *user_registers(struct task_struct *current)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return (const void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	return arch_user_registers(BPF_CORE_READ(current, stack)); /* before Linux 5.15 */
}

/* Takes the kernel's own stack when the tick interrupted kernel code. */
static inline void take_kernel_stack(void *ctx, struct scratch *scratch)
{
	u32 limit = config.kernel_frames_limit;
	long bytes = bpf_get_stack(ctx, scratch->frames, KERNEL_FRAMES_MAX * sizeof(u64), 0);

	if (bytes <= 0) {
		scratch->sample.kernel_end = STACK_END_KERNEL_UNAVAILABLE;
		return;
	}
	u32 count = (u32)bytes / sizeof(u64);
	scratch->sample.kernel_frames = count;
	scratch->sample.kernel_end = count >= limit ? STACK_END_DEPTH : STACK_END_COMPLETE;
}

/*
 * Leaves the vsyscall page, which nothing can read: its code has the return address on top of the
 * stack everywhere. Returns whether there is more to walk.
 */
static inline bool leave_vsyscall(struct scratch *scratch)
{
	struct walk *walk = &scratch->walk;
	struct registers *r = &walk->registers;
	u64 ip;

	walk->end = STACK_END_UNREADABLE;
	if (!read_user(&ip, sizeof(ip), r->sp))
		return false;
	walk->end = STACK_END_BAD_RETURN_ADDRESS;
	if (!is_user_address(ip))
		return false;
	walk->end = STACK_END_DEPTH;
	r->ip = ip;
	r->sp += sizeof(ip);
	r->known = KNOWN_FP | KNOWN_BASE;
	r->is_behind = 1;
	return push_current(scratch, 0);
}

/*
 * Starts the user stack where the thread entered the kernel or was interrupted; returns whether
 * there is more to walk. Kernel threads have no user stack, and neither has a process whose memory
 * exec is building: it has no code yet.
 */
static inline bool start_user_stack(struct scratch *scratch)
{
	struct walk *walk = &scratch->walk;
	struct pt_regs *regs = &scratch->user;
	struct task_struct *current = (void *)bpf_get_current_task();

	if (!BPF_CORE_READ(current, mm, start_code) ||
	    bpf_probe_read_kernel(regs, sizeof(*regs), user_registers(current)))
		return false;
	if (!arch_in_user_mode(regs->cs))
		return false;

	arch_copy_registers(walk->registers.all, regs);
	start_with_all_registers(&walk->registers, arch_ip(regs), arch_in_system_call(regs));
	walk->stack.start = walk->stack.bytes = 0;
	walk->mapping.start = walk->mapping.end = 0;
	find_published_mappings(scratch->sample.pid);
	walk->anchor = NO_ANCHOR;
	walk->frames_limit = walk->frames + config.user_frames_limit;
	walk->end = STACK_END_DEPTH;
	if (!push_current(scratch, 0))
		return false;
	if (!arch_runs_64_bit(regs->cs)) {
		walk->end = STACK_END_32_BIT;
		return false;
	}
	return !arch_in_vsyscall(walk->registers.ip) || leave_vsyscall(scratch);
}

/* Starts a sample of the current thread, with its kernel stack, if the tick passes the filters. */
static inline enum outcome start_sample(struct bpf_perf_event_data *ctx, struct scratch *scratch,
                                        const struct counters *count)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u64 pid_tgid = bpf_get_current_pid_tgid();
	u32 tgid = pid_tgid >> 32, tid = (u32)pid_tgid;
	u32 visible = tid ? visible_pid(BPF_CORE_READ(task, group_leader), tgid) : 0;

	enum outcome outcome = outcome_of_filters(task, tgid, tid, visible);
	if (outcome != OUTCOME_DELIVERED)
		return outcome;

	scratch->sample = (struct sample){
		.time = scratch->walk.tick_start,
		.sequence = count->outcomes[OUTCOME_DELIVERED] +
		            count->outcomes[OUTCOME_LOST_RING_FULL],
		.cgroup_id = bpf_get_current_cgroup_id(),
		.pid = visible,
		.tid = visible_pid(task, tid),
		.cpu = bpf_get_smp_processor_id(),
	};
	bpf_get_current_comm(scratch->sample.comm, sizeof(scratch->sample.comm));
	if (config.kernel_stacks && !arch_in_user_mode(ctx->regs.cs))
		take_kernel_stack(ctx, scratch);
	scratch->walk.frames = scratch->sample.kernel_frames;
	scratch->walk.end = STACK_END_ABSENT;
	scratch->walk.needs_agent = scratch->walk.asks_agent = false;
	scratch->walk.has_interpreter_list = false;
	return OUTCOME_DELIVERED;
}

static inline enum outcome finish_sample(struct scratch *scratch)
{
	scratch->sample.user_frames = scratch->walk.frames - scratch->sample.kernel_frames;
	scratch->sample.user_end = scratch->walk.end;
	if (!scratch->walk.frames && !(config.kernel_stacks && config.user_stacks))
		return OUTCOME_SKIPPED_MODE;
	if (config.runtimes && scratch->walk.has_interpreter_list)
		deliver_interpreter(scratch);
	bool is_unfinished = scratch->walk.needs_agent ||
	                     (scratch->walk.asks_agent && may_request(&scratch->walk));
	if (is_unfinished && deliver_unfinished(scratch))
		return OUTCOME_DELIVERED;
	return deliver(scratch);
}

/*
 * Returns the log-linear class of a time: below 4 ns the time itself, then 4 classes to each power
 * of two.
 */
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

static inline void count_time(struct counters *count, u64 ns)
{
	count->time_total += ns;
	if (ns > count->time_max)
		count->time_max = ns;
	u32 class = time_class(ns);
	if (class < TIME_CLASSES)
		count->time_classes[class]++;
}

/* A tick between its start and its end. */
struct tick {
	struct counters *count;
	struct scratch *scratch;
	enum outcome outcome; /* OUTCOME_DELIVERED: there is a sample */
	bool has_user_stack;  /* to walk before the tick ends */
};

static __always_inline struct tick current_tick(void)
{
	u32 zero = 0;

	return (struct tick){
		.count = bpf_map_lookup_elem(&counters, &zero),
		.scratch = bpf_map_lookup_elem(&scratch, &zero),
		.outcome = OUTCOME_DELIVERED,
	};
}

static __always_inline struct tick start_tick(struct bpf_perf_event_data *ctx)
{
	u64 start = bpf_ktime_get_ns();
	struct tick tick = current_tick();
	if (!tick.count || !tick.scratch)
		return tick; /* impossible: the elements always exist */

	tick.count->ticks++;
	tick.scratch->walk.tick_start = start;
	tick.outcome = start_sample(ctx, tick.scratch, tick.count);
	tick.has_user_stack = tick.outcome == OUTCOME_DELIVERED && config.user_stacks &&
	                      start_user_stack(tick.scratch);
	return tick;
}

/* Every tick ends here, in whichever program. Returns what that program returns. */
static __always_inline int end_tick(struct tick tick)
{
	if (!tick.count || !tick.scratch)
		return 0;
	if (tick.outcome == OUTCOME_DELIVERED)
		tick.outcome = finish_sample(tick.scratch);
	if (tick.outcome < OUTCOMES)
		tick.count->outcomes[tick.outcome]++;
	count_time(tick.count, bpf_ktime_get_ns() - tick.scratch->walk.tick_start);
	/* 1 makes perf write a record of this very instant, which a second unwinder verifies. */
	return config.perf_samples && tick.outcome == OUTCOME_DELIVERED &&
	       (tick.scratch->sample.user_frames || tick.scratch->sample.flags & SAMPLE_UNFINISHED);
}

/* Returns whether the process of a sample has a runtime whose frames are to be walked. */
static __always_inline bool has_runtime(const struct scratch *scratch)
{
	return config.runtimes && scratch->walk.runtime != RUNTIME_NONE;
}

static long step_in_loop(u32 depth, struct interpreter **in)
{
	return step_interpreter(depth, *in);
}

/*
 * Walks the interpreter frames of this CPU's tick. Global, so that the verifier checks it once and
 * not in each path to the native walk.
 */
__noinline int walk_interpreter(void)
{
	struct interpreter *in = current_interpreter();
	struct walk *walk = current_walk();
	if (!in || !walk)
		return 0;

	if (start_interpreter(walk->process, walk->tick_start))
		bpf_loop(INTERPRETER_FRAMES_MAX, step_in_loop, &in, 0);
	finish_interpreter(in, walk);
	return 0;
}

SEC("perf_event")
int sample(struct bpf_perf_event_data *ctx)
{
	struct tick tick = start_tick(ctx);

	if (tick.has_user_stack) {
		if (has_runtime(tick.scratch))
			walk_interpreter();
		bpf_loop(USER_FRAMES_MAX, walk_one, &tick.scratch, 0);
	}
	return end_tick(tick);
}

/*
 * The same where the kernel has no bpf_loop: the walk continues in unwind_tailcall, which calls
 * itself. A tail call does not return, unless there were too many; then the stack counts as cut.
 */
SEC("perf_event")
int sample_tailcall(struct bpf_perf_event_data *ctx)
{
	struct tick tick = start_tick(ctx);

	if (tick.has_user_stack) {
		if (has_runtime(tick.scratch))
			walk_interpreter_frames();
		bpf_tail_call(ctx, &tail_calls, 0);
	}
	return end_tick(tick);
}

SEC("perf_event")
int unwind_tailcall(struct bpf_perf_event_data *ctx)
{
	bool is_done = false;

	for (u32 depth = 0; depth < FRAMES_PER_TAIL_CALL && !is_done; depth++)
		is_done = walk_frame(depth);
	if (!is_done)
		bpf_tail_call(ctx, &tail_calls, 0);
	return end_tick(current_tick());
}

char LICENSE[] SEC("license") = "GPL";
