/* Runs main -> tries -> a -> jumper, which jumps back to tries. */
#include <setjmp.h>
#include "known.h"

static jmp_buf back;

NOINLINE void jumper(int value)
{
	for (int i = 0; i < 1000; i++)
		sink += 1;
	longjmp(back, value + 1);
}

NOINLINE void a(int value)
{
	jumper(value);
	sink++;
}

NOINLINE void tries(int value)
{
	if (setjmp(back) == 0)
		a(value);
	sink++;
}

int main(void)
{
	for (;;)
		tries(1);
}
