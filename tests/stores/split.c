/*
 * Spends 60, 30 and 10 % of its time in three functions. All turns are equally long and run the
 * same loop. Which function is next is random, so that no clock ticks in step with them.
 */
volatile unsigned long work;

__attribute__((noinline)) void spin(void)
{
	for (int i = 0; i < 10000; i++)
		work += i;
}

__attribute__((noinline)) void hot(void)
{
	spin();
}

__attribute__((noinline)) void warm(void)
{
	spin();
}

__attribute__((noinline)) void cold(void)
{
	spin();
}

int main(void)
{
	unsigned lot = 1;

	for (;;) {
		lot = lot * 1103515245 + 12345;
		switch (lot / 65536 % 10) {
		case 0:
			cold();
			break;
		case 1:
		case 2:
		case 3:
			warm();
			break;
		default:
			hot();
		}
	}
}
