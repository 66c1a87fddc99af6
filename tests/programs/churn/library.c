/* A library with the chain of code.h behind a name that all of them share. */
volatile unsigned long sink;
#include "code.h"

__attribute__((visibility("default"))) unsigned long run(unsigned long x)
{
	return N(a)(x) + 1;
}
