/* Recurses as deep as its argument says, and spins there forever. */
#include <stdint.h>
#include <stdlib.h>

volatile uint64_t sink;

__attribute__((noinline)) void spin(void)
{
	volatile uint64_t step = 1;

	for (;;)
		sink += step;
}

__attribute__((noinline)) void descend(int left)
{
	if (left > 1)
		descend(left - 1);
	else
		spin();
	sink++;
}

int main(int count, char **arguments)
{
	descend(count > 1 ? atoi(arguments[1]) : 1);
}
