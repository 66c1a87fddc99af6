/* Functions of every shape that matters to a derivation of unwind rows: tests/derived.rs. */
#include <alloca.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEVER_INLINE __attribute__((noinline))

volatile long sink;

/* A compiler sees that this returns for some arguments only. */
NEVER_INLINE static void report(int fatal, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	if (fatal)
		exit(fatal);
}

/* It knows that this never does. */
NEVER_INLINE static void __attribute__((noreturn)) fail(const char *why)
{
	report(1, "failed: %s\n", why);
	abort();
}

NEVER_INLINE long leaf(long a)
{
	return a * 7 + sink;
}

NEVER_INLINE long by_switch(int choice, long a)
{
	switch (choice) {
	case 1:
		return leaf(a) + 1;
	case 2:
		sink += leaf(a + 2);
		break;
	case 3:
		a = leaf(leaf(a));
		break;
	case 4:
		fail("four");
	case 5:
		return a / 3;
	case 6:
		sink -= a;
		break;
	case 7:
		a += by_switch(choice - 1, a);
		break;
	default:
		report(0, "%d\n", choice);
	}
	return a + leaf(choice);
}

NEVER_INLINE long variable_size(size_t size, int fill)
{
	char *bytes = alloca(size);

	memset(bytes, fill, size);
	for (size_t i = 0; i < size; i++)
		sink += bytes[i];
	return leaf(bytes[size / 2]);
}

NEVER_INLINE long large_frame(int fill)
{
	char bytes[70000];

	memset(bytes, fill, sizeof(bytes));
	return leaf(bytes[fill & 1023]) + bytes[60000];
}

NEVER_INLINE long realigned(long a)
{
	long words[8] __attribute__((aligned(64)));

	for (int i = 0; i < 8; i++)
		words[i] = leaf(a + i);
	return words[a & 7] + ((long)words & 63);
}

NEVER_INLINE long both(long a, size_t size)
{
	long words[4] __attribute__((aligned(128)));
	char *bytes = alloca(size);

	memset(bytes, 1, size);
	words[0] = leaf(bytes[0]);
	words[3] = leaf(a);
	return words[a & 3];
}

NEVER_INLINE long many_arguments(long a, long b, long c, long d, long e, long f, long g, long h)
{
	return leaf(a) + b * c - d * e + f * g - leaf(h);
}

/* Saves registers on one path only. */
NEVER_INLINE long early_exit(long *list, long count)
{
	if (!list)
		return 0;
	if (__builtin_expect(count < 0, 0))
		fail("negative");
	long sum = 0;
	for (long i = 0; i < count; i++)
		sum += leaf(list[i]) * leaf(i) + many_arguments(i, 1, 2, 3, 4, 5, 6, sum);
	return sum;
}

NEVER_INLINE long tail_call(long a)
{
	sink++;
	return leaf(a + 1);
}

NEVER_INLINE long through_pointer(long (*function)(long), long a)
{
	long before = function(a);

	return function(before) + before;
}

NEVER_INLINE long recursive(long depth)
{
	long local[3] = { depth, depth + 1, depth + 2 };

	if (depth == 0)
		return leaf(local[0]);
	return recursive(depth - 1) + local[depth % 3];
}

int main(int count, char **arguments)
{
	long numbers[] = { 1, 2, 3 };
	long sum = 0;

	for (int i = 0; i < count; i++)
		sum += by_switch(atoi(arguments[i]), i);
	sum += variable_size((size_t)count * 100, count) + large_frame(count) + realigned(count);
	sum += both(count, 64) + early_exit(numbers, 3) + tail_call(sum) + recursive(count);
	sum += through_pointer(count > 1 ? leaf : tail_call, sum);
	printf("%ld\n", sum);
	return 0;
}
