/*
 * Starts short processes without a pause, for 14 s of each 20 s: by fork, by fork and exec of
 * copies of itself that each have a name of their own, and as threads that change their names.
 *
 *     storm DIRECTORY   a directory in which copies can be made
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

volatile uint64_t sum;

static void work(void)
{
	for (int i = 0; i < 200000; i++)
		sum += i;
}

static void *renamed(void *unused)
{
	char name[16];

	(void)unused;
	snprintf(name, sizeof(name), "\033[31m%d\n", rand());
	prctl(PR_SET_NAME, name);
	work();
	return NULL;
}

static void copy(const char *to)
{
	static char bytes[1 << 20];
	int in = open("/proc/self/exe", O_RDONLY),
	    out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	ssize_t length = read(in, bytes, sizeof(bytes));

	if (length > 0 && write(out, bytes, length) != length)
		exit(1);
	close(in);
	close(out);
}

static void run_copy(const char *directory, int number)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/copy-%d-%d", directory, getpid(), number);
	copy(path);
	if (!fork()) {
		execl(path, path, (char *)NULL);
		_exit(1);
	}
	wait(NULL);
	unlink(path);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		work();
		return 0;
	}
	srand(getpid());
	for (int number = 0;; number++) {
		pthread_t thread;

		if (time(NULL) % 20 >= 14) {
			usleep(100000);
			continue;
		}
		for (int i = 0; i < 20; i++) {
			if (!fork()) {
				work();
				_exit(0);
			}
			wait(NULL);
		}
		if (!pthread_create(&thread, NULL, renamed, NULL))
			pthread_join(thread, NULL);
		if (number % 10 == 0)
			run_copy(argv[1], number);
	}
}
