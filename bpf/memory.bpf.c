// SPDX-License-Identifier: GPL-2.0
/*
 * Invalidates the published mappings of a process as soon as its address space is replaced: after
 * fork, after exec, and once it has ended and its pid is free. The agent sees the same events a
 * little later, in order, and publishes anew.
 *
 * A process that has moved code by mremap is reported to the agent, because perf does not: the
 * agent reads its mappings again.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "kernel_types.h"
#include "maps.h"
#include "namespace.h"
#include "rate.h"
#include "arch/x86_64.h"

/* Returns the pid of a task's process in the agent's pid namespace, 0 if it has none there. */
static inline u32 visible_process(const struct task_struct *task)
{
	return visible_pid(BPF_CORE_READ(task, group_leader), BPF_CORE_READ(task, tgid));
}

static inline void start_generation(u32 pid)
{
	u64 now = bpf_ktime_get_ns();

	/* If the map is full, the process has no generation, here and when the agent looks. */
	bpf_map_update_elem(&generations, &pid, &now, BPF_ANY);
	bpf_map_delete_elem(&processes, &pid);
}

SEC("raw_tp/sched_process_fork")
int memory_fork(struct bpf_raw_tracepoint_args *ctx)
{
	const struct task_struct *parent = (const void *)ctx->args[0];
	const struct task_struct *child = (const void *)ctx->args[1];

	if (BPF_CORE_READ(child, tgid) != BPF_CORE_READ(parent, tgid))
		start_generation(visible_process(child));
	return 0;
}

SEC("raw_tp/sched_process_exec")
int memory_exec(struct bpf_raw_tracepoint_args *ctx)
{
	const struct task_struct *task = (const void *)ctx->args[0];

	start_generation(visible_process(task));
	return 0;
}

SEC("raw_tp/sched_process_exit")
int memory_exit(struct bpf_raw_tracepoint_args *ctx)
{
	const struct task_struct *task = (const void *)ctx->args[0];
	u32 pid = visible_process(task);

	if (BPF_CORE_READ(task, signal, live.counter) == 0) {
		bpf_map_delete_elem(&processes, &pid);
		bpf_map_delete_elem(&generations, &pid);
	}
	return 0;
}

/* Flag of vm_area_struct.vm_flags (include/linux/mm.h). */
#define VM_EXEC 4UL

/* Moves that a CPU reports: so many at once, and one each period. */
#define MOVES_BURST 64
#define MOVE_PERIOD_NS 10000000ULL

/* What one CPU has reported. */
struct move_rate {
	u64 last; /* when the credit began that is left */
	u64 missed;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct move_rate);
} move_rates SEC(".maps");

/* Reports a move of a mapping if it is executable: a program can make a million in a second. */
static inline void report_move(const struct task_struct *task, const struct vm_area_struct *mapping)
{
	u32 zero = 0;
	struct move_rate *rate = bpf_map_lookup_elem(&move_rates, &zero);

	if (!rate || !(BPF_CORE_READ(mapping, vm_flags) & VM_EXEC))
		return;
	struct moved_code moved = {
		.time = bpf_ktime_get_ns(),
		.missed = rate->missed,
		.pid = visible_process(task),
	};
	if (!within_rate(&rate->last, moved.time, MOVES_BURST, MOVE_PERIOD_NS) ||
	    bpf_ringbuf_output(&ring, &moved, sizeof(moved), BPF_RB_FORCE_WAKEUP))
		rate->missed++;
	else
		rate->missed = 0;
}

/*
 * Runs when mremap copies a mapping to another address, and at no other time: copy_vma(vmap, ...).
 * Optional: a kernel may have no trampolines, and the helper is of Linux 5.17.
 */
SEC("fentry/copy_vma")
int memory_copy(u64 *ctx)
{
	const struct vm_area_struct *mapping;
	u64 place = 0;

	if (!bpf_get_func_arg(ctx, 0, &place) &&
	    !bpf_probe_read_kernel(&mapping, sizeof(mapping), (const void *)place))
		report_move((const void *)bpf_get_current_task(), mapping);
	return 0;
}

/* Returns the number of the system call that a thread is in, if it is in one. */
static inline u64 current_system_call(const struct task_struct *task)
{
	const struct pt_regs *regs =
		bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs)
			? (const void *)bpf_task_pt_regs(bpf_get_current_task_btf())
			: arch_user_registers(BPF_CORE_READ(task, stack));
	u64 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), &regs->orig_rax);
	return number;
}

/*
 * The same where there is no memory_copy, for recordings of selected processes only: this runs at
 * each write to a maple tree, several times in mmap, and mremap is one of many that write. Linux
 * has these trees from 6.1 on.
 */
SEC("raw_tp/ma_write")
int memory_write(struct bpf_raw_tracepoint_args *ctx)
{
	const struct task_struct *task = (const void *)bpf_get_current_task();
	const struct vm_area_struct *mapping = (const void *)ctx->args[3];

	if (mapping && current_system_call(task) == ARCH_SYSTEM_CALL_MREMAP &&
	    BPF_CORE_READ(task, mm))
		report_move(task, mapping);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
