/* A library of eight small functions that call the same leaf. */
#include "known.h"

/* Long enough that most of the time is spent here, on any CPU. */
NOINLINE void library_leaf(void)
{
	for (int i = 0; i < 8; i++)
		sink++;
}

/* clang-format off */
#define DEFINE(number) NOINLINE void library_##number(void) { library_leaf(); sink++; }
DEFINE(0) DEFINE(1) DEFINE(2) DEFINE(3) DEFINE(4) DEFINE(5) DEFINE(6) DEFINE(7)
	/* clang-format on */

	/* Entry for dlopen: enter -> work -> library_leaf. */
	NOINLINE void work(void)
{
	for (int i = 0; i < 1000; i++)
		library_leaf();
	sink++;
}

NOINLINE void enter(void)
{
	work();
	sink++;
}
