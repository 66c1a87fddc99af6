/*
 * Runs main -> a -> b -> c -> one of three leaves, with a new call every microsecond: ticks
 * also hit prologues and epilogues. With an argument it ends after so many thousand rounds.
 */
#include <stdlib.h>
#include "known.h"

/* Uses no stack. */
NOINLINE void bare(void)
{
	for (int i = 0; i < 400; i++)
		sink += 1;
}

/* Has its data in the red zone, below sp. */
NOINLINE void red_zone(void)
{
	volatile uint64_t data[12];

	for (int i = 0; i < 200; i++)
		data[i % 12] = i;
	sink += data[3];
}

/* Saves every callee-saved register. */
NOINLINE void saves_all(void)
{
	__asm__ volatile("" ::: "rbx", "r12", "r13", "r14", "r15", "memory");
	for (int i = 0; i < 200; i++)
		sink += 1;
	__asm__ volatile("" ::: "rbx", "r12", "r13", "r14", "r15", "memory");
}

NOINLINE void c(int which)
{
	volatile uint64_t data[40]; /* more than the red zone holds */

	data[which] = which;
	if (which == 0)
		bare();
	else if (which == 1)
		red_zone();
	else
		saves_all();
	sink += data[which];
}

NOINLINE void b(int first)
{
	for (int i = 0; i < 3; i++)
		c((first + i) % 3);
	sink++;
}

NOINLINE void a(int first)
{
	b(first);
	sink++;
}

int main(int argc, char **argv)
{
	uint64_t rounds = argc > 1 ? strtoull(argv[1], 0, 10) * 1000 : UINT64_MAX;

	for (uint64_t i = 0; i < rounds; i++)
		a(i % 3);
}
