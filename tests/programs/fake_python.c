/*
 * Pretends to be CPython 3.MINOR: exports its symbols, with a thread state, frames and code objects
 * that this program makes up, and spins in spin. `fake_python HOW`; HOW is one of the table at the
 * end. `plain` is well formed: fake_inner on line 7 is called by fake_outer on line 9.
 *
 * Compile with -rdynamic and -DMINOR=11, 12, 13 or 14.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#ifndef MINOR
#define MINOR 13
#endif

enum {
	THREAD_FRAME = MINOR >= 13 ? 72 : 56, /* before 3.13, of the cframe */
	CFRAME_FRAME = MINOR == 11 ? 8 : 0,
	FRAME_CODE = MINOR == 11 ? 32 : 0,
	FRAME_PREVIOUS = MINOR == 11 ? 48 : 8,
	FRAME_POSITION = 56,
	FRAME_OWNER = MINOR == 11 ? 69 : MINOR >= 14 ? 74 : 70,
	FRAME_IS_ENTRY = 68, /* 3.11 */
	OWNER_STACK = 3,
	CODE_FIRST_LINE = MINOR == 11 ? 72 : 68,
	CODE_VERSION = 92,
	CODE_FILE = 112,
	CODE_NAME = 120,
	CODE_QUALIFIED_NAME = 128,
	CODE_LINES = 136,
	CODE_BYTECODE = MINOR == 11 ? 184 : MINOR == 12 ? 192 : MINOR == 13 ? 200 : 208,
	TEXT_ASCII = MINOR == 11 ? 48 : 40,
	TEXT_OTHER = TEXT_ASCII + (MINOR == 11 ? 24 : 16),
	KEY = MINOR == 11 ? 592 : MINOR == 12 ? 1544 : MINOR == 13 ? 2160 : 2336,
	STATE_COMPACT = 1 << 5,
	STATE_ASCII = 1 << 6,
	LIVE_CODES = 4096,
};

typedef unsigned char object; /* objects are written byte by byte: some are not aligned */

const unsigned long Py_Version = 0x030000f0 | MINOR << 16;
object PyCode_Type[512];
volatile uint64_t sink;

/*
 * _PyRuntime begins with `_Py_DebugOffsets`, which 3.13 and later have in the file: words by their
 * byte offset, here those of 3.13 and 3.14. With -DIS_ABSURD they lead nowhere.
 */
enum {
	OFFSETS_OF_THREAD = (MINOR >= 14 ? 176 : 152) / 8,
	OFFSETS_OF_FRAME = (MINOR >= 14 ? 248 : 224) / 8,
	OFFSETS_OF_CODE = (MINOR >= 14 ? 312 : 272) / 8,
	OFFSETS_OF_BYTES = (MINOR >= 14 ? 592 : 512) / 8,
	OFFSETS_OF_TEXT = (MINOR >= 14 ? 616 : 536) / 8,
};

#ifdef IS_ABSURD
#define OFFSET(offset) (~0ull << (offset) % 64)
#else
#define OFFSET(offset) (offset)
#endif

uint64_t _PyRuntime[1 << 11] __attribute__((section(".PyRuntime"), aligned(16))) = {
#if MINOR >= 13
	[0] = 0x7970677562656478, /* "xdebugpy" */
	[1] = 0x030000f0 | MINOR << 16,
	[OFFSETS_OF_THREAD + 4] = OFFSET(THREAD_FRAME),
	[OFFSETS_OF_FRAME + 1] = OFFSET(FRAME_PREVIOUS),
	[OFFSETS_OF_FRAME + 2] = OFFSET(FRAME_CODE),
	[OFFSETS_OF_FRAME + 3] = OFFSET(FRAME_POSITION),
	[OFFSETS_OF_FRAME + 5] = OFFSET(FRAME_OWNER),
	[OFFSETS_OF_CODE + 1] = OFFSET(CODE_FILE),
	[OFFSETS_OF_CODE + 3] = OFFSET(CODE_QUALIFIED_NAME),
	[OFFSETS_OF_CODE + 4] = OFFSET(CODE_LINES),
	[OFFSETS_OF_CODE + 5] = OFFSET(CODE_FIRST_LINE),
	[OFFSETS_OF_CODE + 9] = OFFSET(CODE_BYTECODE),
	[OFFSETS_OF_BYTES + 1] = OFFSET(16),
	[OFFSETS_OF_BYTES + 2] = OFFSET(32),
	[OFFSETS_OF_TEXT + 1] = OFFSET(32),
	[OFFSETS_OF_TEXT + 2] = OFFSET(16),
	[OFFSETS_OF_TEXT + 3] = OFFSET(TEXT_ASCII),
#endif
};

static __thread void *_Py_tss_tstate;
static uint32_t code_version;

static void put(object *at, unsigned int offset, uint64_t value, unsigned int size)
{
	memcpy(at + offset, &value, size);
}

static void put_pointer(object *at, unsigned int offset, const void *value)
{
	put(at, offset, (uint64_t)value, 8);
}

static object *allocate(size_t size)
{
	object *made = calloc(1, size);

	if (!made)
		abort();
	return made;
}

/* The functions by which an interpreter is recognised, and thread-local variables are found. */
__attribute__((noinline)) void *_PyThreadState_GetCurrent(void)
{
	return _Py_tss_tstate;
}

__attribute__((noinline)) void *PyThreadState_GetUnchecked(void)
{
	return _Py_tss_tstate;
}

__attribute__((noinline)) void *PyGILState_GetThisThreadState(void)
{
	/* A Py_tss_t: an int that is 1 once the key was created, and the key. */
	return pthread_getspecific(
		*(const volatile pthread_key_t *)((object *)_PyRuntime + KEY + 4));
}

__attribute__((noinline)) void *_PyEval_EvalFrameDefault(void *frame)
{
	volatile uint64_t step = 1;

	for (int i = 0; i < 200000; i++)
		sink += step;
	return frame;
}

/* Returns a str of `kind` bytes per character, or an ASCII one if `kind` is 0. */
static object *text(const void *characters, uint64_t length, unsigned int kind, size_t bytes)
{
	object *made = allocate(TEXT_OTHER + bytes + 8);
	uint32_t state = STATE_COMPACT | (kind ? kind : 1) << 2 | (kind ? 0 : STATE_ASCII);

	put(made, 0, 1, 8);
	put(made, 16, length, 8);
	put(made, 32, state, 4);
	memcpy(made + (kind ? TEXT_OTHER : TEXT_ASCII), characters, bytes);
	return made;
}

static object *ascii(const char *characters)
{
	return text(characters, strlen(characters), 0, strlen(characters));
}

/* Returns a code object whose instructions are all on its first line. */
static object *code(object *name, object *file, uint32_t first_line)
{
	static const object table[] = { 0xef, 0x00 }; /* 8 units, no column, same line */
	object *made = allocate(512), *lines = allocate(64);

	put(lines, 16, sizeof(table), 8);
	memcpy(lines + 32, table, sizeof(table));
	put(made, 0, 1, 8);
	put_pointer(made, 8, PyCode_Type);
	put(made, CODE_FIRST_LINE, first_line, 4);
	if (MINOR >= 12)
		put(made, CODE_VERSION, ++code_version, 4);
	put_pointer(made, CODE_FILE, file);
	put_pointer(made, CODE_NAME, name);
	put_pointer(made, CODE_QUALIFIED_NAME, name);
	put_pointer(made, CODE_LINES, lines);
	return made;
}

static object *frame(object *of, object *previous)
{
	object *made = allocate(128);

	put_pointer(made, FRAME_CODE, of);
	put_pointer(made, FRAME_PREVIOUS, previous);
	put_pointer(made, FRAME_POSITION, of + CODE_BYTECODE + 2);
	return made;
}

/* Ends a list: its last frame is the entry, or a frame on the stack of C is. */
static object *end_of_list(object *of, object *on_stack)
{
	object *last;

	if (MINOR == 11) {
		last = frame(of, NULL);
		put(last, FRAME_IS_ENTRY, 1, 1);
		return last;
	}
	put_pointer(on_stack, FRAME_CODE, of);
	put(on_stack, FRAME_OWNER, OWNER_STACK, 1);
	return frame(of, on_stack);
}

static void set_frame(object *thread, object *first, object *on_stack)
{
	object *cframe = on_stack + 128;

	if (MINOR >= 13) {
		put_pointer(thread, THREAD_FRAME, first);
		return;
	}
	put_pointer(cframe, CFRAME_FRAME, first);
	put_pointer(thread, THREAD_FRAME, cframe);
}

static object *outer(object *on_stack)
{
	return end_of_list(code(ascii("fake_outer"), ascii("fake.py"), 9), on_stack);
}

static object *inner(object *previous)
{
	return frame(code(ascii("fake_inner"), ascii("fake.py"), 7), previous);
}

static object *make_plain(object *on_stack)
{
	return inner(outer(on_stack));
}

static object *make_loop(object *on_stack)
{
	object *first = inner(NULL), *second = inner(first);

	(void)on_stack;
	put_pointer(first, FRAME_PREVIOUS, second);
	return first;
}

static object *make_self(object *on_stack)
{
	object *only = inner(NULL);

	(void)on_stack;
	put_pointer(only, FRAME_PREVIOUS, only);
	return only;
}

static object *make_long(object *on_stack)
{
	object *list = outer(on_stack), *of = code(ascii("fake_long"), ascii("fake.py"), 3);

	for (int i = 0; i < 100000; i++)
		list = frame(of, list);
	return list;
}

static object *make_lengths(object *on_stack)
{
	static const uint64_t lengths[] = { 0, 1 << 20, 1u << 31, ~0u, 1ull << 63, ~0ull };
	object *list = outer(on_stack), *huge, *of;

	for (unsigned int i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		for (unsigned int kind = 0; kind <= 7; kind++) {
			huge = text("fake", lengths[i], kind, 4);
			of = code(huge, huge, 5);
			put((object *)*(uint64_t *)(of + CODE_LINES), 16, lengths[i], 8);
			list = frame(of, list);
		}
	}
	return list;
}

static void *unmapped(unsigned int number)
{
	static const uint64_t addresses[] = { 8, 0xffff888000000000, 0x8000000000000000, ~7ull };
	void *gone = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(gone, 4096);
	return number < 4 ? (void *)addresses[number] : gone;
}

static object *make_unmapped(object *on_stack)
{
	static const unsigned int fields[] = { CODE_FILE, CODE_NAME, CODE_QUALIFIED_NAME,
		                               CODE_LINES };
	object *list = outer(on_stack), *of;

	for (unsigned int i = 0; i < 20; i++) {
		of = code(ascii("fake"), ascii("fake.py"), 5);
		put_pointer(of, fields[i / 5], unmapped(i % 5));
		list = frame(of, list);
	}
	for (unsigned int i = 0; i < 5; i++) {
		list = inner(list);
		put_pointer(list, FRAME_CODE, unmapped(i));
	}
	return list;
}

/* The list itself leads to an address that is not mapped, to one of the kernel, and so on. */
static object *make_astray(object *on_stack)
{
	static unsigned int number;
	static object *only;

	(void)on_stack;
	if (!only)
		only = inner(NULL);
	put_pointer(only, FRAME_PREVIOUS, unmapped(number++ % 5));
	return only;
}

static object *make_misaligned(object *on_stack)
{
	object *list = outer(on_stack);

	for (int i = 1; i < 8; i++) {
		list = inner(list + i);
		put_pointer(list, FRAME_CODE, (object *)*(uint64_t *)(list + FRAME_CODE) + i);
	}
	return list + 1;
}

static object *make_owners(object *on_stack)
{
	object *list = outer(on_stack);

	for (int owner = 0; owner < 256; owner += 3) {
		list = inner(list);
		put(list, FRAME_OWNER, owner, 1);
		if (MINOR == 11)
			put(list, FRAME_IS_ENTRY, owner, 1);
	}
	return list;
}

/* Characters that break a file, a terminal or a decoder. */
static object *make_names(object *on_stack)
{
	static const char *names[] = { "fake;main;x 9\nmain 1",
		                       "\033[2J\033]0;t\a",
		                       "<script>&\"'",
		                       "\x7f\r\b\t",
		                       "../../etc/passwd",
		                       "%s%n",
		                       "" };
	static const uint16_t pairs[] = { 0xd800, 0xdc00, 0xdfff, 0xfffe, 0x202e };
	static const uint32_t wide[] = { 0x110000, 0xffffffff, 0xd800, 0xe0001, 0x1f600 };
	object *list = outer(on_stack);

	for (unsigned int i = 0; i < sizeof(names) / sizeof(*names); i++)
		list = frame(code(ascii(names[i]), ascii(names[i]), i), list);
	for (unsigned int kind = 0; kind <= 4; kind++) {
		list = frame(code(text(pairs, 5, kind, 10), text(wide, 5, kind, 20), ~0u), list);
		list = frame(code(text(wide, 5, kind, 20), text(pairs, 5, kind, 10), 1u << 31),
		             list);
	}
	return list;
}

/* Each time 64 code objects that were never there before. */
static object *make_churn(object *on_stack)
{
	static unsigned int number;
	static object *made[LIVE_CODES][4], *root;
	object *list = root = root ? root : outer(on_stack), **slot;
	char name[200];

	for (int i = 0; i < 64; i++, number++) {
		slot = made[number % LIVE_CODES];
		for (int part = 0; part < 4; part++)
			free(slot[part]);
		memset(name, 'x', sizeof(name));
		snprintf(name, sizeof(name), "fake_%u", number);
		slot[0] = text(name, sizeof(name) - 1, 0, sizeof(name) - 1);
		slot[1] = code(slot[0], slot[0], number);
		slot[2] = (object *)*(uint64_t *)(slot[1] + CODE_LINES);
		slot[3] = list = frame(slot[1], list);
	}
	return list;
}

static const struct {
	const char *how;
	object *(*make)(object *on_stack);
	int is_made_each_time;
} WAYS[] = {
	{ "plain", make_plain, 0 },     { "loop", make_loop, 0 },
	{ "self", make_self, 0 },       { "long", make_long, 0 },
	{ "lengths", make_lengths, 0 }, { "unmapped", make_unmapped, 0 },
	{ "astray", make_astray, 1 },   { "misaligned", make_misaligned, 0 },
	{ "owners", make_owners, 0 },   { "names", make_names, 0 },
	{ "churn", make_churn, 1 },
};

__attribute__((noinline)) int spin(unsigned int way, object *thread, object *on_stack)
{
	for (;;) {
		if (WAYS[way].is_made_each_time)
			set_frame(thread, WAYS[way].make(on_stack), on_stack);
		_PyEval_EvalFrameDefault(on_stack);
	}
}

int main(int count, char **arguments)
{
	object on_stack[256] __attribute__((aligned(16))) = { 0 }, *thread = allocate(8192);
	object *runtime = (object *)_PyRuntime;

	for (unsigned int way = 0; count > 1 && way < sizeof(WAYS) / sizeof(*WAYS); way++) {
		if (strcmp(arguments[1], WAYS[way].how))
			continue;
		put(runtime, KEY, 1, 4);
		pthread_key_create((pthread_key_t *)(runtime + KEY + 4), NULL);
		pthread_setspecific(*(pthread_key_t *)(runtime + KEY + 4), thread);
		_Py_tss_tstate = thread;
		set_frame(thread, WAYS[way].make(on_stack), on_stack);
		return spin(way, thread, on_stack);
	}
	fprintf(stderr, "usage: fake_python plain|loop|... with -DMINOR=%d\n", MINOR);
	return 2;
}
