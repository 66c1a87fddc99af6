/* SPDX-License-Identifier: Apache-2.0 */
/* Gives the inline functions of the kernel's step a name that can be called, and memory that can be made up. */
#include "frame_pointer.h"

typedef bool (*read_function)(const void *memory, u64 address, u64 *word);

static __thread read_function reader;
static __thread const void *memory;

static inline bool read_user(void *to, u32 size, u64 address)
{
	for (u32 at = 0; at < size; at += 8) {
		if (!reader(memory, address + at, (u64 *)((char *)to + at)))
			return false;
	}
	return true;
}

static inline bool read_word(struct stack *stack, u64 *value, u64 address)
{
	(void)stack;
	return reader(memory, address, value);
}

u32 host_step(struct registers *r, u64 rule, read_function read, const void *from)
{
	reader = read;
	memory = from;
	return step_by_rule(r, NULL, rule);
}

bool host_frame_pointer_ready(const struct registers *r)
{
	return frame_pointer_ready(r);
}

bool host_frame_pointer_step(struct registers *r, u64 saved_fp, u64 return_address)
{
	return frame_pointer_step(r, saved_fp, return_address);
}
