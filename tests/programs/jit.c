// Writes code into memory, with its names in a perf map, and runs it: `jit HOW [SECONDS]`.
//
// jit_f1 runs first, then jit_f2 at the same addresses. HOW is what the map is: `plain`, or what
// the names below say.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jit_code.h"

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "plain";
	seconds = argc > 2 ? atof(argv[2]) : 1;
	char path[64], aside[80];
	snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
	snprintf(aside, sizeof aside, "%s.aside", path);
	// Memory of a file that is no program: .NET and Erlang have their code in such.
	int memory = is(how, "memfd") ? memfd_create("code", 0) : -1;
	ftruncate(memory, 4096);
	int kind = memory < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	unsigned char *at = mmap(0, 4096, 7, kind, memory, 0);
	memcpy(at, code, sizeof code);
	// The process becomes another program, whose map says something else of these addresses.
	if (is(how, "left")) {
		if (fork() == 0) {
			prctl(PR_SET_NAME, "child");
			run(at);
			_exit(0);
		}
		char address[32];
		snprintf(address, sizeof address, "%lx", (long)at);
		execl("/proc/self/exe", argv[0], "successor", argv[2], address, NULL);
	}
	if (is(how, "successor")) {
		FILE *map = fopen(path, "w");
		fprintf(map, "%s 1000 jit_successor\n", argv[3]);
		fclose(map);
		run(at);
		unlink(path);
		return 0;
	}
	if (is(how, "none")) {
		run(at);
		return 0;
	}
	unlink(path);
	if (is(how, "fifo")) {
		mkfifo(path, 0644);
		run(at);
		unlink(path);
		return 0;
	}
	FILE *map = fopen(is(how, "symlink") ? aside : path, "w");
	if (is(how, "symlink"))
		symlink(aside, path);
	if (is(how, "other_owner"))
		chown(path, 1234, 1234);
	if (is(how, "sparse")) {
		ftruncate(fileno(map), 1 << 30);
		fseek(map, 0, SEEK_END);
	}
	if (is(how, "garbage"))
		for (int i = 0; i < 1 << 16; i++)
			fputc(rand() & 0xff, map);
	// Around the code and in it: the later entries win.
	if (is(how, "overlapping"))
		fprintf(map, "%lx %lx jit_around\n%lx 2 jit_start\n", (long)at, (long)sizeof code,
		        (long)at);
	fprintf(map, "\n0x%lx 0x%lx jit_f1 of file.js:1\n", (long)at, (long)sizeof code);
	fflush(map);
	if (is(how, "stale")) {
		struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
		futimens(fileno(map), old);
	}
	if (is(how, "endless") && fork() == 0)
		for (double end = now() + 2 * seconds; now() < end;)
			fprintf(map, "%lx 10 jit_elsewhere\n", (long)at + 0x100 + rand() % 0xe00);
	// A child that has no map runs the code that its parent has made.
	if (is(how, "forked") && fork() == 0) {
		prctl(PR_SET_NAME, "child");
		run(at);
		_exit(0);
	}
	run(at);
	memset(at, 0x90, 16);
	memcpy(at + 16, code, sizeof code);
	if (is(how, "replaced")) {
		fclose(map);
		unlink(path);
		map = fopen(path, "w");
	}
	if (is(how, "truncated"))
		map = freopen(path, "w", map);
	fprintf(map, "%lx %lx jit_f2\n", (long)at, (long)sizeof code + 16);
	fflush(map);
	if (is(how, "unlinked")) {
		usleep(400000); // It has been found by its name before.
		unlink(path);
	}
	run(at);
	unlink(path);
	unlink(aside);
	return 0;
}
