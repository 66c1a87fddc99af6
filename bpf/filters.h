/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The filters of `record`. A tick must match one filter of each kind; a kind without filters
 * matches everything. Processes and threads are one kind.
 */
#ifndef EVERYTICK_FILTERS_H
#define EVERYTICK_FILTERS_H

#include <bpf/bpf_core_read.h>
#include "kernel_types.h"
#include "maps.h"
#include "namespace.h"

/* Unit of a process's start time in /proc/PID/stat. */
#define NANOSECONDS_PER_CLOCK_TICK 10000000ULL
#define HIERARCHIES_MAX 32
#define CGROUP_DEPTH_MAX 32

/* Processes selected with -p: pid in the agent's namespace -> start time in clock ticks. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, u64);
} pids SEC(".maps");

/* Threads selected with -t: tid in the agent's namespace -> start time in clock ticks. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, u64);
} tids SEC(".maps");

/* A set: values are not used. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct cgroup_key);
	__type(value, u8);
} cgroups SEC(".maps");

/* A set: values are not used. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct comm_key);
	__type(value, u8);
} comms SEC(".maps");

/* `tgid`: in the initial namespace; `visible`: in the agent's. */
static inline bool process_matches(const struct task_struct *task, u32 tgid, u32 visible)
{
	u64 start = BPF_CORE_READ(task, group_leader, start_boottime);

	u64 *ticks = bpf_map_lookup_elem(&pids, &visible);
	if (ticks && *ticks == start / NANOSECONDS_PER_CLOCK_TICK)
		return true;
	u64 *descendant = bpf_map_lookup_elem(&descendants, &tgid);
	return descendant && *descendant == start;
}

/* `tid`: in the initial namespace. */
static inline bool thread_matches(const struct task_struct *task, u32 tid)
{
	u32 visible = visible_pid(task, tid);
	u64 *ticks = bpf_map_lookup_elem(&tids, &visible);

	return ticks && *ticks == BPF_CORE_READ(task, start_boottime) / NANOSECONDS_PER_CLOCK_TICK;
}

/* Matches the name of the current thread, or that of its process. */
static inline bool comm_matches(const struct task_struct *task)
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
 * Returns whether the cgroup at an address, or one above it, is selected. Global, so that the
 * verifier checks this loop once; before Linux 5.12 such a function takes numbers only.
 */
__noinline int cgroup_or_ancestor_matches(u64 address, u64 hierarchy)
{
	struct cgroup *cgroup = (void *)address;

	for (u32 step = 0; step < CGROUP_DEPTH_MAX && cgroup; step++) {
		struct cgroup_key key = {
			.id = BPF_CORE_READ(cgroup, kn, id),
			.hierarchy = hierarchy,
		};
		if (bpf_map_lookup_elem(&cgroups, &key))
			return 1;
		const void *parent = BPF_CORE_READ(cgroup, self.parent); /* its member `self` */
		if (!parent)
			return 0;
		cgroup = (void *)(parent - bpf_core_field_offset(struct cgroup, self));
	}
	return 0;
}

/* Matches a task's cgroup in each hierarchy. */
static inline bool cgroup_matches(const struct task_struct *task)
{
	const struct css_set *set = BPF_CORE_READ(task, cgroups);
	const struct list_head *head =
		(const void *)set + bpf_core_field_offset(struct css_set, cgrp_links);
	const struct list_head *node = BPF_CORE_READ(set, cgrp_links.next);

	for (u32 index = 0; index < HIERARCHIES_MAX && node && node != head; index++) {
		const struct cgrp_cset_link *link =
			(const void *)node -
			bpf_core_field_offset(struct cgrp_cset_link, cgrp_link);
		struct cgroup *cgroup = BPF_CORE_READ(link, cgrp);
		u64 hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
		if (cgroup_or_ancestor_matches((u64)cgroup, hierarchy))
			return true;
		node = BPF_CORE_READ(node, next);
	}
	return false;
}

#endif
