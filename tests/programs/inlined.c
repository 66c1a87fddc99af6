/* Runs main -> outer, into which middle and inner are inlined. The tests know the marked lines. */
#include <stdint.h>

volatile uint64_t sink;

static inline __attribute__((always_inline)) void inner(uint64_t step)
{
	/* clang-format off */
	for (int i = 0; i < 20000000; i++) sink += step; /* line 9 */
	/* clang-format on */
}

static inline __attribute__((always_inline)) void middle(void)
{
	volatile uint64_t step = 1;
	inner(step); /* line 16 */
}

__attribute__((noinline)) void outer(void)
{
	middle(); /* line 21 */
	sink++;
}

int main(void)
{
	for (;;)
		outer();
}
