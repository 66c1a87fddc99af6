/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Reads a pointer that the current thread keeps for itself: a thread-local variable, or a value of
 * pthread_setspecific. Tests compile this file for the host.
 *
 * Sources: "ELF Handling For Thread-Local Storage" (Drepper), variant 2; glibc nptl/descr.h; musl
 * src/internal/pthread_impl.h.
 */
#ifndef EVERYTICK_RUNTIMES_THREAD_VALUE_H
#define EVERYTICK_RUNTIMES_THREAD_VALUE_H

#include "interpreter.h"

/* Keys of a process: PTHREAD_KEYS_MAX of glibc; musl has fewer. */
#define THREAD_KEYS_MAX 1024
/* glibc keeps values in blocks of this many pairs {sequence, value}. */
#define THREAD_KEYS_PER_BLOCK 32

static inline bool read_pointer(u64 *value, u64 address)
{
	return read_user(value, sizeof(*value), address);
}

/* Returns the address of a variable in the block of a module, 0 if there is none. */
static inline u64 dynamic_address(const struct interpreter *in, const struct thread_value *value)
{
	u64 slot[2], blocks, block;
	u64 stride = in->process.libc == LIBC_MUSL ? 8 : 16;

	if (!read_user(slot, sizeof(slot), value->address) ||
	    !read_pointer(&blocks, in->thread_pointer + 8) ||
	    !read_pointer(&block, blocks + slot[0] * stride) || !is_user_address(block))
		return 0;
	return block + slot[1] + (s64)value->offset;
}

/* Returns the address of the value of a key, 0 if there is none. */
static inline u64 key_address(const struct interpreter *in, const struct thread_value *value)
{
	u64 values;
	u32 key;

	if (!read_user(&key, sizeof(key), value->address) || key >= THREAD_KEYS_MAX)
		return 0;
	u64 block = in->process.libc == LIBC_MUSL ? 0 : key / THREAD_KEYS_PER_BLOCK;
	if (!read_pointer(&values, in->thread_pointer + in->process.specific + 8 * block) ||
	    !is_user_address(values))
		return 0;
	return in->process.libc == LIBC_MUSL ? values + 8 * (u64)key
	                                     : values + 16 * (u64)(key % THREAD_KEYS_PER_BLOCK) + 8;
}

/* Returns the value, 0 if the thread has none. */
static inline u64 read_thread_value(const struct interpreter *in, const struct thread_value *value)
{
	u64 address = 0, result = 0;

	switch (value->kind) {
	case THREAD_VALUE_STATIC:
		address = in->thread_pointer + (s64)value->offset;
		break;
	case THREAD_VALUE_DYNAMIC:
		address = dynamic_address(in, value);
		break;
	case THREAD_VALUE_KEY:
		address = key_address(in, value);
		break;
	}
	return address && read_pointer(&result, address) ? result : 0;
}

#endif
