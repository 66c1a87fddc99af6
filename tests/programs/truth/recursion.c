/* Runs main -> 1,000 frames of recurse -> spin. */
#include "known.h"

NOINLINE void spin(void)
{
	for (int i = 0; i < 2000000; i++)
		sink += 1;
}

NOINLINE void recurse(int left)
{
	if (left)
		recurse(left - 1);
	else
		spin();
	sink++;
}

int main(void)
{
	for (;;)
		recurse(999);
}
