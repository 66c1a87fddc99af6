/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Fixed-width integers and bool under the kernel's names, in BPF and when compiled for the host in tests. */
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
