/* Unlinks its own executable, works in brief_work for 300 ms, and exits with status 3. */
#include <stdint.h>
#include <time.h>
#include <unistd.h>

volatile uint64_t sink;

static int is_over(const struct timespec *start)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000 > 300;
}

__attribute__((noinline)) void brief_work(void)
{
	volatile uint64_t step = 1;
	for (int i = 0; i < 1000000; i++)
		sink += step;
}

int main(int argc, char **argv)
{
	struct timespec start;
	unlink(argv[0]);
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (!is_over(&start))
		brief_work();
	return 3;
}
