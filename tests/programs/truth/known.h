/* Shared by the programs whose stacks are known by construction. */
#include <stdint.h>

/* A function that stays one function: never inlined, cloned, or merged with an equal one. */
#if defined(__clang__)
#define NOINLINE __attribute__((noinline, used))
#else
#define NOINLINE __attribute__((noipa, used))
#endif

/* Written after each call, so that no call is a tail call. */
volatile uint64_t sink;
