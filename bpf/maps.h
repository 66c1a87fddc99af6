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
} descendants __weak SEC(".maps");

/* One element per CPU; only the CPU itself writes it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counters);
} counters __weak SEC(".maps");

/*
 * Mappings and blocks of rows. The agent writes slabs through memory that it shares with the
 * kernel, and adds them as it needs them.
 */
struct slab {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(u32));
	__uint(value_size, SLAB_BYTES);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SLABS_MAX);
	__type(key, u32);
	__array(values, struct slab);
} slabs __weak SEC(".maps");

/* Number of a block -> its place, BLOCK_EMPTY, or 0 while its table is not there. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BLOCKS_MAX);
	__type(key, u32);
	__type(value, u32);
} blocks __weak SEC(".maps");

/* Process, as the agent's pid namespace numbers it -> place of its struct process. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PROCESSES_MAX);
	__type(key, u32);
	__type(value, u32);
} processes __weak SEC(".maps");

/*
 * Process, numbered likewise -> when it got its memory: when it was forked or called exec, as far as that was seen. What
 * the agent published of an earlier life is of no use; it publishes with the time that it found
 * here, and a walk compares.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PROCESSES_MAX);
	__type(key, u32);
	__type(value, u64);
} stamps __weak SEC(".maps");

#endif
