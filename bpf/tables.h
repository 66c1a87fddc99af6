/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Looks up mappings and unwind rules in the slabs that the agent publishes.
 *
 * A lookup never sees torn or reused bytes: the agent publishes a slot last, and reuses it only
 * when no tick can still read it. Mappings may be out of date, which the agent detects.
 */
#ifndef EVERYTICK_TABLES_H
#define EVERYTICK_TABLES_H

#include <bpf/bpf_helpers.h>
#include "maps.h"

/* Bisection steps among the mappings of a process, and among the 256 rows of a bucket. */
#define MAPPING_STEPS 13
#define ROW_STEPS 9

_Static_assert(MAPPINGS_MAX < 1 << MAPPING_STEPS, "bisection reaches every mapping");

/* Returns the memory of a slot's slab, NULL if there is no such slab. */
static inline const u8 *slab_of(u32 slot)
{
	u32 zero = 0, number = slot >> SLAB_UNITS_SHIFT;
	void *slab = bpf_map_lookup_elem(&slabs, &number);

	return slab ? bpf_map_lookup_elem(slab, &zero) : NULL;
}

/* Returns the bytes from the start of its slab to a slot. */
static inline u32 offset_of(u32 slot)
{
	return (slot & ((1 << SLAB_UNITS_SHIFT) - 1)) * SLAB_UNIT_BYTES;
}

static inline u16 u16_at(const u8 *slab, u32 offset)
{
	return *(const u16 *)(slab + (offset & (SLAB_BYTES - 2)));
}

static inline u64 u64_at(const u8 *slab, u32 offset)
{
	return *(const u64 *)(slab + (offset & (SLAB_BYTES - 8)));
}

/*
 * Returns the slot of a process's published mappings, 0 if there are none or they are of an earlier
 * generation. Sets whether these are all mappings of the process, and the kind of its runtime.
 */
static inline u32 published_mappings(u32 pid, bool *are_all, u32 *runtime)
{
	*are_all = false;
	*runtime = RUNTIME_NONE;
	u32 *slot = bpf_map_lookup_elem(&processes, &pid);
	const u8 *slab = slot && *slot ? slab_of(*slot) : NULL;
	if (!slab)
		return 0;
	u64 *generation = bpf_map_lookup_elem(&generations, &pid);
	u32 header = offset_of(*slot);
	bool is_current = (u32)u64_at(slab, header) == pid &&
	                  u64_at(slab, header + offsetof(struct process_header, generation)) ==
	                          (generation ? *generation : 0);
	u64 partial_and_runtime =
		u64_at(slab, header + offsetof(struct process_header, is_partial));
	*are_all = !(u32)partial_and_runtime;
	if (!is_current)
		return 0;
	*runtime = partial_and_runtime >> 32;
	return *slot;
}

/*
 * Returns the number, from 1, of the last mapping that starts at or before an address, 0 if there
 * is none. Global, so that the verifier checks this loop once and not in every frame of every path.
 */
__noinline u32 last_mapping(u32 process, u64 address)
{
	const u8 *slab = process ? slab_of(process) : NULL;
	if (!slab)
		return 0;

	u32 first = offset_of(process) + sizeof(struct process_header);
	u32 from = 0, to = u64_at(slab, offset_of(process)) >> 32;
	for (u32 i = 0; i < MAPPING_STEPS && from < to; i++) {
		u32 middle = (from + to) / 2;
		if (u64_at(slab, first + middle * sizeof(struct mapping_entry)) <= address)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

/* Copies the mapping that contains an address; returns false if there is none. */
static inline bool find_mapping(u32 process, u64 address, struct mapping_entry *mapping)
{
	u32 number = last_mapping(process, address);
	const u8 *slab = number ? slab_of(process) : NULL;
	if (!slab)
		return false;

	u32 entry = offset_of(process) + sizeof(struct process_header) +
	            (number - 1) * sizeof(struct mapping_entry);
	u64 end = u64_at(slab, entry + offsetof(struct mapping_entry, end));
	if (address >= end)
		return false;
	u64 table = u64_at(slab, entry + offsetof(struct mapping_entry, first_block));
	mapping->start = u64_at(slab, entry);
	mapping->end = end;
	mapping->text_offset = u64_at(slab, entry + offsetof(struct mapping_entry, text_offset));
	mapping->first_block = (u32)table;
	mapping->block_shift = table >> 32;
	return true;
}

#define RULE_NO_ROW ((u64)RULE_OP_GAP << 32 | RULE_GAP_NO_ROW)

/*
 * Returns the rule for an address, given as bytes into the text of a block. unwind/src/table/mod.rs
 * describes the layout of a block.
 */
static __always_inline u64 rule_in_block(u32 slot, u32 in_block)
{
	const u8 *slab = slab_of(slot);
	if (!slab)
		return RULE_NO_ROW;

	u32 block = offset_of(slot), bucket = in_block >> 8, low = in_block & 255;
	u64 header = u64_at(slab, block);
	if (bucket >= (header & 0xffff))
		return RULE_NO_ROW;
	u32 rules = block + 8 * (u32)(header >> 16 & 0xffff);
	u32 rows = block + 8 * (u32)(header >> 32 & 0xffff);
	u32 from = u16_at(slab, block + 8 + 2 * bucket);
	u32 to = u16_at(slab, block + 10 + 2 * bucket);
	for (u32 i = 0; i < ROW_STEPS && from < to; i++) {
		u32 middle = (from + to) / 2;
		if (u16_at(slab, rows + 2 * middle) >> 8 <= low)
			from = middle + 1;
		else
			to = middle;
	}
	return u64_at(slab, rules + 8 * (u16_at(slab, rows + 2 * (from - 1)) & 255));
}

enum table_state {
	TABLE_LOADED,
	TABLE_MISSING, /* not loaded yet */
	TABLE_REFUSED, /* does not fit, or is in backoff */
};

/* Finds the rule for an address in a mapping. */
static inline enum table_state find_rule(const struct mapping_entry *mapping, u64 address,
                                         u64 *rule)
{
	u64 text = address - mapping->start + mapping->text_offset;
	u32 shift = mapping->block_shift & 31;
	u32 number = mapping->first_block + (u32)(text >> shift);
	u32 *slot = bpf_map_lookup_elem(&blocks, &number);

	if (!slot || !*slot)
		return TABLE_MISSING;
	if (*slot == BLOCK_REFUSED)
		return TABLE_REFUSED;
	*rule = *slot == BLOCK_EMPTY ? RULE_NO_ROW
	                             : rule_in_block(*slot, (u32)text & ((1U << shift) - 1));
	return TABLE_LOADED;
}

#endif
