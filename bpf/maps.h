/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Configuration and maps that several programs share. They are weak, so that linking the objects
 * leaves one of each.
 */
#ifndef EVERYTICK_MAPS_H
#define EVERYTICK_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"

const volatile struct sampler_config config __weak = {};

/*
 * COMMAND and all processes that it starts: pid in the initial namespace -> start time in
 * nanoseconds, so that a reused pid is not a member. follow.bpf.c adds processes as they fork. The
 * agent shrinks the map to one entry if there is no COMMAND.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u32);
	__type(value, u64);
} descendants __weak SEC(".maps");

/* One element per CPU, which only that CPU writes. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counters);
} counters __weak SEC(".maps");

/* Records on their way to the agent, which sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ring __weak SEC(".maps");

/*
 * Slabs hold mappings and blocks of rows. The agent writes them through memory that it shares with
 * the kernel, and adds slabs as it needs them.
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

/* Number of a block -> its slot, an enum block_state, or 0 while its table is not loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BLOCKS_MAX);
	__type(key, u32);
	__type(value, u32);
} blocks __weak SEC(".maps");

/* Process in the agent's pid namespace -> slot of its struct process_header. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PROCESSES_MAX);
	__type(key, u32);
	__type(value, u32);
} processes __weak SEC(".maps");

/*
 * Process in the agent's pid namespace -> its generation: when its address space was created, by
 * fork or exec, as far as the programs saw that. Mappings that the agent published of an earlier
 * generation are stale: it publishes them with the generation that it found here, and a walk
 * compares the two.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PROCESSES_MAX);
	__type(key, u32);
	__type(value, u64);
} generations __weak SEC(".maps");

#endif
