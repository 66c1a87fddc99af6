/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Reads frames that lie one below the other, as on the stacks of most interpreters. One read of
 * user memory takes longer than all else that a frame needs, and a long one hardly longer than a
 * short one. Tests compile this file for the host.
 */
#ifndef EVERYTICK_RUNTIMES_FRAME_WINDOW_H
#define EVERYTICK_RUNTIMES_FRAME_WINDOW_H

#include "interpreter.h"

/* Bytes that are read at once: up to the end of a frame, and not below the page it begins in. */
#define WINDOW_BYTES 1024
/* A frame this far below the one before is taken for the next one on the same stack. */
#define WINDOW_DISTANCE_MAX PAGE_BYTES
/* The first words hold a frame that was read alone, the others the window. */
#define WINDOW_WORDS (2048 / sizeof(u64))

_Static_assert(STRUCTURE_BYTES + WINDOW_BYTES <= WINDOW_WORDS * sizeof(u64), "the window fits");

struct frame_window {
	u64 start; /* first address of the window */
	u64 end;   /* address behind it */
	u64 last;  /* address of the last frame, 0 before the first */
	u64 at;    /* bytes into `words` at which the last frame is */
	u64 words[WINDOW_WORDS];
};

static inline void start_window(struct frame_window *window)
{
	window->start = window->end = window->last = 0;
}

/* Fills the window with the bytes up to an address; returns false if it cannot. */
static inline bool fill_window(struct frame_window *window, u64 frame, u64 end)
{
	u64 page = frame & ~(PAGE_BYTES - 1ULL), start = (end - WINDOW_BYTES + 7) & ~7ULL;

	if (start < page)
		start = page;
	u64 bytes = end - start;
	if (bytes > WINDOW_BYTES)
		bytes = WINDOW_BYTES;
	window->start = start;
	window->end = 0;
	if (!read_user(window->words + STRUCTURE_WORDS, bytes, start))
		return false;
	window->end = end;
	return true;
}

/* Reads the first bytes of a frame; returns false if it cannot. */
static inline bool read_frame(struct frame_window *window, u64 bytes, u64 frame)
{
	u64 end = frame + bytes, distance = window->last - frame;
	bool is_inside = frame >= window->start && end <= window->end;

	window->last = frame;
	if (is_inside || (distance < WINDOW_DISTANCE_MAX && fill_window(window, frame, end))) {
		window->at = STRUCTURE_BYTES + (frame - window->start);
		return true;
	}
	window->at = 0;
	return read_structure(window->words, bytes, frame);
}

/* The fields of the last frame. One that was not read is taken from elsewhere in `words`. */
static inline const void *frame_field(const struct frame_window *window, u32 field, u64 bytes)
{
	u64 at = (window->at + field) & (sizeof(window->words) - bytes);

	return (const u8 *)window->words + at;
}

static inline u64 frame_word(const struct frame_window *window, u32 field)
{
	return *(const u64 *)frame_field(window, field, sizeof(u64));
}

static inline u32 frame_int(const struct frame_window *window, u32 field)
{
	return *(const u32 *)frame_field(window, field, sizeof(u32));
}

static inline u8 frame_byte(const struct frame_window *window, u32 field)
{
	return *(const u8 *)frame_field(window, field, sizeof(u8));
}

#endif
