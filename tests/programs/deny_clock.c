/*
 * For LD_PRELOAD: perf_event_open(2) fails for one CPU, as it does for lack of memory on its node.
 *
 * DENY_CLOCK_CPU: the CPU, or "all". DENY_CLOCK_WHILE: it fails while this file exists.
 * DENY_CLOCK_ERROR: the number of the error.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_denied(long cpu)
{
	const char *denied = getenv("DENY_CLOCK_CPU"), *file = getenv("DENY_CLOCK_WHILE");

	return denied && file && !access(file, F_OK) &&
	       (!strcmp(denied, "all") || atol(denied) == cpu);
}

long syscall(long number, ...)
{
	long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	long arguments[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		arguments[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_perf_event_open && is_denied((int)arguments[2])) {
		errno = atoi(getenv("DENY_CLOCK_ERROR"));
		return -1;
	}
	return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
	            arguments[5]);
}
