/* Runs main -> reads_clock -> clock_gettime of the C library -> the same of the kernel's vDSO. */
#include <time.h>
#include "known.h"

NOINLINE void reads_clock(void)
{
	struct timespec now;

	for (int i = 0; i < 1000; i++)
		clock_gettime(CLOCK_MONOTONIC, &now);
	sink += now.tv_nsec;
}

int main(void)
{
	for (;;)
		reads_clock();
}
