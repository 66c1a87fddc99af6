/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Walks the user stack of the current thread into a record: look the mapping up, then
 * the row, step, repeat. Where there is no row, a frame pointer is believed if it leads
 * to code; such a frame is marked as guessed.
 *
 * Reads of maps never fail loudly: what is torn or stale cannot be seen, because places
 * are published last, and reused only when no tick can still look at them.
 */
#ifndef EVERYTICK_WALK_H
#define EVERYTICK_WALK_H

#include <asm/ptrace.h>
#include <bpf/bpf_helpers.h>
#include "maps.h"
#include "frame_pointer.h"

/* Looking at the clock costs as much as a frame: once for so many frames. A link of tail_call_unwinder.h has as many. */
#define FRAMES_PER_LOOK 16

/* Bisection of 8,000 mappings, and of a bucket's 256 rows. */
#define MAPPING_STEPS 13
#define ROW_STEPS 9

/* What is read of the stack at once: a dozen frames. */
#define STACK_PIECE_BYTES 1024

/*
 * A piece of the user stack. Reading a word of user memory takes as long as the rest of a frame's walk, and a
 * few hundred bytes take no longer. No piece reaches into another page: that may be none.
 */
struct stack {
	u64 from;
	u64 bytes;
	u64 words[STACK_PIECE_BYTES / sizeof(u64)];
};

/*
 * The state of a walk between two frames. It lives in a map, not on the stack: there it would be too
 * large, and the verifier would follow each value that a path leaves in it.
 */
struct walk {
	struct registers registers;
	struct stack stack;
	struct mapping mapping;	/* where the last frame was: the next is often there too */
	u64 start;		/* of the tick */
	u64 asked;		/* when the last guess that asked the agent would have been due: see may_ask() */
	u32 process;		/* place of its struct process, 0 when not known */
	u32 at;			/* words taken */
	u32 limit;		/* words that may be taken */
	u8 end;
	bool needs_table;
};

/* A sample while it is written: the ring wants it in one piece. */
struct scratch {
	struct walk walk;	/* not part of the sample */
	struct pt_regs user;	/* nor this: with what the thread was in user mode last */
	struct sample sample;
	u64 words[KERNEL_FRAMES_MAX + USER_FRAMES_MAX];	/* frames */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

static inline bool read_user(void *to, u32 size, u64 address)
{
	return !bpf_probe_read_user(to, size, (const void *)address);
}

/* Reads the piece of the stack that begins at an address. */
static inline void read_piece(struct stack *stack, u64 address)
{
	u32 rest = PAGE_BYTES - (address & (PAGE_BYTES - 1));
	u32 bytes = rest < STACK_PIECE_BYTES ? rest : STACK_PIECE_BYTES;

	stack->from = address;
	stack->bytes = read_user(stack->words, bytes, address) ? bytes : 0;
}

static inline bool read_word(struct stack *stack, u64 *value, u64 address)
{
	u64 into = address - stack->from;

	if (into + sizeof(u64) > stack->bytes || into > STACK_PIECE_BYTES - sizeof(u64)) {
		read_piece(stack, address);
		if (stack->bytes < sizeof(u64))
			return read_user(value, sizeof(*value), address); /* it lies in two pages */
		into = 0;
	}
	*value = *(u64 *)((u8 *)stack->words + into);
	return true;
}

/* Gives the slab that a place is in. */
static inline const u8 *slab_of(u32 place)
{
	u32 zero = 0, number = place >> SLAB_UNITS_SHIFT;
	void *slab = bpf_map_lookup_elem(&slabs, &number);

	return slab ? bpf_map_lookup_elem(slab, &zero) : NULL;
}

static inline u32 offset_of(u32 place)
{
	return (place & ((1 << SLAB_UNITS_SHIFT) - 1)) * 8;
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
 * Gives the number, from 1, of the last mapping that starts at or before an address, 0 when there is none.
 * Global, so that the verifier looks at this loop once and not in every frame of every path.
 */
__noinline u32 last_mapping(u32 process, u64 address)
{
	const u8 *slab = process ? slab_of(process) : NULL;
	if (!slab)
		return 0;

	u32 first = offset_of(process) + sizeof(struct process);
	u32 from = 0, to = u64_at(slab, offset_of(process)) >> 32;
	for (u32 i = 0; i < MAPPING_STEPS && from < to; i++) {
		u32 middle = (from + to) / 2;
		if (u64_at(slab, first + middle * sizeof(struct mapping)) <= address)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

/* Finds the mapping that an address is in. */
static inline bool find_mapping(struct walk *walk, u64 address)
{
	u32 number = last_mapping(walk->process, address);
	const u8 *slab = number ? slab_of(walk->process) : NULL;
	if (!slab)
		return false;

	u32 at = offset_of(walk->process) + sizeof(struct process) + (number - 1) * sizeof(struct mapping);
	u64 end = u64_at(slab, at + offsetof(struct mapping, end));
	if (address >= end)
		return false;
	u64 table = u64_at(slab, at + offsetof(struct mapping, first_block));
	walk->mapping.start = u64_at(slab, at);
	walk->mapping.end = end;
	walk->mapping.text = u64_at(slab, at + offsetof(struct mapping, text));
	walk->mapping.first_block = (u32)table;
	walk->mapping.block_shift = table >> 32;
	return true;
}

static inline bool enter_mapping(struct walk *walk, u64 address)
{
	return (address >= walk->mapping.start && address < walk->mapping.end) || find_mapping(walk, address);
}

#define RULE_NO_ROW ((u64)RULE_OP_GAP << 32 | RULE_GAP_NO_ROW)

/* Gives the rule for an address so far into the text of a block. The block's shape is told in unwind/src/table.rs. */
static __always_inline u64 rule_in_block(u32 place, u32 in_block)
{
	const u8 *slab = slab_of(place);
	if (!slab)
		return RULE_NO_ROW;

	u32 block = offset_of(place), bucket = in_block >> 8, low = in_block & 255;
	u64 header = u64_at(slab, block);
	if (bucket >= (header & 0xffff))
		return RULE_NO_ROW;
	u32 rules = block + 8 * (u32)(header >> 16 & 0xffff), rows = block + 8 * (u32)(header >> 32 & 0xffff);
	u32 from = u16_at(slab, block + 8 + 2 * bucket), to = u16_at(slab, block + 10 + 2 * bucket);
	for (u32 i = 0; i < ROW_STEPS && from < to; i++) {
		u32 middle = (from + to) / 2;
		if (u16_at(slab, rows + 2 * middle) >> 8 <= low)
			from = middle + 1;
		else
			to = middle;
	}
	return u64_at(slab, rules + 8 * (u16_at(slab, rows + 2 * (from - 1)) & 255));
}

enum table_state { TABLE_THERE, TABLE_MISSING, TABLE_REFUSED };

/* Finds the rule for an address in the walk's mapping. */
static inline enum table_state find_rule(const struct walk *walk, u64 address, u64 *rule)
{
	u64 into = address - walk->mapping.start + walk->mapping.text;
	u32 shift = walk->mapping.block_shift & 31;
	u32 number = walk->mapping.first_block + (u32)(into >> shift);
	u32 *place = bpf_map_lookup_elem(&blocks, &number);

	if (!place || !*place)
		return TABLE_MISSING;
	if (*place == BLOCK_REFUSED)
		return TABLE_REFUSED;
	*rule = *place == BLOCK_EMPTY ? RULE_NO_ROW : rule_in_block(*place, (u32)into & ((1U << shift) - 1));
	return TABLE_THERE;
}

/* Guesses that lead out of what is known ask the agent this often on each CPU, after so many at once. */
#define ASK_PERIOD_NS 50000000ULL
#define ASKS_AT_ONCE 64

/* Says whether one more may ask: where fp is no frame pointer, most ticks would. */
static inline bool may_ask(struct walk *walk)
{
	u64 earliest = walk->start - ASKS_AT_ONCE * ASK_PERIOD_NS;

	if ((s64)(walk->asked - earliest) < 0)
		walk->asked = earliest;
	if (walk->asked + ASK_PERIOD_NS > walk->start)
		return false;
	walk->asked += ASK_PERIOD_NS;
	return true;
}

/*
 * Goes on by frame pointer where there is no row; believed only if it leads to code. That may be so new, as of a JIT
 * compiler, that the agent has not told of it yet.
 */
static inline bool guess(struct walk *walk)
{
	struct registers *r = &walk->registers;
	u64 fp, ip;

	if (!frame_pointer_ready(r) || !read_word(&walk->stack, &fp, r->fp) || !read_word(&walk->stack, &ip, r->fp + 8))
		return false;
	if (!enter_mapping(walk, ip - 1)) {
		walk->needs_table = is_user_address(ip) && may_ask(walk);
		return false;
	}
	return frame_pointer_step(r, fp, ip);
}

static inline u8 end_of(enum step step)
{
	switch (step) {
	case STEP_ROOT:
		return STACK_END_COMPLETE;
	case STEP_NOT_EXPRESSIBLE:
		return STACK_END_NOT_EXPRESSIBLE;
	case STEP_UNREADABLE:
		return STACK_END_UNREADABLE;
	case STEP_RETURN_ADDRESS:
		return STACK_END_RETURN_ADDRESS;
	default:
		return STACK_END_NO_ROW;
	}
}

/* Writes the frame that an address is in. Gives false when the record is full. */
static inline bool take_frame(struct scratch *out, u64 frame)
{
	u32 at = out->walk.at;

	if (at >= out->walk.limit || at >= KERNEL_FRAMES_MAX + USER_FRAMES_MAX) {
		out->walk.end = STACK_END_DEPTH;
		return false;
	}
	out->words[at] = frame;
	out->walk.at = at + 1;
	return true;
}

/* Says that the walk cannot go on before the agent has caught up. */
static inline long wait_for_agent(struct walk *walk, u8 end)
{
	walk->needs_table = true;
	walk->end = end;
	return 1;
}

/* The frame's address is in the record already; steps to its caller and writes that. */
static long walk_one(u32 depth, struct scratch **context)
{
	struct scratch *out = *context;
	struct walk *walk = &out->walk;
	struct registers *r = &walk->registers;
	u64 rule;

	if (depth % FRAMES_PER_LOOK == FRAMES_PER_LOOK - 1 &&
	    bpf_ktime_get_ns() - walk->start > settings.tick_limit) {
		walk->end = STACK_END_WORK_LIMIT;
		return 1;
	}
	if (!enter_mapping(walk, r->ip - r->is_return))
		return wait_for_agent(walk, STACK_END_NO_MAPPING);
	switch (find_rule(walk, r->ip - r->is_return, &rule)) {
	case TABLE_MISSING:
		return wait_for_agent(walk, STACK_END_NO_TABLE);
	case TABLE_REFUSED:
		walk->end = STACK_END_NO_TABLE;
		return 1;
	case TABLE_THERE:
		break;
	}

	enum step step = step_by_rule(r, &walk->stack, rule);
	u64 mark = 0;
	if (step == STEP_NO_ROW && guess(walk)) {
		step = STEP_CALLER;
		mark = FRAME_GUESSED;
	}
	if (step != STEP_CALLER) {
		walk->end = end_of(step);
		return 1;
	}
	if (!r->is_return)
		mark = FRAME_EXACT;
	return take_frame(out, r->ip | mark) ? 0 : 1;
}

#endif
