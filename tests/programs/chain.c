/* The chain main -> a -> b -> c -> spin, for ever. Built with frame pointers, which gcc
 * leaves out of a function that has nothing on its stack: so spin has. */
#include <stdint.h>

volatile uint64_t sink;

__attribute__((noinline)) void spin(void)
{
	volatile uint64_t step = 1;

	for (int i = 0; i < 20000000; i++) sink += step; /* line 11 */
}

__attribute__((noinline)) void c(void)
{
	spin(); /* line 16 */
	sink++;
}

__attribute__((noinline)) void b(void)
{
	c(); /* line 22 */
	sink++;
}

__attribute__((noinline)) void a(void)
{
	b(); /* line 28 */
	sink++;
}

int main(void)
{
	for (;;)
		a(); /* line 35 */
}
