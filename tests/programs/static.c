/*
 * Runs main -> middle -> leaf for ever. The functions are static: a stripped copy has no symbol of
 * them.
 */
volatile unsigned long sum;

static __attribute__((noinline)) void leaf(void)
{
	for (int i = 0; i < 100000; i++)
		sum += i; /* line 10 */
}

static __attribute__((noinline)) void middle(void)
{
	leaf();
	sum++;
}

int main(void)
{
	for (;;)
		middle();
}
