/*
 * Runs main -> work -> spin, interrupted a thousand times a second by two timers: SIGALRM is
 * handled on the thread's stack (handler -> handled), SIGVTALRM on a separate stack (alternate ->
 * handled).
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include "known.h"

NOINLINE void handled(void)
{
	for (int i = 0; i < 100000; i++)
		sink += 1;
}

NOINLINE void handler(int signal)
{
	handled();
	sink += signal;
}

NOINLINE void alternate(int signal)
{
	handled();
	sink += signal;
}

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

static void handle(int signal, void (*how)(int), int flags)
{
	struct sigaction action = { .sa_handler = how, .sa_flags = flags | SA_RESTART };

	sigfillset(&action.sa_mask);
	sigaction(signal, &action, 0);
}

int main(void)
{
	stack_t stack = { .ss_sp = malloc(65536), .ss_size = 65536 };
	struct itimerval often = { { 0, 1900 }, { 0, 1900 } };

	sigaltstack(&stack, 0);
	handle(SIGALRM, handler, 0);
	handle(SIGVTALRM, alternate, SA_ONSTACK);
	setitimer(ITIMER_REAL, &often, 0);
	setitimer(ITIMER_VIRTUAL, &often, 0);
	for (;;)
		work();
}
