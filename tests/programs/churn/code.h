/*
 * The call chain a -> b -> spin. Frame sizes differ for each NUMBER, which is part of every name: a
 * walk by the unwind rows of another NUMBER goes wrong. spin works for about 10 us.
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
