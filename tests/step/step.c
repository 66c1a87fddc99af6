/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the inline functions of the kernel's step callable from src/lib.rs, with memory that the
 * test provides. The constants and layouts of abi.h and step.h stay here: Rust has no copy of them.
 */
#include <string.h>
#include "arch/code_rule.h"
#include "frame_pointer.h"

/* A frame as src/lib.rs passes it. This layout belongs to the test. */
struct host_frame {
	u64 ip;
	u64 sp;
	u64 fp;
	u64 base;
	u64 all[REGISTERS];
	bool has_fp;
	bool has_base;
	bool has_all;
	bool has_callee;
	bool is_behind;
};

/* The steps in the order in which src/lib.rs names them. */
static const enum step steps[] = {
	STEP_CALLER,
	STEP_ROOT,
	STEP_OUTSIDE,
	STEP_NO_ROW,
	STEP_NOT_EXPRESSIBLE,
	STEP_UNREADABLE,
	STEP_BAD_RETURN_ADDRESS,
};

typedef bool (*read_function)(const void *memory, u64 address, u64 *word);

static __thread read_function reader;
static __thread const void *memory;

static inline bool read_user(void *to, u32 size, u64 address)
{
	for (u32 at = 0; at < size; at += 8) {
		u64 word;
		if (!reader(memory, address + at, &word))
			return false;
		memcpy((char *)to + at, &word, size - at < 8 ? size - at : 8);
	}
	return true;
}

static inline bool read_word(struct stack *stack, u64 *value, u64 address)
{
	(void)stack;
	return reader(memory, address, value);
}

static struct registers to_kernel(const struct host_frame *frame)
{
	struct registers r = {
		.ip = frame->ip,
		.sp = frame->sp,
		.fp = frame->fp,
		.base = frame->base,
		.known = (frame->has_fp ? KNOWN_FP : 0) | (frame->has_base ? KNOWN_BASE : 0) |
		         (frame->has_all ? KNOWN_ALL : 0) | (frame->has_callee ? KNOWN_CALLEE : 0),
		.is_behind = frame->is_behind,
	};

	__builtin_memcpy(r.all, frame->all, sizeof(r.all));
	return r;
}

static void from_kernel(struct host_frame *frame, const struct registers *r)
{
	*frame = (struct host_frame){
		.ip = r->ip,
		.sp = r->sp,
		.fp = r->fp,
		.base = r->base,
		.has_fp = r->known & KNOWN_FP,
		.has_base = r->known & KNOWN_BASE,
		.has_all = r->known & KNOWN_ALL,
		.has_callee = r->known & KNOWN_CALLEE,
		.is_behind = r->is_behind,
	};
	__builtin_memcpy(frame->all, r->all, sizeof(frame->all));
}

u32 host_step(struct host_frame *frame, u64 rule, read_function read, const void *from)
{
	struct registers r = to_kernel(frame);
	u32 number = 0;

	reader = read;
	memory = from;
	enum step step = step_by_rule(&r, NULL, rule);
	from_kernel(frame, &r);
	while (number < sizeof(steps) / sizeof(steps[0]) && steps[number] != step)
		number++;
	return number;
}

u64 host_rule_by_code(u64 ip, bool is_behind, read_function read, const void *from)
{
	struct epilogue epilogue;

	reader = read;
	memory = from;
	return rule_by_code(&epilogue, ip, is_behind);
}

bool host_frame_pointer_ready(const struct host_frame *frame)
{
	struct registers r = to_kernel(frame);

	return frame_pointer_ready(&r);
}

bool host_frame_pointer_step(struct host_frame *frame, u64 saved_fp, u64 return_address)
{
	struct registers r = to_kernel(frame);
	bool is_done = frame_pointer_step(&r, saved_fp, return_address);

	from_kernel(frame, &r);
	return is_done;
}
