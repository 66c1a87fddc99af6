/* What the programs share whose stacks are known by construction. */
#include <stdint.h>

/* A function that stays one: never inlined, cloned, or merged with its like. */
#if defined(__clang__)
#define KEPT __attribute__((noinline, used))
#else
#define KEPT __attribute__((noipa, used))
#endif

/* Written after each call, so that no call is the last thing that a function does. */
volatile uint64_t sink;
