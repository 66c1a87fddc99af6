/*
 * Runs main -> a -> b -> c -> spin forever. gcc omits the frame pointer of a function without
 * variables on its stack, so spin has one. The tests know the marked lines.
 */
#include <stdint.h>

volatile uint64_t sink;

__attribute__((noinline)) void spin(void)
{
	volatile uint64_t step = 1;
	/* clang-format off */
	for (int i = 0; i < 20000000; i++) sink += step; /* line 13 */
	/* clang-format on */
}

__attribute__((noinline)) void c(void)
{
	spin(); /* line 19 */
	sink++;
}

__attribute__((noinline)) void b(void)
{
	c(); /* line 25 */
	sink++;
}

__attribute__((noinline)) void a(void)
{
	b(); /* line 31 */
	sink++;
}

int main(void)
{
	for (;;)
		a(); /* line 38 */
}
