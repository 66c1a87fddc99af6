/* Recursion, callbacks, variable arrays, structures by value and a jump table, for tcc. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct wide {
	long values[20];
};
volatile long sink;

static struct wide mixed(struct wide from, int step)
{
	for (int index = 0; index < 20; index++)
		from.values[index] = from.values[index] * 31 + step;
	return from;
}

static int compare(const void *left, const void *right)
{
	return *(const int *)left - *(const int *)right;
}

static int chosen(int step)
{
	switch (step % 6) {
	case 0:
		return step * 3;
	case 1:
		return step ^ 77;
	case 2:
		return step >> 1;
	case 3:
		return -step;
	case 4:
		return step % 7;
	default:
		return step;
	}
}

static long sorted(int count)
{
	int numbers[count];
	for (int index = 0; index < count; index++)
		numbers[index] = chosen(index * 7919 % count);
	qsort(numbers, count, sizeof numbers[0], compare);
	return numbers[count / 2];
}

static long walk(int depth)
{
	char text[64];
	struct wide some = { { depth } };
	if (!depth)
		return sorted(300);
	some = mixed(some, depth);
	snprintf(text, sizeof text, "%ld %d", some.values[3], depth);
	return walk(depth - 1) + strlen(text);
}

int main(void)
{
	for (;;)
		sink += walk(9);
}
