/*
 * Runs main -> aligned32 -> allocates -> both -> many -> aligned64 -> spin: frames that are aligned
 * more strictly than the stack, frames of a size known only at run time, and frames that are both.
 */
#include <alloca.h>
#include <string.h>
#include "known.h"

NOINLINE void use(volatile void *data)
{
	*(volatile uint64_t *)data = (uintptr_t)data & 63;
}

NOINLINE void spin(void)
{
	for (int i = 0; i < 1000; i++)
		sink += 1;
}

NOINLINE void aligned64(void)
{
	volatile uint64_t data[8] __attribute__((aligned(64)));

	use(data);
	spin();
	sink += data[0];
}

/* Has stack arguments, which it can only reach from where its caller's frame ends. */
NOINLINE void many(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f,
                   uint64_t g, uint64_t h)
{
	volatile uint64_t data[4] __attribute__((aligned(32)));
	volatile char *more = alloca(g);

	use(data);
	use(more);
	aligned64();
	sink += data[0] + a + b + c + d + e + f + g + h;
}

NOINLINE void both(int bytes)
{
	volatile uint64_t data[4] __attribute__((aligned(32)));
	volatile char *more = alloca(bytes);

	use(data);
	use(more);
	many(1, 2, 3, 4, 5, 6, bytes, 8);
	sink += data[0] + more[0];
}

NOINLINE void allocates(int bytes)
{
	volatile char *data = alloca(bytes);

	use(data);
	both(bytes + 16);
	sink += data[0];
}

NOINLINE void aligned32(int bytes)
{
	volatile uint64_t data[4] __attribute__((aligned(32)));

	use(data);
	allocates(bytes);
	sink += data[0];
}

int main(void)
{
	for (int i = 0;; i++)
		aligned32(64 + i % 64 * 8);
}
