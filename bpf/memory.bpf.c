// SPDX-License-Identifier: GPL-2.0
/*
 * Invalidates the published mappings of a process as soon as its address space is replaced: after
 * fork, after exec, and once it has ended and its pid is free. The agent sees the same events a
 * little later, in order, and publishes anew.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "kernel_types.h"
#include "maps.h"
#include "namespace.h"

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

char LICENSE[] SEC("license") = "GPL";
