/* SPDX-License-Identifier: GPL-2.0 */
/* Settings and maps that more than one program uses: weak, so that linking the objects leaves one of each. */
#ifndef EVERYTICK_MAPS_H
#define EVERYTICK_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"

const volatile struct settings settings __weak = {};

/*
 * The processes of COMMAND: pid in the first namespace -> start time in
 * nanoseconds, so that a reused pid is no member. Filled by follow.bpf.c as they
 * fork. The agent shrinks it to one entry when no COMMAND runs.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u32);
	__type(value, u64);
} family __weak SEC(".maps");

/* One element per CPU; only the CPU itself writes it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counters);
} counters __weak SEC(".maps");

#endif
