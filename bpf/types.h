/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The kernel's names of fixed-width integers, and bool: in BPF, and in tests on the host. */
#ifndef EVERYTICK_TYPES_H
#define EVERYTICK_TYPES_H

#include <stdbool.h>
#include <stddef.h>

typedef unsigned char u8;
typedef signed char s8;
typedef unsigned short u16;
typedef short s16;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;

#endif
