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

/* The kernel's MAX_PID_NS_LEVEL. */
#define NAMESPACE_DEPTH_MAX 32

/*
 * Gives the number of the task at an address in the agent's pid namespace, 0 when it has none there. Global, so
 * that the verifier looks at this loop once; such a function takes numbers only before Linux 5.12.
 */
__weak __noinline u32 number_in_namespace(u64 address)
{
	/* A task has a number in its own namespace and in each above it: an array longer than declared. */
	const struct task_struct *task = (const void *)address;
	const struct pid *pid = BPF_CORE_READ(task, thread_pid);
	u32 levels = pid ? BPF_CORE_READ(pid, level) + 1 : 0;
	const struct upid *at = (const void *)pid + bpf_core_field_offset(struct pid, numbers);
	u64 size = bpf_core_type_size(struct upid);

	for (u32 level = 0; level < NAMESPACE_DEPTH_MAX && level < levels; level++) {
		if (BPF_CORE_READ(at, ns, ns.inum) == settings.pid_namespace)
			return BPF_CORE_READ(at, nr);
		at = (const void *)at + size;
	}
	return 0;
}

/* Gives the task's number in the agent's pid namespace, 0 when it is not visible there. `known` is its number in the first. */
static inline u32 visible_pid(const struct task_struct *task, u32 known)
{
	return settings.pid_namespace ? number_in_namespace((u64)task) : known;
}

#endif
