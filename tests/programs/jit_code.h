// What programs share that make code while they run.
#include <string.h>
#include <time.h>

// push %rbp; mov %rsp,%rbp; mov $0x1000000,%rcx; 1: dec %rcx; jne 1b; pop %rbp; ret
static const unsigned char code[] = { 0x55, 0x48, 0x89, 0xe5, 0x48, 0xc7, 0xc1, 0,    0,
	                              0,    1,    0x48, 0xff, 0xc9, 0x75, 0xfb, 0x5d, 0xc3 };

static double seconds = 1;

static double time_of(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static double now(void)
{
	return time_of(CLOCK_MONOTONIC);
}

// CPU time, so that a busy machine takes as many samples.
static void run(unsigned char *at)
{
	double end = time_of(CLOCK_PROCESS_CPUTIME_ID) + seconds;
	while (time_of(CLOCK_PROCESS_CPUTIME_ID) < end)
		((void (*)(void))at)();
}

static int is(const char *how, const char *name)
{
	return strcmp(how, name) == 0;
}
