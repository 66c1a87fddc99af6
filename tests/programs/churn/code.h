/*
 * A chain a -> b -> spin whose frames are of other sizes for each NUMBER, which goes into every name: who walks one by the
 * rows of another gets it wrong. spin works for about a hundredth of a millisecond.
 */
#define NAME_(name, number) name##_##number
#define NAME(name, number) NAME_(name, number)
#define N(name) NAME(name, NUMBER)

extern volatile unsigned long sink;

__attribute__((noinline)) unsigned long N(spin)(unsigned long x)
{
	volatile unsigned long frame[NUMBER * 5 % 13 + 1];

	for (int i = 0; i < 5000; i++)
		x = x * 6364136223846793005UL + NUMBER;
	frame[0] = x;
	return sink = frame[0];
}

__attribute__((noinline)) unsigned long N(b)(unsigned long x)
{
	volatile unsigned long frame[NUMBER * 3 % 11 + 1];

	frame[0] = x;
	return N(spin)(x + 1) + frame[0];
}

__attribute__((noinline)) unsigned long N(a)(unsigned long x)
{
	volatile unsigned long frame[NUMBER % 7 + 1];

	frame[0] = x;
	return N(b)(x + 1) + frame[0];
}
