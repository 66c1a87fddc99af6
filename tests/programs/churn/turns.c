/*
 * Usage: turns TURNS OTHER SELF
 *
 * Works for a millisecond and executes OTHER, which does the same with SELF, TURNS times in all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

volatile unsigned long sink;
#include "code.h"

int main(int argc, char **argv)
{
	int turns = argc == 4 ? atoi(argv[1]) : 0;
	char left[16];

	for (int i = 0; i < 100; i++)
		sink = N(a)(sink) + 1;
	if (turns <= 1)
		return argc != 4;
	snprintf(left, sizeof(left), "%d", turns - 1);
	execl(argv[2], argv[2], left, argv[3], argv[2], NULL);
	return 1;
}
