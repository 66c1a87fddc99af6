/*
 * A program whose main thread exits while another one runs on: procfs then shows neither its
 * executable nor its cgroup under its pid.
 */
#include <pthread.h>
#include <stddef.h>

static volatile unsigned long sum;

static void *run(void *unused)
{
	(void)unused;
	for (;;)
		sum++;
	return NULL;
}

int main(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, run, NULL);
	pthread_exit(NULL);
}
