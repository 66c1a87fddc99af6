// Runs main -> run -> catcher -> a -> 500 frames of deep -> b -> thrower, which throws to catcher
// through a frame with a destructor. There are so many frames because at the end the exception
// unwinder overwrites the stack that it runs on: for a shorter part of the time with more frames.
#include "known.h"

struct Guard {
	NOINLINE ~Guard()
	{
		sink += 1;
	}
};

NOINLINE void thrower(int value)
{
	sink += 1;
	if (value >= 0)
		throw value;
	sink += 1;
}

NOINLINE void b(int value)
{
	Guard guard;
	thrower(value);
	sink += 1;
}

NOINLINE void deep(int left, int value)
{
	if (left)
		deep(left - 1, value);
	else
		b(value);
	sink += 1;
}

NOINLINE void a(int value)
{
	deep(499, value);
	sink += 1;
}

NOINLINE void catcher(int value)
{
	try {
		a(value);
	} catch (int caught) {
		sink += caught;
	}
}

NOINLINE void run(int value)
{
	catcher(value);
	sink += 1;
}

int main()
{
	for (int i = 0;; i++)
		run(i & 0xff);
}
