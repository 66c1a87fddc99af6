/* SPDX-License-Identifier: GPL-2.0 */
/* The filters of `record`: filters of one kind widen each other, kinds narrow each other. */
#ifndef EVERYTICK_FILTERS_H
#define EVERYTICK_FILTERS_H

#include <bpf/bpf_core_read.h>
#include "kernel_types.h"
#include "maps.h"

/* /proc/PID/stat counts the start of a process in these. */
#define NANOSECONDS_PER_CLOCK_TICK 10000000ULL
#define HIERARCHIES_MAX 32
#define CGROUP_DEPTH_MAX 32

/* The processes given with -p: pid as the agent sees it -> start time in clock ticks. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, u64);
} pids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct cgroup_key);
	__type(value, u8);
} cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct comm_key);
	__type(value, u8);
} comms SEC(".maps");

/* `tgid`: in the first namespace; `visible`: in the agent's. */
static inline bool process_wanted(const struct task_struct *task, u32 tgid, u32 visible)
{
	u64 start = BPF_CORE_READ(task, group_leader, start_boottime);

	u64 *ticks = bpf_map_lookup_elem(&pids, &visible);
	if (ticks && *ticks == start / NANOSECONDS_PER_CLOCK_TICK)
		return true;
	u64 *followed = bpf_map_lookup_elem(&descendants, &tgid);
	return followed && *followed == start;
}

static inline bool comm_wanted(const struct task_struct *task)
{
	struct comm_key key = {};
	bpf_get_current_comm(key.name, sizeof(key.name));
	if (bpf_map_lookup_elem(&comms, &key))
		return true;
	const struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	__builtin_memset(&key, 0, sizeof(key));
	BPF_CORE_READ_STR_INTO(&key.name, leader, comm);
	return bpf_map_lookup_elem(&comms, &key);
}

/*
 * Looks at a cgroup and at all above it. Global, so that the verifier looks at this loop once; before
 * Linux 5.12 such a function takes numbers only.
 */
__noinline int below_wanted_cgroup(u64 address, u64 hierarchy)
{
	struct cgroup *cgroup = (void *)address;

	for (u32 step = 0; step < CGROUP_DEPTH_MAX && cgroup; step++) {
		struct cgroup_key key = {
			.id = BPF_CORE_READ(cgroup, kn, id),
			.hierarchy = hierarchy,
		};
		if (bpf_map_lookup_elem(&cgroups, &key))
			return 1;
		const void *parent = BPF_CORE_READ(cgroup, self.parent); /* the `self` of the cgroup above */
		if (!parent)
			return 0;
		cgroup = (void *)(parent - bpf_core_field_offset(struct cgroup, self));
	}
	return 0;
}

/* Looks at a task's cgroup in each hierarchy. */
static inline bool cgroup_wanted(const struct task_struct *task)
{
	const struct css_set *set = BPF_CORE_READ(task, cgroups);
	const struct list_head *head = (const void *)set + bpf_core_field_offset(struct css_set, cgrp_links);
	const struct list_head *at = BPF_CORE_READ(set, cgrp_links.next);

	for (u32 index = 0; index < HIERARCHIES_MAX && at && at != head; index++) {
		const struct cgrp_cset_link *link =
			(const void *)at - bpf_core_field_offset(struct cgrp_cset_link, cgrp_link);
		struct cgroup *cgroup = BPF_CORE_READ(link, cgrp);
		if (below_wanted_cgroup((u64)cgroup, BPF_CORE_READ(cgroup, root, hierarchy_id)))
			return true;
		at = BPF_CORE_READ(at, next);
	}
	return false;
}

#endif
