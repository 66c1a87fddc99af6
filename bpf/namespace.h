/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pids as the agent sees them. BPF sees the first pid namespace; an agent in a
 * container sees its own, and /proc and perf records speak that one.
 */
#ifndef EVERYTICK_NAMESPACE_H
#define EVERYTICK_NAMESPACE_H

#include <bpf/bpf_core_read.h>
#include "kernel_types.h"
#include "maps.h"

/* Gives the task's number in the agent's pid namespace, 0 when it is not visible there. `known` is its number in the first. */
static inline u32 visible_pid(const struct task_struct *task, u32 known)
{
	u32 level = settings.pid_namespace_level;
	if (level == 0)
		return known;

	const struct pid *pid = BPF_CORE_READ(task, thread_pid);
	if (!pid || BPF_CORE_READ(pid, level) < level)
		return 0;

	/* The array is longer than declared: its tail is level + 1 elements. */
	const struct upid *at = (const void *)pid + bpf_core_field_offset(struct pid, numbers) +
				level * bpf_core_type_size(struct upid);
	if (BPF_CORE_READ(at, ns, ns.inum) != settings.pid_namespace_inode)
		return 0;
	return BPF_CORE_READ(at, nr);
}

#endif
