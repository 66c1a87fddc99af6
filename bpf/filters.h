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
	u64 *followed = bpf_map_lookup_elem(&family, &tgid);
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

struct climb {
	struct cgroup *cgroup;
	u64 hierarchy;
	bool found;
};

/* Looks at one cgroup and goes to its parent. (A CO-RE read of climb->cgroup would relocate `climb`.) */
static long climb_one(u32 step, struct climb *climb)
{
	struct cgroup *cgroup = climb->cgroup;
	struct cgroup_key key = {
		.id = BPF_CORE_READ(cgroup, kn, id),
		.hierarchy = climb->hierarchy,
	};
	if (bpf_map_lookup_elem(&cgroups, &key)) {
		climb->found = true;
		return 1;
	}
	struct cgroup_subsys_state *parent = BPF_CORE_READ(cgroup, self.parent);
	if (!parent)
		return 1;
	climb->cgroup = BPF_CORE_READ(parent, cgroup);
	return climb->cgroup == NULL;
}

struct visit {
	const struct list_head *head;
	const struct list_head *at;
	bool found;
};

/* Looks at the task's cgroup in one more hierarchy, and at all above it. */
static long visit_one(u32 index, struct visit *visit)
{
	const struct list_head *at = visit->at;
	if (!at || at == visit->head)
		return 1;
	const struct cgrp_cset_link *link =
		(const void *)at - bpf_core_field_offset(struct cgrp_cset_link, cgrp_link);
	struct cgroup *cgroup = BPF_CORE_READ(link, cgrp);
	struct climb climb = {
		.cgroup = cgroup,
		.hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id),
	};
	bpf_loop(CGROUP_DEPTH_MAX, climb_one, &climb, 0);
	visit->found = climb.found;
	visit->at = BPF_CORE_READ(at, next);
	return visit->found;
}

static inline bool cgroup_wanted(const struct task_struct *task)
{
	const struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct visit visit = {
		.head = (const void *)set + bpf_core_field_offset(struct css_set, cgrp_links),
		.at = BPF_CORE_READ(set, cgrp_links.next),
	};
	bpf_loop(HIERARCHIES_MAX, visit_one, &visit, 0);
	return visit.found;
}

#endif
