/*
 * Maps its own file as code 60,000 times, changes some of these mappings again and again, and
 * computes in between.
 */
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAPPINGS 60000
#define PAGE 4096

volatile uint64_t sum;

/* All map the same page, so the kernel merges no two neighbours. */
static void map(int fd, char *at)
{
	mmap(at, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0);
}

int main(void)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	char *area =
		mmap(NULL, (size_t)MAPPINGS * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (int i = 0; i < MAPPINGS; i++)
		map(fd, area + (size_t)i * PAGE);
	for (;;) {
		for (int i = 0; i < 100; i++)
			map(fd, area + (size_t)i * PAGE);
		for (int i = 0; i < 20000000; i++)
			sum += i;
		usleep(100000);
	}
}
