/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Walks the user stack of the current thread into a record: find the mapping, find the unwind rule,
 * step to the caller, repeat. Without a row, the code at ip may be an epilogue or a prologue, which
 * is a rule; else a frame pointer is accepted if it leads to code, and that frame is marked as
 * guessed.
 */
#ifndef EVERYTICK_WALK_H
#define EVERYTICK_WALK_H

#include <asm/ptrace.h>
#include <bpf/bpf_helpers.h>
#include "arch/code_rule.h"
#include "frame_pointer.h"
#include "rate.h"
#include "runtimes/anchors.h"
#include "tables.h"

/*
 * Frames between two clock reads: one read takes as long as one frame. The tail-call
 * unwinder walks as many frames per tail call.
 */
#define FRAMES_PER_CLOCK_READ 16

/* Bytes of the stack that are read at once: a dozen frames. */
#define STACK_CACHE_BYTES 1024

/*
 * A cached piece of the user stack. Reading one word of user memory takes as long as the rest of a
 * frame's walk, and reading a few hundred bytes takes no longer. A piece never reaches into another
 * page, which may not exist.
 */
struct stack {
	u64 start;
	u64 bytes;
	u64 words[STACK_CACHE_BYTES / sizeof(u64)];
};

/*
 * The state of a walk between two frames. It lives in a map: on the stack it would be too large,
 * and the verifier would track each value that a path leaves in it.
 */
struct walk {
	struct registers registers;
	struct stack stack;
	struct mapping_entry mapping; /* of the last frame: the next frame is often there too */
	struct epilogue epilogue;
	u64 tick_start;
	u64 last_request; /* rate limit of requests to the agent */
	u64 anchor;       /* of an interpreter: the first above sp, or NO_ANCHOR */
	u32 process;      /* slot of its struct process_header, 0 if not published */
	u32 runtime;      /* of the process, enum runtime_kind */
	u32 frames;       /* taken so far, kernel frames included */
	u32 frames_limit;
	u8 end;           /* enum stack_end */
	bool needs_agent; /* the agent has to publish mappings or rows before the walk continues */
	bool asks_agent;  /* the same, at a limited rate: see may_request() */
	bool has_all_mappings;     /* of the process, in `process` */
	bool has_interpreter_list; /* to deliver with the sample */
};

/* A sample while it is written: the ring takes it in one piece. */
struct scratch {
	struct walk walk;    /* not part of the sample */
	struct pt_regs user; /* not part of the sample: the thread's registers in user mode */
	struct sample sample;
	u64 frames[KERNEL_FRAMES_MAX + USER_FRAMES_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* Returns the walk of this CPU's tick. */
static inline struct walk *current_walk(void)
{
	u32 zero = 0;
	struct scratch *own = bpf_map_lookup_elem(&scratch, &zero);

	return own ? &own->walk : NULL;
}

/*
 * Finds what is published of the process of this CPU's tick. Global, so that the native walk, which
 * the verifier checks after this, is not checked once for each thing that this leaves on the stack.
 */
__noinline int find_published_mappings(u32 pid)
{
	struct walk *walk = current_walk();

	if (walk)
		walk->process = published_mappings(pid, &walk->has_all_mappings, &walk->runtime);
	return 0;
}

static inline bool read_user(void *to, u32 size, u64 address)
{
	return !bpf_probe_read_user(to, size, (const void *)address);
}

/* Caches the piece of the stack that starts at an address. */
static inline void cache_stack(struct stack *stack, u64 address)
{
	u32 rest = PAGE_BYTES - (address & (PAGE_BYTES - 1));
	u32 bytes = rest < STACK_CACHE_BYTES ? rest : STACK_CACHE_BYTES;

	stack->start = address;
	stack->bytes = read_user(stack->words, bytes, address) ? bytes : 0;
}

static inline bool read_word(struct stack *stack, u64 *value, u64 address)
{
	u64 offset = address - stack->start;

	if (offset + sizeof(u64) > stack->bytes || offset > STACK_CACHE_BYTES - sizeof(u64)) {
		cache_stack(stack, address);
		if (stack->bytes < sizeof(u64)) /* the word straddles two pages */
			return read_user(value, sizeof(*value), address);
		offset = 0;
	}
	*value = *(u64 *)((u8 *)stack->words + offset);
	return true;
}

/* Makes the mapping that contains an address the walk's mapping; returns false if there is none. */
static inline bool enter_mapping(struct walk *walk, u64 address)
{
	return (address >= walk->mapping.start && address < walk->mapping.end) ||
	       find_mapping(walk->process, address, &walk->mapping);
}

/* Interval at which steps that lead out of known mappings ask the agent, on each CPU. */
#define REQUEST_PERIOD_NS 50000000ULL
/* Requests that a CPU may send at once before that interval applies: those of 50 new processes. */
#define REQUEST_BURST 256

/*
 * Limits the rate of requests: where fp is no frame pointer, or a row is wrong for the code, most
 * ticks would send one.
 */
static inline bool may_request(struct walk *walk)
{
	return within_rate(&walk->last_request, walk->tick_start, REQUEST_BURST, REQUEST_PERIOD_NS);
}

/*
 * Steps by frame pointer where there is no row. The caller is accepted only if it is in a mapping.
 * That mapping may be unpublished yet, as for fresh JIT code; then the agent is asked.
 */
static inline bool guess_caller(struct walk *walk)
{
	struct registers *r = &walk->registers;
	u64 fp, ip;

	if (!frame_pointer_ready(r) || !read_word(&walk->stack, &fp, r->fp) ||
	    !read_word(&walk->stack, &ip, r->fp + 8))
		return false;
	if (!enter_mapping(walk, ip - 1)) {
		walk->asks_agent = is_user_address(ip);
		return false;
	}
	return frame_pointer_step(r, fp, ip);
}

static inline u8 stack_end_of(enum step step)
{
	switch (step) {
	case STEP_ROOT:
	case STEP_OUTSIDE:
		return STACK_END_COMPLETE;
	case STEP_NOT_EXPRESSIBLE:
		return STACK_END_NOT_EXPRESSIBLE;
	case STEP_UNREADABLE:
		return STACK_END_UNREADABLE;
	case STEP_BAD_RETURN_ADDRESS:
		return STACK_END_BAD_RETURN_ADDRESS;
	default:
		return STACK_END_NO_ROW;
	}
}

/* Appends a frame to the record; returns false if the record is full. */
static inline bool push_frame(struct scratch *scratch, u64 frame)
{
	u32 frames = scratch->walk.frames;

	if (frames >= scratch->walk.frames_limit || frames >= KERNEL_FRAMES_MAX + USER_FRAMES_MAX) {
		scratch->walk.end = STACK_END_DEPTH;
		return false;
	}
	scratch->frames[frames] = frame;
	scratch->walk.frames = frames + 1;
	return true;
}

/*
 * Corrects the frame that was pushed last, if its address was put on the stack by hand. The kernel
 * makes signal handlers return to the first instruction of the code that ends them, and nothing
 * ever was in a frame outside of the root. A frame that was interrupted has its own address: that
 * code may be in its system call.
 */
static inline void correct_last_frame(struct scratch *scratch, u64 rule)
{
	u32 last = scratch->walk.frames - 1;

	if (RULE_OP(rule) == RULE_OP_OUTSIDE)
		scratch->walk.frames = last;
	else if (RULE_OP(rule) == RULE_OP_SIGNAL && !(scratch->walk.registers.known & KNOWN_ALL) &&
	         last < KERNEL_FRAMES_MAX + USER_FRAMES_MAX)
		scratch->frames[last] |= FRAME_EXACT;
}

/* Appends the current frame to the record; returns false if the record is full. */
static inline bool push_current(struct scratch *scratch, u64 flags)
{
	const struct registers *r = &scratch->walk.registers;
	u64 address = r->ip & ~(FRAME_EXACT | FRAME_GUESSED);

	return push_frame(scratch, address | flags | (r->is_behind ? 0 : FRAME_EXACT));
}

/* Results of walk_one(), as bpf_loop takes them. */
#define CONTINUE 0
#define STOP 1

/* Ends the walk; the agent continues it once it has published what is missing. */
static inline long stop_for_agent(struct walk *walk, u8 end)
{
	walk->needs_agent = true;
	walk->end = end;
	return STOP;
}

/*
 * Ends the walk at an address in no published mapping. Code that is executed there has a mapping,
 * which may be too new to be published; a step that has led there may have gone astray.
 */
static inline long stop_outside_mappings(struct walk *walk)
{
	walk->needs_agent = !walk->registers.is_behind || !walk->has_all_mappings;
	walk->asks_agent = true;
	walk->end = STACK_END_NO_MAPPING;
	return STOP;
}

/*
 * Returns the rule that the code at ip proves, 0 if there is none. Global, so that the verifier
 * checks the loop once and not in every frame of every path.
 */
__noinline u64 find_rule_by_code(u64 ip, u32 is_behind)
{
	u32 zero = 0;
	struct scratch *memory = bpf_map_lookup_elem(&scratch, &zero);

	return memory ? rule_by_code(&memory->walk.epilogue, ip, is_behind) : 0;
}

/* Returns whether a row may be derived later. */
static inline bool is_pending(u64 rule)
{
	return RULE_OP(rule) == RULE_OP_GAP && RULE_OFFSET(rule) == RULE_GAP_PENDING;
}

/* Finds the rule of the current frame; CONTINUE if there is one. */
static inline long find_frame_rule(struct walk *walk, u64 *rule)
{
	u64 address = lookup_address(&walk->registers);

	if (!enter_mapping(walk, address))
		return stop_outside_mappings(walk);
	switch (find_rule(&walk->mapping, address, rule)) {
	case TABLE_MISSING:
		return stop_for_agent(walk, STACK_END_NO_TABLE);
	case TABLE_REFUSED:
		walk->end = STACK_END_NO_TABLE;
		return STOP;
	case TABLE_LOADED:
		break;
	}
	if (is_pending(*rule))
		return stop_for_agent(walk, STACK_END_NO_TABLE);
	if (*rule == RULE_NO_ROW) {
		u64 by_code = find_rule_by_code(walk->registers.ip, walk->registers.is_behind);
		*rule = by_code ? by_code : *rule;
	}
	return CONTINUE;
}

/* Steps from the frame that was pushed last to its caller, and pushes that. */
static long walk_one(u32 depth, struct scratch **context)
{
	struct scratch *scratch = *context;
	struct walk *walk = &scratch->walk;
	struct registers *r = &walk->registers;
	u64 rule, flag = 0;

	if (depth % FRAMES_PER_CLOCK_READ == FRAMES_PER_CLOCK_READ - 1 &&
	    bpf_ktime_get_ns() - walk->tick_start > config.tick_limit) {
		walk->end = STACK_END_TIME_LIMIT;
		return STOP;
	}
	if (find_frame_rule(walk, &rule) == STOP)
		return STOP;

	correct_last_frame(scratch, rule);
	enum step step = step_by_rule(r, &walk->stack, rule);
	if (step == STEP_NO_ROW && guess_caller(walk)) {
		step = STEP_CALLER;
		flag = FRAME_GUESSED;
	}
	if (step != STEP_CALLER) {
		walk->end = stack_end_of(step);
		return STOP;
	}
	if (config.runtimes && r->sp > walk->anchor)
		walk->anchor = pass_anchor(r->sp, walk->frames - 1 - scratch->sample.kernel_frames);
	return push_current(scratch, flag) ? CONTINUE : STOP;
}

#endif
