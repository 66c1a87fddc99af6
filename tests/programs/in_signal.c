/*
 * Runs main -> a -> raise, whose handler spins forever: the stack leads through the signal frame
 * that the kernel built.
 */
#include <signal.h>
#include <stdint.h>

volatile uint64_t sink;

__attribute__((noinline)) void spin(void)
{
	for (;;)
		sink++;
}

void handler(int signal)
{
	spin();
	sink += signal;
}

__attribute__((noinline)) void a(void)
{
	raise(SIGUSR1);
	sink++;
}

int main(void)
{
	signal(SIGUSR1, handler);
	a();
	return 0;
}
