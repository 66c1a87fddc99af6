/* Works for 20 ms and exits. */
#include <stdint.h>
#include <time.h>

volatile uint64_t sink;

static long ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int main(void)
{
	long start = ms();
	while (ms() - start < 20)
		for (int i = 0; i < 10000; i++)
			sink++;
	return 0;
}
