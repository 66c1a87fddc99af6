/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel structures that the programs read, reduced to the members that they read. Offsets come
 * from the running kernel's BTF when the programs load (CO-RE), so order and size do not matter.
 */
#ifndef EVERYTICK_KERNEL_TYPES_H
#define EVERYTICK_KERNEL_TYPES_H

#include "types.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head {
	struct list_head *next;
};

struct ns_common {
	unsigned int inum;
};

struct pid_namespace {
	struct ns_common ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct kernfs_node {
	u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup_subsys_state {
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

/* Links a css_set to its cgroup in one hierarchy; a css_set has one link per hierarchy. */
struct cgrp_cset_link {
	struct cgroup *cgrp;
	struct list_head cgrp_link;
};

struct css_set {
	struct list_head cgrp_links;
};

struct mm_struct {
	unsigned long start_code;
};

struct vm_area_struct {
	unsigned long vm_flags;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live; /* threads that have not started to exit */
};

struct thread_struct {
	unsigned long fsbase; /* of user mode */
};

struct task_struct {
	void *stack;
	struct mm_struct *mm;
	struct signal_struct *signal;
	int pid;
	int tgid;
	u64 start_boottime;
	char comm[16];
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct css_set *cgroups;
	struct thread_struct thread;
};

#pragma clang attribute pop

#endif
