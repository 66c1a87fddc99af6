/* main -> a -> raise, and the handler spins for ever: the stack goes through the frame that the kernel made. */
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
