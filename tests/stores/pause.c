/* What a pod's sandbox runs: nothing. */
#include <unistd.h>

int main(void)
{
	for (;;)
		pause();
}
