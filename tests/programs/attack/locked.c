/*
 * Keeps its own memory locked, so that each reader of its maps waits, and spins.
 *
 *	locked KIND FILE FILLER
 *
 * FILE is on a file system that answers until this program has written a line, and never again once
 * it has read one. FILLER: text of some pages.
 *
 * KIND: "arguments" has a page of FILE that was never read in the middle of its command line. A
 * child that reads the command line keeps the memory locked for reading, a thread that maps memory
 * waits for the child, and everything else waits for the thread. "unmapping" maps memory over a
 * dirty page of FILE, which has to be written first: the memory is locked for writing. "userfault"
 * has a page in the middle of its command line whose faults are never resolved.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096UL
/* Far from the page that "unmapping" reads, and from what is read ahead with it. */
#define UNREAD_OFFSET (2UL << 20)

static char *dirty;
static volatile uint64_t sum;

static void *map(void *address, int protection, int flags, int file, off_t offset)
{
	void *mapped = mmap(address, PAGE, protection, flags, file, offset);

	if (mapped == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return mapped;
}

static void *read_command_line(void *unused)
{
	char path[64], byte[4096];

	snprintf(path, sizeof(path), "/proc/%d/cmdline", getpid());
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int file = open(path, O_RDONLY);
		while (read(file, byte, sizeof(byte)) > 0)
			;
		_exit(0);
	}
	for (;;) {
		usleep(100000);
		munmap(map(NULL, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), PAGE);
	}
	return unused;
}

static void *map_over_dirty(void *unused)
{
	map(dirty, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	return unused;
}

static void never_resolve(void *page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register area = { .range = { .start = (uintptr_t)page, .len = PAGE },
	                                .mode = UFFDIO_REGISTER_MODE_MISSING };
	int file = syscall(SYS_userfaultfd, 0);

	map(page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (file < 0 || ioctl(file, UFFDIO_API, &api) || ioctl(file, UFFDIO_REGISTER, &area)) {
		perror("userfaultfd");
		exit(1);
	}
}

__attribute__((noinline)) static void spin(void)
{
	for (;;)
		sum++;
}

int main(int argc, char **argv)
{
	void *(*lock)(void *) = NULL;
	pthread_t thread;

	if (argc != 4 || strlen(argv[3]) < 3 * PAGE)
		return 2;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	void *page = (void *)(((uintptr_t)argv[3] + PAGE - 1) & ~(PAGE - 1));
	int file = open(argv[2], O_RDWR);
	if (!strcmp(argv[1], "arguments")) {
		map(page, PROT_READ, MAP_SHARED | MAP_FIXED, file, UNREAD_OFFSET);
		lock = read_command_line;
	} else if (!strcmp(argv[1], "unmapping")) {
		dirty = map(NULL, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
		dirty[0] ^= 1;
		lock = map_over_dirty;
	} else {
		never_resolve(page);
		lock = read_command_line;
	}
	printf("ready\n");
	fflush(stdout);
	if (getchar() == EOF)
		return 1;
	pthread_create(&thread, NULL, lock, NULL);
	spin();
}
