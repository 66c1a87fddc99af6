/* Runs entry -> work -> spin in a thread. */
#include <pthread.h>
#include "known.h"

NOINLINE void spin(void)
{
	for (int i = 0; i < 1000; i++)
		sink += 1;
}

NOINLINE void work(void)
{
	spin();
	sink++;
}

NOINLINE void *entry(void *unused)
{
	for (;;)
		work();
	return unused;
}

int main(void)
{
	pthread_t thread;

	pthread_create(&thread, 0, entry, 0);
	pthread_join(thread, 0);
}
