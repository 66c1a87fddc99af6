/*
 * Usage: regions COUNT SECONDS
 *
 * Maps the same page of code COUNT times, half of the mappings anonymous and half of a memfd, so
 * that no mapping merges with its neighbour, and calls each in turn for SECONDS. Then it unmaps all
 * but one, moves that one with mremap, and calls it there for SECONDS.
 *
 * The code: push %rbp; mov %rsp,%rbp; mov $N,%ecx; dec %ecx; jnz; pop %rbp; ret
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const unsigned char code[] = { 0x55, 0x48, 0x89, 0xe5, 0xb9, 0x40, 0x0d, 0x03,
	                              0x00, 0xff, 0xc9, 0x75, 0xfc, 0x5d, 0xc3 };
#define PAGE 4096

static void *map_one(int fd, int number)
{
	int is_file = number % 2;
	/* Pages of a file at the same offset do not merge, and they keep anonymous ones apart. */
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | (is_file ? PROT_EXEC : 0),
	                  is_file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, is_file ? fd : -1, 0);

	if (page == MAP_FAILED)
		exit(1);
	memcpy(page, code, sizeof(code));
	if (mprotect(page, PAGE, PROT_READ | PROT_EXEC))
		exit(1);
	return page;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

__attribute__((noinline)) void call(void *page)
{
	((void (*)(void))page)();
	asm volatile("");
}

__attribute__((noinline)) void call_moved(void *page)
{
	((void (*)(void))page)();
	asm volatile("");
}

int main(int argc, char **argv)
{
	int count = argc == 3 ? atoi(argv[1]) : 0, fd = memfd_create("code", 0);
	double seconds = argc == 3 ? atof(argv[2]) : 0, end;
	void **pages = calloc(count + 1, sizeof(void *));

	if (!count || ftruncate(fd, PAGE))
		return 1;
	for (int i = 0; i < count; i++)
		pages[i] = map_one(fd, i);
	for (end = now() + seconds; now() < end;)
		for (int i = 0; i < count && now() < end; i++)
			call(pages[i]);
	for (int i = 1; i < count; i++)
		munmap(pages[i], PAGE);
	void *space = mmap(NULL, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *moved = mremap(pages[0], PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
	                     (char *)space + 8 * PAGE);
	if (moved == MAP_FAILED)
		return 1;
	for (end = now() + seconds; now() < end;)
		call_moved(moved);
	return 0;
}
