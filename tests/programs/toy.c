/*
 * A small interpreter with frames of its own, and a program for it that knows its stack. It behaves
 * as the programs of `python/known.py`: it appends its stack to the file in $STACKS before it spins
 * in it, waits for a line of standard input before the first window, and for the end of the input
 * after the last one.
 *
 * Instructions have two bytes: an operation and its argument. A call from one function to another
 * stays in one evaluation loop; functions of C call back by a loop of their own. Each loop has a
 * record on the C stack, the anchor of its frames.
 *
 * Profilers recognize it by `toy_version` and find the current frame by `toy_current_frame`.
 * Compile with -rdynamic, so that both are exported.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A text without an end mark. */
struct toy_text {
	uint32_t length;
	char characters[28];
};

struct toy_function {
	const struct toy_text *name;
	const struct toy_text *file;
	const uint8_t (*code)[2];
	const uint8_t *lines; /* of each instruction, counted from the first line */
	uint32_t count;       /* of instructions */
	uint32_t first_line;
	uint32_t number; /* no other function has it */
};

/* The anchor of an evaluation loop. */
struct toy_loop {
	const char *callers; /* functions and files of C between the loop and its caller's */
};

struct toy_frame {
	struct toy_frame *caller;
	const struct toy_function *function;
	struct toy_loop *loop; /* of the outermost frame of a loop */
	uint64_t position;     /* number of the instruction */
	uint64_t repetitions;
};

enum operation {
	RETURN,
	CALL,    /* function ARGUMENT of the table */
	NATIVE,  /* function ARGUMENT of C */
	RECUR,   /* the function itself; in the ARGUMENT-th call, leaves out the next one */
	SPIN,    /* in window ARGUMENT */
	WARM_UP, /* works without a window */
};

enum {
	WARM,
	WINDOWS,
	OUTER,
	MIDDLE,
	INNER,
	KEY,
	BOUNCE,
	DEEP
};
enum {
	SORT,
	ALTERNATE
};

const uint64_t toy_version = 1;
static const struct toy_function functions[];
static void (*const natives[])(void);
static const char *const names[] = { "flat", "nested", "sorted", "alternating", "deep" };
static __thread struct toy_frame *current;
static int stacks;

/* Returns the innermost frame of this thread, NULL if it runs no function. */
struct toy_frame *toy_current_frame(void)
{
	return current;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static double seconds_of(const char *variable)
{
	const char *value = getenv(variable);

	return value ? atof(value) : 0.1;
}

/* Appends the stack to the file: see `python/known.py`. */
static void write_stack(const char *name)
{
	char line[1 << 14], callers[1 << 10] = "", *end = callers, *word, *next;
	struct toy_frame *frame;
	int inside = 0, length;

	for (frame = current; frame; frame = frame->caller) {
		inside++;
		if (!frame->loop)
			continue;
		char words[64];
		snprintf(words, sizeof(words), "%s", frame->loop->callers);
		for (word = strtok_r(words, " ", &next); word; word = strtok_r(NULL, " ", &next))
			end += sprintf(end, "%s%d:%s", end == callers ? "" : " ", inside, word);
	}
	length = sprintf(line, "%d\t%d\t%s\t%s", getpid(), gettid(), name, callers);
	for (frame = current; frame; frame = frame->caller) {
		const struct toy_function *of = frame->function;
		length += sprintf(line + length, "\t%.*s\t%.*s\t%u\t%u", of->name->length,
		                  of->name->characters, of->file->length, of->file->characters,
		                  of->first_line, of->first_line + of->lines[frame->position]);
	}
	line[length++] = '\n';
	if (write(stacks, line, length) != length)
		abort();
}

static __attribute__((noinline)) void spin(double seconds)
{
	for (double end = now() + seconds; now() < end;)
		;
}

/* A tick may come between any two instructions: a frame is whole before it is current. */
static void enter(const struct toy_function *function, struct toy_loop *loop)
{
	struct toy_frame *frame = calloc(1, sizeof(*frame));

	frame->caller = current;
	frame->function = function;
	frame->loop = loop;
	if (!loop && current->function == function)
		frame->repetitions = current->repetitions + 1;
	__atomic_store_n(&current, frame, __ATOMIC_RELEASE);
}

static struct toy_loop *leave(void)
{
	struct toy_frame *frame = current;
	struct toy_loop *loop = frame->loop;

	__atomic_store_n(&current, frame->caller, __ATOMIC_RELEASE);
	free(frame);
	return loop;
}

/* Runs a function and all that it calls. */
static __attribute__((noinline)) void run(int number, const char *callers)
{
	struct toy_loop loop = { callers };

	enter(&functions[number], &loop);
	for (;;) {
		const uint8_t *instruction = current->function->code[current->position];
		uint8_t argument = instruction[1];
		switch ((enum operation)instruction[0]) {
		case RETURN:
			if (leave() == &loop)
				return;
			break;
		case CALL:
			enter(&functions[argument], NULL);
			continue;
		case RECUR:
			if (current->repetitions < argument) {
				enter(current->function, NULL);
				continue;
			}
			current->position++;
			break;
		case NATIVE:
			natives[argument]();
			break;
		case SPIN:
			write_stack(names[argument]);
			spin(seconds_of("WINDOW_SECONDS"));
			break;
		case WARM_UP:
			spin(seconds_of("WARM_UP_SECONDS"));
			break;
		}
		current->position++;
	}
}

static int compare(const void *a, const void *b)
{
	run(KEY, "compare libc sort");
	return *(const int *)a - *(const int *)b;
}

static __attribute__((noinline)) void sort(void)
{
	int numbers[] = { 2, 1 };

	qsort(numbers, 2, sizeof(*numbers), compare);
}

static __thread int bounces;

static __attribute__((noinline)) void alternate(void)
{
	if (bounces == 6)
		return;
	bounces++;
	run(BOUNCE, "alternate");
	bounces--;
}

static void (*const natives[])(void) = { [SORT] = sort, [ALTERNATE] = alternate };

static const uint8_t warm_up_code[][2] = { { WARM_UP, 0 }, { RETURN, 0 } };
static const uint8_t warm_up_lines[] = { 1, 1 };
static const uint8_t windows_code[][2] = { { SPIN, 0 },           { CALL, OUTER }, { NATIVE, SORT },
	                                   { NATIVE, ALTERNATE }, { CALL, DEEP },  { RETURN, 0 } };
static const uint8_t windows_lines[] = { 1, 2, 3, 5, 250, 250 };
static const uint8_t outer_code[][2] = { { CALL, MIDDLE }, { RETURN, 0 } };
static const uint8_t outer_lines[] = { 0, 1 };
static const uint8_t middle_code[][2] = { { CALL, INNER }, { RETURN, 0 } };
static const uint8_t middle_lines[] = { 2, 3 };
static const uint8_t inner_code[][2] = { { SPIN, 1 }, { RETURN, 0 } };
static const uint8_t inner_lines[] = { 4, 5 };
static const uint8_t key_code[][2] = { { SPIN, 2 }, { RETURN, 0 } };
static const uint8_t key_lines[] = { 6, 7 };
static const uint8_t bounce_code[][2] = { { NATIVE, ALTERNATE }, { SPIN, 3 }, { RETURN, 0 } };
static const uint8_t bounce_lines[] = { 1, 2, 3 };
static const uint8_t deep_code[][2] = { { RECUR, 200 }, { RETURN, 0 }, { SPIN, 4 }, { RETURN, 0 } };
static const uint8_t deep_lines[] = { 1, 1, 2, 3 };

#define TEXT(text) (&(const struct toy_text){ sizeof(text) - 1, text })
#define FUNCTION(of, file, line)                                                                   \
	{                                                                                          \
		TEXT(#of), TEXT(file), of##_code, of##_lines, sizeof(of##_lines), line, 7 * (line) \
	}

static const struct toy_function functions[] = {
	[WARM] = FUNCTION(warm_up, "known.toy", 1),
	[WINDOWS] = FUNCTION(windows, "program.toy", 10),
	[OUTER] = FUNCTION(outer, "program.toy", 270),
	[MIDDLE] = FUNCTION(middle, "program.toy", 280),
	[INNER] = FUNCTION(inner, "program.toy", 290),
	[KEY] = FUNCTION(key, "callbacks.toy", 3),
	[BOUNCE] = FUNCTION(bounce, "callbacks.toy", 20),
	[DEEP] = FUNCTION(deep, "program.toy", 70000),
};

static void *work(void *unused)
{
	run(WINDOWS, "work");
	return unused;
}

int main(void)
{
	pthread_t thread;

	stacks = open(getenv("STACKS") ?: "/dev/null", O_WRONLY | O_APPEND | O_CREAT, 0666);
	write_stack("ready");
	getchar();
	run(WARM, "main");
	run(WINDOWS, "main");
	pthread_create(&thread, NULL, work, NULL);
	pthread_join(thread, NULL);
	write_stack("done");
	while (getchar() != EOF)
		;
	return 0;
}
