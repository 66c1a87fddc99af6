/*
 * Runs main -> a -> b -> c -> spin forever, as chain.c does. No rows can be derived from its code:
 * a path of each function, which is never taken, returns to a word that is no return address.
 */
#include <stdint.h>

#define NEVER_INLINE __attribute__((noinline))
#define UNDERIVABLE() __asm__ volatile("test %%rsp, %%rsp; jnz 1f; push %%rax; ret; 1:" ::: "cc")

volatile uint64_t sink;

NEVER_INLINE void spin(void)
{
	volatile uint64_t step = 1;

	UNDERIVABLE();
	for (int i = 0; i < 20000000; i++)
		sink += step;
}

NEVER_INLINE void c(void)
{
	UNDERIVABLE();
	spin();
	sink++;
}

NEVER_INLINE void b(void)
{
	UNDERIVABLE();
	c();
	sink++;
}

NEVER_INLINE void a(void)
{
	UNDERIVABLE();
	b();
	sink++;
}

int main(void)
{
	UNDERIVABLE();
	for (;;)
		a();
}
