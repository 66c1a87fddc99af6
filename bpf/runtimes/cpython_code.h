/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Describes a code object of CPython: name, file name and line table, as the process holds them.
 * Exactly the bytes of an object are read: the page behind it may not exist. Tests compile this
 * file for the host.
 */
#ifndef EVERYTICK_RUNTIMES_CPYTHON_CODE_H
#define EVERYTICK_RUNTIMES_CPYTHON_CODE_H

#include "cpython.h"

/* A longer text is malformed. */
#define CPYTHON_TEXT_MAX (1U << 28)

/* A str: where its data is. */
struct cpython_text {
	u64 data;
	u64 length; /* in characters */
	u32 width;  /* bytes of a character, 0 for ASCII */
};

/* Reads the head of a str; returns false if it cannot, or if the str is not a compact one. */
static inline bool cpython_read_text(struct interpreter *in, u64 address, struct cpython_text *text)
{
	const struct cpython_layout *layout = cpython_layout_of(in);
	u64 *words = cpython_walk_of(in)->text_words;
	u64 bytes = (u64)layout->text_state + 4 - layout->text_length;

	if (bytes > sizeof(cpython_walk_of(in)->text_words))
		bytes = sizeof(cpython_walk_of(in)->text_words);
	if (!read_user(words, bytes, address + layout->text_length))
		return false;
	u32 state_at = (layout->text_state - layout->text_length) & 28;
	u32 state = *(const u32 *)((const u8 *)words + state_at) >> (layout->text_kind_shift & 31);
	u32 kind = state & 7;
	bool is_compact = state & 8, is_ascii = state & 16;

	text->length = words[0];
	text->width = is_ascii ? 0 : kind;
	text->data = address + (is_ascii ? layout->text_ascii : layout->text_compact);
	return is_compact && (kind == 1 || kind == 2 || kind == 4) &&
	       text->length <= CPYTHON_TEXT_MAX;
}

/* Returns the bytes of a text's data. */
static inline u64 cpython_text_bytes(const struct cpython_text *text)
{
	return text->length * (text->width ? text->width : 1);
}

/* Copies the start of the name into the record; returns the number of bytes. */
static inline u64 cpython_copy_name(struct interpreter *in, u64 address)
{
	struct cpython_text text = {};

	if (!cpython_read_text(in, address, &text))
		return 0;
	u64 bytes = cpython_text_bytes(&text);
	in->code.name_length = text.length;
	in->code.name_width = text.width;
	if (bytes > CODE_NAME_MAX)
		bytes = CODE_NAME_MAX;
	return read_user(in->code_bytes, bytes, text.data) ? bytes : 0;
}

/* Copies the end of the file name into the record at an offset; returns the number of bytes. */
static inline u64 cpython_copy_file(struct interpreter *in, u64 address, u64 at)
{
	struct cpython_text text = {};

	if (at > CODE_NAME_MAX || !cpython_read_text(in, address, &text))
		return 0;
	u64 all = cpython_text_bytes(&text), bytes = all;
	in->code.file_length = text.length;
	in->code.file_width = text.width;
	if (bytes > CODE_FILE_MAX)
		bytes = CODE_FILE_MAX;
	return read_user(in->code_bytes + at, bytes, text.data + (all - bytes)) ? bytes : 0;
}

/* Copies the start of the line table into the record at an offset; returns the number of bytes. */
static inline u64 cpython_copy_lines(struct interpreter *in, u64 address, u64 at)
{
	const struct cpython_layout *layout = cpython_layout_of(in);
	u64 bytes;

	if (at > CODE_NAME_MAX + CODE_FILE_MAX ||
	    !read_pointer(&bytes, address + layout->bytes_length) || bytes > CPYTHON_TEXT_MAX)
		return 0;
	in->code.lines_length = bytes;
	if (bytes > CODE_LINES_MAX)
		bytes = CODE_LINES_MAX;
	return read_user(in->code_bytes + at, bytes, address + layout->bytes_data) ? bytes : 0;
}

/* Fills the record of the walk's code object. */
static inline void cpython_describe(struct interpreter *in)
{
	struct cpython_walk *walk = cpython_walk_of(in);
	const struct cpython_layout *layout = cpython_layout_of(in);
	u32 start = walk->code_start;

	if (!cpython_read_code(walk, walk->code))
		return;
	in->code.first_line = int_in(walk->code_words, layout->code_first_line - start);
	u64 name = cpython_copy_name(in, word_in(walk->code_words, layout->code_name - start));
	in->code.name_bytes = name;
	u64 file =
		cpython_copy_file(in, word_in(walk->code_words, layout->code_file - start), name);
	in->code.file_bytes = file;
	in->code.lines_bytes = cpython_copy_lines(
		in, word_in(walk->code_words, layout->code_line_table - start), name + file);
}

#endif
