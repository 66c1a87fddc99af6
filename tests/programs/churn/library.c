/* A library that runs the call chain of code.h under a name that all such libraries share. */
volatile unsigned long sink;
#include "code.h"

__attribute__((visibility("default"))) unsigned long run(unsigned long x)
{
	return N(a)(x) + 1;
}
