/*
 * Runs main -> calls -> enter -> work -> library_leaf; the last three are in a library that dlopen
 * loaded.
 */
#include <dlfcn.h>
#include "known.h"

static void (*enter)(void);

NOINLINE void calls(void)
{
	enter();
	sink++;
}

int main(int argc, char **argv)
{
	void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : 0;

	enter = library ? (void (*)(void))dlsym(library, "enter") : 0;
	while (enter)
		calls();
	return 1;
}
