/*
 * Usage: moved MODE [thread]
 *
 * Changes its text as MODE says, and calls hot_leaf where it is then, through caller, for half a
 * second of CPU time (SECONDS). With `thread`, another thread does that once the main thread has
 * exited.
 *
 * over: the text of other_leaf is moved over hot_leaf.
 * away: hot_leaf is moved to another place.
 * copy: memory with a copy of hot_leaf is mapped in its place.
 * swap: memory with a copy of all text is moved over the text.
 * other: memory with a copy of other_leaf is mapped in the place of hot_leaf.
 * split: the protection of hot_leaf is changed to and fro.
 */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define RWX (PROT_READ | PROT_WRITE | PROT_EXEC)

#ifndef SECONDS
#define SECONDS 0.5
#endif

/* They run anywhere: nothing in them depends on their address. */
#define LEAF(name, place, value)                                                 \
	__attribute__((noinline, section(place), aligned(PAGE))) void name(void) \
	{                                                                        \
		volatile unsigned long sum = 0;                                  \
		for (unsigned long i = 0; i < 1000000; i++)                      \
			sum += i * value;                                        \
	}
LEAF(hot_leaf, "hot", 3)
LEAF(other_leaf, "hot2", 5)

static double cpu_time(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

__attribute__((noinline, section("hot3"), aligned(PAGE))) void caller(void (*leaf)(void))
{
	for (double end = cpu_time() + SECONDS; cpu_time() < end;)
		leaf();
}

static void check(int is_good)
{
	if (!is_good)
		_exit(1);
}

static void *anonymous(void *place, size_t bytes, const void *content)
{
	int fixed = place ? MAP_FIXED : 0;
	void *memory = mmap(place, bytes, RWX, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);

	check(memory != MAP_FAILED);
	memcpy(memory, content, bytes);
	check(!mprotect(memory, bytes, PROT_READ | PROT_EXEC));
	return memory;
}

static void move(void *from, size_t bytes, void *to)
{
	check(mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
}

static int swap_text(struct dl_phdr_info *info, size_t size, void *unused)
{
	(void)size, (void)unused;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
			continue;
		uintptr_t start = (info->dlpi_addr + segment->p_vaddr) & -PAGE;
		uintptr_t end = info->dlpi_addr + segment->p_vaddr + segment->p_memsz;
		size_t bytes = (end - start + PAGE - 1) & -PAGE;
		move(anonymous(NULL, bytes, (void *)start), bytes, (void *)start);
	}
	return 1; /* the first object is the program */
}

static void (*change(const char *mode))(void)
{
	static char copy[PAGE];
	char *text = (char *)hot_leaf, *place = text;

	if (!strcmp(mode, "over")) {
		move(other_leaf, PAGE, text);
	} else if (!strcmp(mode, "away")) {
		place = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		move(text, PAGE, place);
	} else if (!strcmp(mode, "swap")) {
		dl_iterate_phdr(swap_text, NULL);
	} else if (!strcmp(mode, "split")) {
		for (int i = 0; i < 5; i++)
			check(!mprotect(text, PAGE, i % 2 ? PROT_READ | PROT_EXEC : RWX));
	} else {
		memcpy(copy, strcmp(mode, "other") ? text : (char *)other_leaf, PAGE);
		anonymous(text, PAGE, copy);
	}
	return (void (*)(void))place;
}

static void *work(void *mode)
{
	usleep(200000); /* the main thread exits */
	caller(change(mode));
	_exit(0);
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc < 2)
		return 1;
	if (argc == 2) {
		caller(change(argv[1]));
		return 0;
	}
	check(!pthread_create(&thread, NULL, work, argv[1]));
	pthread_exit(NULL);
}
