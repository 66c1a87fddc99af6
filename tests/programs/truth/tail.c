/* Runs main -> caller -> first, which jumps to second, which jumps to last: always one frame. */
#include "known.h"

NOINLINE void last(int rounds)
{
	for (int i = 0; i < rounds; i++)
		sink += 1;
}

NOINLINE void second(int rounds)
{
	volatile uint64_t data[30];

	data[rounds % 30] = rounds;
	for (int i = 0; i < rounds; i++)
		sink += data[rounds % 30];
	last(rounds);
}

NOINLINE void first(int rounds)
{
	for (int i = 0; i < rounds; i++)
		sink += 1;
	second(rounds);
}

NOINLINE void caller(void)
{
	first(200);
	sink++;
}

int main(void)
{
	for (;;)
		caller();
}
