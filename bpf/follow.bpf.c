// SPDX-License-Identifier: GPL-2.0
/*
 * Maintains `descendants`: COMMAND and all processes that it starts. These are raw tracepoints, so
 * a process is a member before it executes its first instruction.
 *
 * The agent sets `launching_thread` while it spawns COMMAND: what this thread forks then becomes
 * the first member once it executes COMMAND; until then it runs the agent's code. Other threads of
 * the agent may start its workers at the same time. Afterwards only children of members become
 * members.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "kernel_types.h"
#include "maps.h"
#include "namespace.h"

u32 launching_thread; /* its tid in the agent's pid namespace; 0 for none */
u32 launched_process; /* forked by it, and COMMAND is not executed yet; 0 for none */

static inline bool is_descendant(const struct task_struct *task, u32 tgid)
{
	u64 *start = bpf_map_lookup_elem(&descendants, &tgid);
	return start && *start == BPF_CORE_READ(task, group_leader, start_boottime);
}

static inline bool is_launcher(const struct task_struct *task)
{
	return launching_thread && visible_pid(task, BPF_CORE_READ(task, pid)) == launching_thread;
}

/* Makes a process a member. `leader`: its main thread. */
static inline void add_member(const struct task_struct *leader, u32 tgid)
{
	u64 start = BPF_CORE_READ(leader, start_boottime);

	if (bpf_map_update_elem(&descendants, &tgid, &start, BPF_ANY)) {
		u32 zero = 0;
		struct counters *count = bpf_map_lookup_elem(&counters, &zero);
		if (count)
			count->descendants_missed++;
	}
}

SEC("raw_tp/sched_process_fork")
int follow_fork(struct bpf_raw_tracepoint_args *ctx)
{
	const struct task_struct *parent = (const void *)ctx->args[0];
	const struct task_struct *child = (const void *)ctx->args[1];
	u32 parent_tgid = BPF_CORE_READ(parent, tgid);
	u32 child_tgid = BPF_CORE_READ(child, tgid);

	if (child_tgid == parent_tgid)
		return 0; /* a thread */
	if (is_launcher(parent))
		launched_process = child_tgid;
	else if (is_descendant(parent, parent_tgid))
		add_member(child, child_tgid);
	return 0;
}

SEC("raw_tp/sched_process_exec")
int follow_exec(struct bpf_raw_tracepoint_args *ctx)
{
	const struct task_struct *task = (const void *)ctx->args[0];
	u32 tgid = BPF_CORE_READ(task, tgid);

	if (launched_process && tgid == launched_process) {
		add_member(task, tgid);
		launched_process = 0;
	}
	return 0;
}

/*
 * A pid can be reused once the leader's task is freed. A new process may have the pid already, with
 * another start time.
 */
SEC("raw_tp/sched_process_free")
int follow_free(struct bpf_raw_tracepoint_args *ctx)
{
	const struct task_struct *task = (const void *)ctx->args[0];
	u32 tgid = BPF_CORE_READ(task, tgid);

	if (BPF_CORE_READ(task, pid) != tgid)
		return 0;
	u64 *start = bpf_map_lookup_elem(&descendants, &tgid);
	if (start && *start == BPF_CORE_READ(task, start_boottime))
		bpf_map_delete_elem(&descendants, &tgid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
