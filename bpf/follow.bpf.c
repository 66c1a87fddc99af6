// SPDX-License-Identifier: GPL-2.0
/*
 * Keeps `descendants`: COMMAND and all that it starts. Raw tracepoints, so a child is a
 * member before it runs its first instruction.
 *
 * The agent sets `launching` around the spawn of COMMAND. Until it clears it, what
 * the agent itself forks becomes the first member; from then on only members' children.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "kernel_types.h"
#include "maps.h"
#include "namespace.h"

bool launching;

static inline bool is_member(const struct task_struct *task, u32 tgid)
{
	u64 *start = bpf_map_lookup_elem(&descendants, &tgid);
	return start && *start == BPF_CORE_READ(task, group_leader, start_boottime);
}

static inline bool is_launcher(const struct task_struct *task, u32 tgid)
{
	const struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	return launching && visible_pid(leader, tgid) == settings.launcher;
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
	if (!is_member(parent, parent_tgid) && !is_launcher(parent, parent_tgid))
		return 0;

	u64 start = BPF_CORE_READ(child, start_boottime);
	if (bpf_map_update_elem(&descendants, &child_tgid, &start, BPF_ANY)) {
		u32 zero = 0;
		struct counters *counted = bpf_map_lookup_elem(&counters, &zero);
		if (counted)
			counted->descendants_missed++;
	}
	return 0;
}

/* A process's number is free once its leader is; a new process may have it already, with another start time. */
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
