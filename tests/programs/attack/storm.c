/*
 * Causes process events as fast as it can, until it is killed.
 *
 *	storm KIND
 *
 * KIND: "fork", "vfork" and "exec" start children that end at once, the last of them by executing
 * this program again; "threads" starts threads; "rename" gives itself another name each time; "map"
 * maps executable memory.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void *end(void *unused)
{
	return unused;
}

static void run_child(const char *kind, char **argv)
{
	pid_t child = strcmp(kind, "vfork") ? fork() : vfork();

	if (child == 0) {
		if (!strcmp(kind, "exec"))
			execl(argv[0], argv[0], (char *)NULL);
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 0; /* a child of "exec" */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned long number = 0;; number++) {
		if (!strcmp(argv[1], "threads")) {
			pthread_t thread;

			if (!pthread_create(&thread, NULL, end, NULL))
				pthread_join(thread, NULL);
		} else if (!strcmp(argv[1], "rename")) {
			char name[16];

			snprintf(name, sizeof(name), "n%lu", number);
			prctl(PR_SET_NAME, name);
		} else if (!strcmp(argv[1], "map")) {
			void *memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC,
			                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			munmap(memory, 4096);
		} else {
			run_child(argv[1], argv);
		}
	}
}
