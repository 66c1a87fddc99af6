/*
 * Maps the same page of a file again and again as executable memory, and spins.
 *
 *	mapper FILE COUNT KIND
 *
 * COUNT: mappings. KIND: "file" maps FILE; "files" maps as many distinct files in memory;
 * "anonymous" maps memory without a file; "changing" maps a hundred pages anew each second;
 * "forked" has eight children that each map one page more, so that none shares its mappings with
 * its parent.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define CHILDREN 8
#define CHANGES 100

static volatile unsigned long sum;

static void spin_for_a_second(void)
{
	time_t end = time(NULL) + 1;

	while (time(NULL) < end)
		sum++;
}

/* Creates a file in memory that no other has the content of. */
static int distinct_file(unsigned long number)
{
	char name[32];
	int file;

	snprintf(name, sizeof(name), "file-%d-%lu", getpid(), number);
	file = memfd_create(name, 0);
	if (file < 0 || ftruncate(file, PAGE) || write(file, name, sizeof(name)) < 0)
		exit(1);
	return file;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	int file = open(argv[1], O_RDONLY);
	unsigned long count = strtoul(argv[2], NULL, 10);
	int is_anonymous = !strcmp(argv[3], "anonymous");
	int flags = MAP_PRIVATE | (is_anonymous ? MAP_ANONYMOUS : 0);
	/* Pages without access between them, so that no two mappings merge. */
	char *area = mmap(NULL, 2 * (count + CHILDREN) * PAGE, PROT_NONE,
	                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED)
		return 1;
	for (unsigned long i = 0; i < count; i++) {
		int mapped = is_anonymous ? -1 : file;

		if (!strcmp(argv[3], "files"))
			mapped = distinct_file(i);
		if (mmap(area + 2 * i * PAGE, PAGE, PROT_READ | PROT_EXEC, flags | MAP_FIXED,
		         mapped, 0) == MAP_FAILED)
			break;
		if (!strcmp(argv[3], "files"))
			close(mapped);
	}
	if (!strcmp(argv[3], "forked"))
		for (int child = 0; child < CHILDREN; child++)
			if (!fork()) {
				mmap(area + 2 * (count + child) * PAGE, PAGE, PROT_READ | PROT_EXEC,
				     flags | MAP_FIXED, file, 0);
				break;
			}
	printf("mapped\n");
	fflush(stdout);
	for (;;) {
		spin_for_a_second();
		if (!strcmp(argv[3], "changing"))
			for (unsigned long i = 0; i < CHANGES && i < count; i++)
				mmap(area + 2 * i * PAGE, PAGE, PROT_READ | PROT_EXEC,
				     flags | MAP_FIXED, file, 0);
	}
}
