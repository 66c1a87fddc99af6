// Writes code into memory, with its names in a jitdump beside the program, and runs it:
// `jitdump HOW [SECONDS]`.
//
// dump_f1 runs first, then dump_f2 at the same addresses. HOW is what the jitdump is: `plain`, or
// what the names below say.
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jit_code.h"

enum {
	LOAD,
	MOVE,
	DEBUG_INFO,
	CLOSE,
	UNWINDING_INFO
};

static FILE *dump;

static void write_header(const char *how)
{
	int is_swapped = is(how, "other_order"), version = is(how, "other_version") ? 9 : 1;
	uint32_t header[10] = {
		is_swapped ? 0x4454694a : 0x4a695444, version, sizeof header, EM_X86_64, 0, getpid()
	};
	fwrite(header, sizeof header, 1, dump);
}

static void write_record(uint32_t kind, uint32_t size)
{
	uint32_t record[2] = { kind, sizeof record + sizeof(uint64_t) + size };
	uint64_t nanoseconds = now() * 1e9;
	fwrite(record, sizeof record, 1, dump);
	fwrite(&nanoseconds, sizeof nanoseconds, 1, dump);
}

// Writes the start of a record of code: 56 bytes, the name and its end.
static void write_name(unsigned char *at, int size, const char *name)
{
	uint32_t ids[2] = { getpid(), getpid() };
	uint64_t load[4] = { (uint64_t)at, (uint64_t)at, size, 1 };
	write_record(LOAD, sizeof ids + sizeof load + strlen(name) + 1 + size);
	fwrite(ids, sizeof ids, 1, dump);
	fwrite(load, sizeof load, 1, dump);
	fwrite(name, strlen(name) + 1, 1, dump);
}

static void write_load(unsigned char *at, int size, const char *name)
{
	write_name(at, size, name);
	fwrite(at, size, 1, dump);
	fflush(dump);
}

static void write_move(unsigned char *from, unsigned char *to, int size)
{
	uint32_t ids[2] = { getpid(), getpid() };
	uint64_t move[5] = { (uint64_t)from, (uint64_t)from, (uint64_t)to, size, 1 };
	write_record(MOVE, sizeof ids + sizeof move);
	fwrite(ids, sizeof ids, 1, dump);
	fwrite(move, sizeof move, 1, dump);
	fflush(dump);
}

// What runtimes write for each function before its code.
static void write_infos(unsigned char *at)
{
	struct {
		uint64_t code, count, address;
		uint32_t line, discriminator;
		char file[8];
	} debug = { (uint64_t)at, 1, (uint64_t)at, 1, 0, "file.js" };
	uint64_t unwinding[5] = { 16, 16, 0 };
	write_record(DEBUG_INFO, sizeof debug);
	fwrite(&debug, sizeof debug, 1, dump);
	write_record(UNWINDING_INFO, sizeof unwinding);
	fwrite(unwinding, sizeof unwinding, 1, dump);
}

static void write_perf_map(unsigned char *at, const char *path)
{
	FILE *map = fopen(path, "w");
	fprintf(map, "%lx %lx map_f1\n", (long)at, (long)sizeof code);
	fclose(map);
}

static void write_garbage(void)
{
	for (int i = 0; i < 1 << 16; i++)
		fputc(rand() & 0xff, dump);
	fflush(dump);
}

// Code that has run is moved, and other code is written to its place.
static void move(unsigned char *at)
{
	memcpy(at + 2048, at, sizeof code);
	write_move(at, at + 2048, sizeof code);
	write_load(at, sizeof code, "dump_f2");
	run(at + 2048);
	run(at);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "plain";
	seconds = argc > 2 ? atof(argv[2]) : 1;
	char path[4096], aside[5000], map[64];
	int number = is(how, "other_number") ? 1 : getpid();
	snprintf(path, sizeof path, "%s/jit-%d.dump", dirname(strdup(argv[0])), number);
	snprintf(aside, sizeof aside, "%s.aside", path);
	snprintf(map, sizeof map, "/tmp/perf-%d.map", getpid());
	unsigned char *at = mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(at, code, sizeof code);

	unlink(path);
	if (is(how, "symlink"))
		symlink(aside, path);
	dump = fopen(path, "w+");
	if (is(how, "other_owner") || is(how, "refused"))
		chown(path, 1234, 1234);
	if (is(how, "both") || is(how, "refused"))
		write_perf_map(at, map);
	// As V8 does it, before there is a header.
	void *marker = MAP_FAILED;
	if (!is(how, "unmapped"))
		marker = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(dump), 0);
	if (is(how, "unlinked"))
		unlink(path);
	if (is(how, "no_header"))
		write_garbage();
	else
		write_header(how);
	write_infos(at);
	if (is(how, "halves")) {
		// A buffer that is flushed when it is full ends anywhere.
		write_name(at, sizeof code, "dump_f1");
		fflush(dump);
		run(at);
		fwrite(at, sizeof code, 1, dump);
		fflush(dump);
	} else {
		write_load(at, sizeof code, "dump_f1");
	}
	if (is(how, "garbage"))
		write_garbage();
	// More than is read, which holds no code.
	if (is(how, "sparse")) {
		for (int i = 0; i < 8; i++) {
			write_record(DEBUG_INFO, 1 << 30);
			fseek(dump, 1 << 30, SEEK_CUR);
		}
	}
	if (is(how, "endless") && fork() == 0) {
		for (double end = now() + 2 * seconds; now() < end;)
			write_load(at + 0x100, 0x10, "dump_elsewhere");
		_exit(0);
	}
	// A child has the code of its parent. What it writes is of its own memory.
	if (is(how, "forked") && fork() == 0) {
		prctl(PR_SET_NAME, "child");
		write_load(at, sizeof code, "dump_child");
		run(at);
		_exit(0);
	}
	if (is(how, "child_only")) {
		if (fork() == 0) {
			run(at);
			_exit(0);
		}
		wait(NULL);
	} else if (is(how, "moved")) {
		move(at);
	} else {
		run(at);
		memset(at, 0x90, 16);
		memcpy(at + 16, code, sizeof code);
		write_infos(at);
		write_load(at, sizeof code + 16, "dump_f2");
		run(at);
	}
	write_record(CLOSE, 0);
	fclose(dump);
	if (marker != MAP_FAILED)
		munmap(marker, 4096);
	unlink(map);
	return 0;
}
