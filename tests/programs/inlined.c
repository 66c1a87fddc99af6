/* main -> outer, into which middle and inner are inlined. */
#include <stdint.h>

volatile uint64_t sink;

static inline __attribute__((always_inline)) void inner(uint64_t step)
{

	for (int i = 0; i < 20000000; i++) sink += step; /* line 9 */
}

static inline __attribute__((always_inline)) void middle(void)
{
	volatile uint64_t step = 1;
	inner(step); /* line 15 */
}

__attribute__((noinline)) void outer(void)
{
	middle(); /* line 20 */
	sink++;
}

int main(void)
{
	for (;;)
		outer();
}
