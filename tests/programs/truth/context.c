/*
 * Runs main -> drives, which switches by swapcontext to a separate stack for body -> work -> spin,
 * and back.
 */
#include <stdlib.h>
#include <ucontext.h>
#include "known.h"

static ucontext_t outside, inside;

NOINLINE void spin(void)
{
	for (int i = 0; i < 10000; i++)
		sink += 1;
}

NOINLINE void work(void)
{
	spin();
	sink++;
}

NOINLINE void body(void)
{
	for (;;) {
		work();
		swapcontext(&inside, &outside);
	}
}

NOINLINE void drives(void)
{
	swapcontext(&outside, &inside);
	sink++;
}

int main(void)
{
	getcontext(&inside);
	inside.uc_stack.ss_sp = malloc(65536);
	inside.uc_stack.ss_size = 65536;
	makecontext(&inside, body, 0);
	for (;;)
		drives();
}
