/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Walks the frames of CPython, 3.7 and later, by the layout that the agent publishes. Tests compile
 * this file for the host.
 *
 * A thread holds the frames that it runs, and the frames hold their code objects, so nothing that
 * is read here can be freed meanwhile. The list is written without locks: a tick between two stores
 * of a call can see a frame that is half made, or one that has just ended.
 */
#ifndef EVERYTICK_RUNTIMES_CPYTHON_H
#define EVERYTICK_RUNTIMES_CPYTHON_H

#include "frame_window.h"
#include "thread_value.h"

/* How CPython writes down which instruction a frame is at. */
enum position_kind {
	POSITION_BYTES,   /* an int: bytes from the start of the bytecode */
	POSITION_UNITS,   /* an int: units of 2 bytes */
	POSITION_POINTER, /* a pointer to the instruction */
};

/* How CPython's entries into the evaluation loop are found. */
enum entry_kind {
	ENTRY_NONE,        /* not at all (3.7 to 3.9) */
	ENTRY_CFRAME_EACH, /* every frame has one, a cframe (3.10) */
	ENTRY_CFRAME_LAST, /* a frame with `is_entry` is the last of its cframe (3.11) */
	ENTRY_FRAME,       /* frames with an owner from `entry_owner` on are entries (3.12) */
};

/* Byte offsets in CPython's structures. 0 stands for a field that the version does not have. */
struct cpython_layout {
	u16 thread_frame;  /* PyThreadState: the current frame, unless that is in the cframe */
	u16 thread_cframe; /* PyThreadState: the current cframe */
	u16 cframe_frame; /* cframe: the current frame, at 0 too; used if there is no thread_frame */
	u16 cframe_previous;
	u16 frame_code; /* at 0 too */
	u16 frame_previous;
	u16 frame_position;
	u16 frame_owner; /* ENTRY_CFRAME_LAST: `is_entry` */
	u16 code_first_line;
	u16 code_name; /* the qualified name, if there is one */
	u16 code_file;
	u16 code_line_table;
	u16 code_version;  /* 0: see cpython_read_fingerprint */
	u16 code_bytecode; /* start of the bytecode, for POSITION_POINTER */
	u16 text_length;   /* str: its length in characters */
	u16 text_state;    /* str: the bit field that holds the kind */
	u16 text_ascii;    /* str: data if it is ASCII */
	u16 text_compact;  /* str: data if it is compact and not ASCII */
	u16 bytes_length;
	u16 bytes_data;
	u8 text_kind_shift; /* of the 3 bits of the kind; then come `compact` and `ascii` */
	u8 position_kind;   /* enum position_kind */
	u8 entry_kind;      /* enum entry_kind */
	u8 entry_owner;     /* ENTRY_FRAME: the least owner of an entry */
	u8 code_tag_mask;   /* bits of frame_code that are no part of the address */
	u8 reserved[3];
};

/* Owners of frames that exist (enum _frameowner, 3.14). */
#define CPYTHON_OWNER_MAX 4
/* A frame less than this above the start of a thread state lies in it: the base frame of 3.15. */
#define CPYTHON_THREAD_BYTES 4096
/* Of a str, up to 3.11: the hash of its content, which names of code have from the start. */
#define CPYTHON_TEXT_HASH 24
/* Bytecode is shorter. */
#define CPYTHON_BYTECODE_MAX (1U << 31)

struct cpython_walk {
	u64 thread;      /* PyThreadState */
	u64 frame;       /* the next one */
	u64 cframe;      /* that of `frame` */
	u32 frame_bytes; /* that are read of a frame, from its start */
	u32 code_bytes;  /* that are read of a code object, from `code_start` on */
	u32 code_start;
	u32 fingerprint; /* of `code` */
	u64 code;        /* the last code object */
	u64 code_words[STRUCTURE_WORDS];
	u64 text_words[4];
	struct frame_window window; /* with the last frame */
};

_Static_assert(sizeof(struct cpython_walk) <= RUNTIME_STATE_WORDS * sizeof(u64),
               "the state of the walk fits");
_Static_assert(sizeof(struct cpython_layout) <= RUNTIME_LAYOUT_WORDS * sizeof(u64),
               "the layout fits");

static inline struct cpython_walk *cpython_walk_of(struct interpreter *in)
{
	return (struct cpython_walk *)in->state;
}

static inline const struct cpython_layout *cpython_layout_of(const struct interpreter *in)
{
	return (const struct cpython_layout *)in->process.layout;
}

static inline u32 larger_of(u32 a, u32 b)
{
	return a > b ? a : b;
}

/* Determines which bytes of frames and code objects are read: those with the fields. */
static inline void cpython_measure(struct cpython_walk *walk, const struct cpython_layout *layout)
{
	u32 position_bytes = layout->position_kind == POSITION_POINTER ? 8 : 4;
	u32 frame = larger_of(layout->frame_code, layout->frame_previous) + 8;
	u32 code = larger_of(layout->code_name, layout->code_file);

	frame = larger_of(frame, layout->frame_position + position_bytes);
	walk->frame_bytes = larger_of(frame, layout->frame_owner + 1);
	walk->code_start = layout->code_first_line & ~7U;
	walk->code_bytes = larger_of(code, layout->code_line_table) + 8 - walk->code_start;
}

/* Finds the current frame of the current thread; returns false, with the end set, if it cannot. */
static inline bool cpython_start(struct interpreter *in)
{
	struct cpython_walk *walk = cpython_walk_of(in);
	const struct cpython_layout *layout = cpython_layout_of(in);
	bool is_read = true;

	walk->frame = walk->cframe = walk->code = 0;
	start_window(&walk->window);
	walk->thread = read_thread_value(in, &in->process.values[0]);
	if (!walk->thread)
		walk->thread = read_thread_value(in, &in->process.values[1]);
	if (!walk->thread) {
		in->record.end = INTERPRETER_END_NO_THREAD;
		return false;
	}
	if (layout->thread_cframe)
		is_read = read_pointer(&walk->cframe, walk->thread + layout->thread_cframe);
	u64 current = layout->thread_frame ? walk->thread + layout->thread_frame
	                                   : walk->cframe + layout->cframe_frame;
	is_read = is_read && read_pointer(&walk->frame, current);
	in->record.end = is_read ? INTERPRETER_END_COMPLETE : INTERPRETER_END_UNREADABLE;
	cpython_measure(walk, layout);
	return walk->frame;
}

/* Reads the fields of a code object into `code_words`; returns false if it cannot. */
static inline bool cpython_read_code(struct cpython_walk *walk, u64 code)
{
	return read_structure(walk->code_words, walk->code_bytes, code + walk->code_start);
}

/*
 * Reads the fingerprint of a code object: its version, a number that no other one has. Before 3.12:
 * the upper half of a hash over first line, the addresses of name, file name and line table, and
 * the hash of the name. An object that takes the place of a freed one may have all but the last.
 * Returns false if it cannot.
 */
static inline bool cpython_read_fingerprint(struct cpython_walk *walk,
                                            const struct cpython_layout *layout, u64 code)
{
	const u64 *words = walk->code_words;
	u32 start = walk->code_start;

	/* The rest of the object is most likely not in the CPU's cache. */
	if (layout->code_version)
		return read_user(&walk->fingerprint, sizeof(u32), code + layout->code_version);
	if (!cpython_read_code(walk, code))
		return false;
	u64 name = word_in(words, layout->code_name - start), content = 0;
	read_user(&content, sizeof(content), name + CPYTHON_TEXT_HASH); /* 0 if it cannot */
	u64 hash = hash_word(0, int_in(words, layout->code_first_line - start));
	hash = hash_word(hash_word(hash, name), content);
	hash = hash_word(hash, word_in(words, layout->code_file - start));
	walk->fingerprint = hash_word(hash, word_in(words, layout->code_line_table - start)) >> 32;
	return true;
}

/*
 * Returns the offset in the bytecode of the instruction that a frame is at: POSITION_BEFORE if the
 * first one comes next, POSITION_UNKNOWN if it can be none.
 */
static inline u32 cpython_position(const struct cpython_walk *walk,
                                   const struct cpython_layout *layout, u64 code)
{
	s64 offset = (s32)frame_int(&walk->window, layout->frame_position);

	if (layout->position_kind == POSITION_POINTER)
		offset = frame_word(&walk->window, layout->frame_position) - code -
		         layout->code_bytecode;
	else if (layout->position_kind == POSITION_UNITS)
		offset *= 2;
	if (offset == -1 || offset == -2)
		return POSITION_BEFORE;
	return (u64)offset < CPYTHON_BYTECODE_MAX ? offset : POSITION_UNKNOWN;
}

/* Makes a code object the last one; a function that calls itself has the same in each frame. */
static inline void cpython_enter_code(struct interpreter *in, struct cpython_walk *walk, u64 code)
{
	if (walk->code == code)
		return;
	walk->code = code;
	walk->fingerprint = 0;
	if (cpython_read_fingerprint(walk, cpython_layout_of(in), code))
		meet_code(in, code, walk->fingerprint);
}

/* Appends the last frame read; returns false, with the end set, if it cannot. */
static inline bool cpython_push_frame(struct interpreter *in, struct cpython_walk *walk)
{
	const struct cpython_layout *layout = cpython_layout_of(in);
	u64 code = frame_word(&walk->window, layout->frame_code) & ~(u64)layout->code_tag_mask;

	if (!is_object_address(code)) {
		in->record.end = INTERPRETER_END_MALFORMED;
		return false;
	}
	cpython_enter_code(in, walk, code);
	u32 position = cpython_position(walk, layout, code);
	return push_interpreter_frame(in, code, (u64)walk->fingerprint << 32 | position);
}

/* Appends the entry that the current cframe is, and goes on to the one before it. */
static inline bool cpython_push_cframe(struct interpreter *in, struct cpython_walk *walk)
{
	u64 cframe = walk->cframe;

	if (!is_object_address(cframe)) {
		in->record.end = INTERPRETER_END_MALFORMED;
		return false;
	}
	if (!read_pointer(&walk->cframe, cframe + cpython_layout_of(in)->cframe_previous)) {
		in->record.end = INTERPRETER_END_UNREADABLE;
		return false;
	}
	return push_interpreter_entry(in, cframe);
}

/* Appends the next frame and what it ends, and goes on to the one that called it. */
static inline long cpython_step(struct interpreter *in)
{
	struct cpython_walk *walk = cpython_walk_of(in);
	const struct cpython_layout *layout = cpython_layout_of(in);
	u64 frame = walk->frame;
	u32 owner = 0;
	bool is_pushed;

	if (!is_object_address(frame))
		return end_interpreter(in, INTERPRETER_END_MALFORMED);
	if (!read_frame(&walk->window, walk->frame_bytes, frame))
		return end_interpreter(in, INTERPRETER_END_UNREADABLE);
	walk->frame = frame_word(&walk->window, layout->frame_previous);
	if (layout->frame_owner)
		owner = frame_byte(&walk->window, layout->frame_owner);
	if (walk->frame == frame || owner > CPYTHON_OWNER_MAX)
		return end_interpreter(in, INTERPRETER_END_MALFORMED);

	if (layout->entry_kind == ENTRY_FRAME && owner >= layout->entry_owner) {
		if (frame - walk->thread < CPYTHON_THREAD_BYTES)
			return end_interpreter(in, INTERPRETER_END_COMPLETE);
		is_pushed = push_interpreter_entry(in, frame);
	} else {
		bool ends_group = layout->entry_kind == ENTRY_CFRAME_EACH ||
		                  (layout->entry_kind == ENTRY_CFRAME_LAST && owner);
		is_pushed = cpython_push_frame(in, walk) &&
		            (!ends_group || cpython_push_cframe(in, walk));
	}
	if (!is_pushed)
		return INTERPRETER_STOP;
	return walk->frame ? INTERPRETER_CONTINUE : end_interpreter(in, INTERPRETER_END_COMPLETE);
}

#endif
