/* Starts a thread `late` after half a second, which works in late_work while main sleeps. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

volatile uint64_t sink;

__attribute__((noinline)) void late_work(void)
{
	volatile uint64_t step = 1;
	for (;;)
		sink += step;
}

static void *late(void *unused)
{
	pthread_setname_np(pthread_self(), "late");
	late_work();
	return unused;
}

int main(void)
{
	pthread_t thread;
	usleep(500000);
	pthread_create(&thread, 0, late, 0);
	for (;;)
		pause();
}
