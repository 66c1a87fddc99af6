/*
 * Makes new names without end, each for long enough to be sampled, until it is killed.
 *
 *	names KIND
 *
 * KIND: "comm" renames itself each time; "threads" has four threads that do; "files"
 * runs this program again and again under another file name, in the directory of this program.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THREADS 4

static volatile unsigned long sum;

static long microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void spin(long time)
{
	long end = microseconds() + time;

	while (microseconds() < end)
		sum++;
}

static void *rename_forever(void *thread)
{
	for (unsigned long number = 0;; number++) {
		char name[16];

		snprintf(name, sizeof(name), "%c%lu", *(char *)thread, number);
		prctl(PR_SET_NAME, name);
		spin(500);
	}
}

static void run_under_other_names(const char *program)
{
	for (unsigned long number = 0;; number++) {
		char name[4096];

		snprintf(name, sizeof(name), "%s-%lu", program, number);
		if (link(program, name))
			exit(1);
		pid_t child = fork();
		if (child == 0) {
			execl(name, name, (char *)NULL);
			_exit(1);
		}
		waitpid(child, NULL, 0);
		unlink(name);
	}
}

int main(int argc, char **argv)
{
	static char names[THREADS] = "abcd";

	if (argc != 2) {
		spin(4000); /* a child of "files" */
		return 0;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!strcmp(argv[1], "files"))
		run_under_other_names(argv[0]);
	for (int i = 1; i < THREADS && !strcmp(argv[1], "threads"); i++) {
		pthread_t thread;

		pthread_create(&thread, NULL, rename_forever, &names[i]);
	}
	rename_forever(&names[0]);
}
