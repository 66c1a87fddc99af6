/*
 * Usage: libraries ROUNDS DIRECTORY COUNT
 *
 * Opens the libraries DIRECTORY/0.so to DIRECTORY/(COUNT-1).so one after the other, runs each for a
 * millisecond, and closes it: the next one is loaded at the same addresses.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void use(const char *path)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	unsigned long (*run)(unsigned long) =
		library ? (unsigned long (*)(unsigned long))dlsym(library, "run") : 0;
	volatile unsigned long x = 0;

	if (!run)
		exit(1);
	for (int i = 0; i < 100; i++)
		x = run(x) + 1;
	dlclose(library);
}

int main(int argc, char **argv)
{
	char path[4096];

	for (int round = 0; argc == 4 && round < atoi(argv[1]); round++)
		for (int number = 0; number < atoi(argv[3]); number++) {
			snprintf(path, sizeof(path), "%s/%d.so", argv[2], number);
			use(path);
		}
	return argc != 4;
}
