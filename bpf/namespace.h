/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Translates pids into the agent's pid namespace. BPF sees the initial namespace; an agent in a
 * container sees its own, and so do /proc and perf records.
 */
#ifndef EVERYTICK_NAMESPACE_H
#define EVERYTICK_NAMESPACE_H

#include <bpf/bpf_core_read.h>
#include "kernel_types.h"
#include "maps.h"

/* The kernel's MAX_PID_NS_LEVEL. */
#define NAMESPACE_DEPTH_MAX 32

/*
 * Returns the pid of the task at an address in the agent's pid namespace, 0 if it has none there.
 * Global, so that the verifier checks this loop once; before Linux 5.12 such a function takes
 * numbers only.
 */
__weak __noinline u32 pid_in_namespace(u64 address)
{
	/* A task has a pid in its own namespace and in each above: `numbers` is that long. */
	const struct task_struct *task = (const void *)address;
	const struct pid *pid = BPF_CORE_READ(task, thread_pid);
	u32 levels = pid ? BPF_CORE_READ(pid, level) + 1 : 0;
	const struct upid *upid = (const void *)pid + bpf_core_field_offset(struct pid, numbers);
	u64 size = bpf_core_type_size(struct upid);

	for (u32 level = 0; level < NAMESPACE_DEPTH_MAX && level < levels; level++) {
		if (BPF_CORE_READ(upid, ns, ns.inum) == config.pid_namespace)
			return BPF_CORE_READ(upid, nr);
		upid = (const void *)upid + size;
	}
	return 0;
}

/*
 * Returns a task's pid in the agent's pid namespace, 0 if the task is not visible there. `pid`: in
 * the initial namespace.
 */
static inline u32 visible_pid(const struct task_struct *task, u32 pid)
{
	return config.pid_namespace ? pid_in_namespace((u64)task) : pid;
}

#endif
