/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The state of a walk over interpreter frames, which all runtimes share, and the list that it
 * fills. Tests compile this file for the host.
 */
#ifndef EVERYTICK_RUNTIMES_INTERPRETER_H
#define EVERYTICK_RUNTIMES_INTERPRETER_H

#include "../abi.h"
#include "../user_memory.h"

/* Words for the state of a runtime's own walk. */
#define RUNTIME_STATE_WORDS 320

/* The records of a tick while they are written, and the state of the walk. It lies in a map. */
struct interpreter {
	struct runtime_process process; /* as published */
	u64 generation;                 /* of the process's memory: see `generations` */
	u64 thread_pointer;
	u64 state[RUNTIME_STATE_WORDS]; /* of the runtime's own walk */
	u64 last_code;                  /* rate limit of code records */
	u32 codes;                      /* code records of this tick */
	u32 entries;                    /* elements of `frames` that are entries */
	u32 next_entry;                 /* the first of them that the native walk has not passed */
	u16 entry_numbers[INTERPRETER_FRAMES_MAX]; /* their numbers in `frames` */
	/* The record of interpreter frames. */
	struct interpreter_record record;
	struct interpreter_frame frames[INTERPRETER_FRAMES_MAX];
	/* The record of a code object. */
	struct code_record code;
	u8 code_bytes[CODE_NAME_MAX + CODE_FILE_MAX + CODE_LINES_MAX];
};

/* Results of a step, as bpf_loop takes them. */
#define INTERPRETER_CONTINUE 0
#define INTERPRETER_STOP 1

/*
 * Sees to it that the agent knows a code object whose frame is in the list. The including file
 * defines it; it may call the runtime's function that describes code objects.
 */
static inline void meet_code(struct interpreter *in, u64 code, u32 fingerprint);

/* Ends the walk; returns what the step returns then. */
static inline long end_interpreter(struct interpreter *in, u8 end)
{
	in->record.end = end;
	return INTERPRETER_STOP;
}

/* Appends an element to the list; returns false, with the end set, if the list is full. */
static inline bool push_interpreter_frame(struct interpreter *in, u64 code, u64 position)
{
	u32 count = in->record.count;

	if (count >= INTERPRETER_FRAMES_MAX) {
		in->record.end = INTERPRETER_END_DEPTH;
		return false;
	}
	in->frames[count].code = code;
	in->frames[count].position = position;
	in->record.count = count + 1;
	return true;
}

/* Appends an entry to the list; returns false, with the end set, if the list is full. */
static inline bool push_interpreter_entry(struct interpreter *in, u64 anchor)
{
	u32 entries = in->entries, number = in->record.count;

	if (!push_interpreter_frame(in, anchor | INTERPRETER_ENTRY, ~0ULL))
		return false;
	in->entry_numbers[entries % INTERPRETER_FRAMES_MAX] = number;
	in->entries = entries + 1;
	return true;
}

/* Returns whether an address can be that of an object: aligned, and of user memory. */
static inline bool is_object_address(u64 address)
{
	return (address & 7) == 0 && is_user_address(address);
}

/* Fields of a structure that was read into `words`. One that was not is taken from elsewhere. */
#define STRUCTURE_WORDS 16
#define STRUCTURE_BYTES (STRUCTURE_WORDS * sizeof(u64))

static inline u64 word_in(const u64 *words, u32 offset)
{
	return *(const u64 *)((const u8 *)words + (offset & (STRUCTURE_BYTES - 8)));
}

static inline u32 int_in(const u64 *words, u32 offset)
{
	return *(const u32 *)((const u8 *)words + (offset & (STRUCTURE_BYTES - 4)));
}

/* Reads the first bytes of a structure; returns false if it cannot. */
static inline bool read_structure(u64 *words, u64 bytes, u64 address)
{
	if (bytes > STRUCTURE_BYTES)
		bytes = STRUCTURE_BYTES;
	return read_user(words, bytes, address);
}

/* Mixes a word into a hash. */
static inline u64 hash_word(u64 hash, u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

#endif
