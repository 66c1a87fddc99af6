/* Usage: names. Spins in NAME, which works as VALUE says, for SECONDS of CPU time. */
#include <time.h>

#ifndef SECONDS
#define SECONDS 0.4
#endif

volatile unsigned long sum;

__attribute__((noinline)) void NAME(void)
{
	for (unsigned long i = 0; i < 1000000; i++)
		sum += i * VALUE;
}

int main(void)
{
	struct timespec t = { 0 };

	while (t.tv_sec + t.tv_nsec * 1e-9 < SECONDS) {
		NAME();
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	}
	return 0;
}
