/*
 * Usage: children TURNS PROGRAM OTHER [PID]
 *
 * Starts TURNS children, one after the other, in three ways: vfork and work in this process's
 * memory, vfork and exec, posix_spawn. With a fourth argument every child gets that PID (clone3
 * with set_tid) and executes PROGRAM or OTHER in turn.
 */
#define _GNU_SOURCE
#include <linux/sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

volatile unsigned long sink;
#include "code.h"

extern char **environ;

static void check(int is_good, const char *what)
{
	if (is_good)
		return;
	perror(what);
	exit(1);
}

static void work(void)
{
	for (int i = 0; i < 100; i++)
		sink = N(a)(sink) + 1;
}

static pid_t fork_as(pid_t pid)
{
	struct clone_args arguments = { .exit_signal = SIGCHLD,
		                        .set_tid = (uintptr_t)&pid,
		                        .set_tid_size = 1 };

	return syscall(SYS_clone3, &arguments, sizeof(arguments));
}

static void start_child(int turn, char **argv, pid_t pid)
{
	char *program = argv[2 + turn % 2];
	char *arguments[] = { program, "1", program, program, NULL };
	pid_t child = 0;

	if (pid)
		child = fork_as(pid);
	else if (turn % 3 == 2)
		check(!posix_spawn(&child, program, NULL, NULL, arguments, environ), "posix_spawn");
	else
		child = vfork();
	if (!child) {
		if (!pid && turn % 3 == 0) {
			work();
			_exit(0);
		}
		execv(program, arguments);
		_exit(1);
	}
	int status;
	check(child > 0 && waitpid(child, &status, 0) == child && status == 0, "child");
}

int main(int argc, char **argv)
{
	pid_t pid = argc > 4 ? atoi(argv[4]) : 0;

	for (int turn = 0; argc > 3 && turn < atoi(argv[1]); turn++)
		start_child(turn, argv, pid);
	return argc < 4;
}
