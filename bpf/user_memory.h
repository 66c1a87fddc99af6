/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Addresses of user memory, and reading it. Tests compile this file for the host. */
#ifndef EVERYTICK_USER_MEMORY_H
#define EVERYTICK_USER_MEMORY_H

#include "types.h"

/* User code lies above the first page, in the lower canonical half (of 5-level page tables). */
enum user_address {
	USER_ADDRESS_MIN = 4096,
	USER_ADDRESS_BITS = 56,
};

static inline bool is_user_address(u64 address)
{
	return address >= USER_ADDRESS_MIN && address < 1ULL << USER_ADDRESS_BITS;
}

/* Reads user memory; returns false if it cannot. The including file defines it. */
static inline bool read_user(void *to, u32 size, u64 address);

#endif
