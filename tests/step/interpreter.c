/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the walk over CPython's frames callable from src/interpreters.rs, with memory that the test
 * provides. The structures that it shares with Rust belong to the test.
 */
#include <string.h>
#include "runtimes/cpython_code.h"

/* struct cpython_layout: its 20 offsets and 5 bytes, in order. */
struct host_layout {
	u16 offsets[20];
	u8 bytes[5];
};

/* struct thread_value. */
struct host_value {
	u64 address;
	s32 offset;
	u32 kind;
};

struct host_thread {
	u64 pointer;
	struct host_value values[2];
	u32 specific;
	bool is_musl;
};

/* struct code_record, and where its parts are. */
struct host_code {
	u64 code;
	u32 fingerprint, first_line;
	u32 name_length, file_length, lines_length;
	u32 name_bytes, file_bytes, lines_bytes;
	u8 name_width, file_width;
	const u8 *bytes;
};

typedef bool (*read_function)(const void *memory, u64 address, u8 *to, u32 size);
typedef void (*meet_function)(void *codes, const struct host_code *code);

static __thread read_function reader;
static __thread const void *memory;
static __thread meet_function receiver;
static __thread void *codes;

_Static_assert(sizeof(struct cpython_layout) == 20 * sizeof(u16) + 5 + 3, "the test's copy fits");

static inline bool read_user(void *to, u32 size, u64 address)
{
	return reader(memory, address, to, size);
}

static inline void meet_code(struct interpreter *in, u64 code, u32 fingerprint)
{
	in->code = (struct code_record){ .code = code, .fingerprint = fingerprint };
	cpython_describe(in);
	struct host_code host = {
		.code = code,
		.fingerprint = fingerprint,
		.first_line = in->code.first_line,
		.name_length = in->code.name_length,
		.file_length = in->code.file_length,
		.lines_length = in->code.lines_length,
		.name_bytes = in->code.name_bytes,
		.file_bytes = in->code.file_bytes,
		.lines_bytes = in->code.lines_bytes,
		.name_width = in->code.name_width,
		.file_width = in->code.file_width,
		.bytes = in->code_bytes,
	};
	receiver(codes, &host);
}

static void copy_thread(struct interpreter *in, const struct host_thread *thread)
{
	in->thread_pointer = thread->pointer;
	in->process.specific = thread->specific;
	in->process.libc = thread->is_musl ? LIBC_MUSL : LIBC_GLIBC;
	for (u32 i = 0; i < 2; i++) {
		in->process.values[i].address = thread->values[i].address;
		in->process.values[i].offset = thread->values[i].offset;
		in->process.values[i].kind = thread->values[i].kind;
	}
}

/* Walks a thread's frames; returns the end. `frames`: for INTERPRETER_FRAMES_MAX elements. */
u32 host_walk_cpython(const struct host_layout *layout, const struct host_thread *thread,
                      read_function read, const void *from, meet_function meet, void *met,
                      struct interpreter_frame *frames, u32 *count)
{
	static __thread struct interpreter in;

	memset(&in, 0, sizeof(in));
	memcpy(in.process.layout, layout->offsets, sizeof(layout->offsets));
	memcpy((u8 *)in.process.layout + sizeof(layout->offsets), layout->bytes,
	       sizeof(layout->bytes));
	copy_thread(&in, thread);
	reader = read;
	memory = from;
	receiver = meet;
	codes = met;
	if (cpython_start(&in)) {
		in.record.end = INTERPRETER_END_DEPTH;
		for (u32 i = 0; i < INTERPRETER_FRAMES_MAX; i++)
			if (cpython_step(&in) == INTERPRETER_STOP)
				break;
	}
	*count = in.record.count;
	memcpy(frames, in.frames, sizeof(in.frames));
	return in.record.end;
}
