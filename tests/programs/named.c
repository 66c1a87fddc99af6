/* Takes its first argument as its name, and runs main -> spin forever. */
#include <sys/prctl.h>

volatile unsigned long sum;

__attribute__((noinline)) static void spin(void)
{
	for (int i = 0; i < 20000000; i++)
		sum++;
}

int main(int argc, char **argv)
{
	if (argc > 1)
		prctl(PR_SET_NAME, argv[1]);
	for (;;)
		spin();
}
