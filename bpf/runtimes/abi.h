/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The part of the binary interface that is about interpreters: the runtime of a process as the
 * agent publishes it, and the records of interpreter frames. ../abi.h includes this file and says
 * how the agent mirrors it.
 */
#ifndef EVERYTICK_RUNTIMES_ABI_H
#define EVERYTICK_RUNTIMES_ABI_H

#include "../types.h"

/* The runtime of a process. */
enum runtime_kind {
	RUNTIME_NONE,
	RUNTIME_CPYTHON,
	RUNTIMES,
};

enum interpreter_limit {
	/* Elements of a list of interpreter frames, entries included. */
	INTERPRETER_FRAMES_MAX = 1024,
	/* The same limit where the kernel has no bpf_loop. */
	TAIL_CALL_INTERPRETER_FRAMES_MAX = 512,
	/* Bytes of a code object's name, from its start. */
	CODE_NAME_MAX = 256,
	/* Bytes of its file name, up to the end. */
	CODE_FILE_MAX = 256,
	/* Bytes of its line table, from the start. */
	CODE_LINES_MAX = 4096,
	/* Code objects that a tick sends at most: a chain of imports has up to 15. */
	CODE_RECORDS_PER_TICK = 16,
	/* Code objects that are remembered as sent. */
	CODE_TAGS = 65536,
	/* Words for the layout of a runtime's structures. */
	RUNTIME_LAYOUT_WORDS = 8,
};

/*
 * The second word of a record in the ring that is no sample. A sample has its sequence number
 * there, which counts from 0.
 */
enum record_marker {
	RECORD_MARKER_INTERPRETER = -1,
	RECORD_MARKER_CODE = -2,
};

#define RECORD_INTERPRETER ((u64)(s64)RECORD_MARKER_INTERPRETER)
#define RECORD_CODE ((u64)(s64)RECORD_MARKER_CODE)

/* A bit of interpreter_frame.code that user addresses leave free. */
enum interpreter_flag_bit {
	/* An entry into the interpreter; the other bits are the address of its anchor. */
	INTERPRETER_ENTRY_BIT = 63,
};

#define INTERPRETER_ENTRY (1ULL << INTERPRETER_ENTRY_BIT)

/* Positions that are no offset of an instruction. */
enum special_position {
	POSITION_UNKNOWN = -1,
	POSITION_BEFORE = -2, /* the first instruction comes next */
};

/*
 * A frame of interpreted code, or an entry. The interpreter keeps a record on the C stack for each
 * entry into its evaluation loop: the anchor. An entry ends the group of frames that this loop
 * evaluates.
 */
struct interpreter_frame {
	u64 code; /* address of the code object; of an entry: INTERPRETER_ENTRY and its anchor */
	/*
	 * In the low half the byte offset of the instruction in the bytecode, or a
	 * special_position. In the high half the fingerprint of the code object, 0 if it could not
	 * be read; code of the interpreter itself may have 0, too.
	 * Of an entry: the number of the native user frame that the anchor lies in, 0 for the
	 * innermost, ~0 if the native walk did not reach it.
	 */
	u64 position;
};

/* Why a list of interpreter frames ends. */
enum interpreter_end {
	INTERPRETER_END_COMPLETE,
	INTERPRETER_END_DEPTH, /* more frames than the limit, or than fit into the tick's time */
	INTERPRETER_END_UNREADABLE, /* a frame could not be read */
	INTERPRETER_END_MALFORMED,  /* a frame is not one: no address, unknown owner, a loop */
	INTERPRETER_END_NO_THREAD,  /* the thread runs no interpreter; no record has this */
	INTERPRETER_ENDS,
};

/*
 * The interpreter frames of a sample: a record right before the sample's own. `count` elements
 * follow, innermost first.
 */
struct interpreter_record {
	u64 time;     /* of the sample */
	u64 marker;   /* RECORD_INTERPRETER */
	u64 sequence; /* of the sample, on its CPU */
	u32 pid;      /* process, in the agent's pid namespace */
	u32 cpu;
	u16 count;
	u8 kind; /* enum runtime_kind */
	u8 end;  /* enum interpreter_end */
	u32 reserved;
};

/*
 * A code object: a record of the first tick that sees it, before the tick's other records. The
 * bytes of name, file name and line table follow. A part that could not be read has no bytes.
 */
struct code_record {
	u64 time;
	u64 marker; /* RECORD_CODE */
	u64 code;   /* address of the code object */
	u32 pid;    /* process, in the agent's pid namespace */
	u32 fingerprint;
	u32 first_line;
	u32 name_length;  /* of all of it, in characters */
	u32 file_length;  /* of all of it, in characters */
	u32 lines_length; /* of all of it, in bytes */
	u16 name_bytes;
	u16 file_bytes;
	u16 lines_bytes;
	u8 name_width; /* bytes of a character: 1, 2 or 4; 0 is ASCII */
	u8 file_width; /* likewise */
	u8 kind;       /* enum runtime_kind */
	u8 reserved[7];
};

/* Where a thread keeps a pointer of its own. */
enum thread_value_kind {
	THREAD_VALUE_NONE,
	THREAD_VALUE_STATIC,  /* at an offset from the thread pointer */
	THREAD_VALUE_DYNAMIC, /* in the block of a module that was loaded later */
	THREAD_VALUE_KEY,     /* under a key of pthread_getspecific */
	THREAD_VALUE_KINDS,
};

struct thread_value {
	/*
	 * DYNAMIC: of the words {module, offset} that __tls_get_addr takes. KEY: of the key, an
	 * int; in a Py_tss_t it is behind the int `is_initialized`.
	 */
	u64 address;
	s32 offset; /* STATIC: from the thread pointer; DYNAMIC: added to the second word */
	u32 kind;   /* enum thread_value_kind */
};

/* The C library, which determines how thread values are stored. */
enum libc_kind {
	LIBC_GLIBC,
	LIBC_MUSL,
};

/* The runtime of a process, in the slab behind its mappings: see process_header.runtime. */
struct runtime_process {
	u64 state;                     /* address of the runtime's state */
	struct thread_value values[2]; /* of the thread state: the first that is not 0 counts */
	u32 specific; /* from the thread pointer: glibc's pthread_specific, musl's tsd */
	u16 libc;     /* enum libc_kind */
	u16 epoch;    /* changes when the agent wants all code objects again */
	u64 layout[RUNTIME_LAYOUT_WORDS]; /* struct NAME_layout, see runtime.h */
};

_Static_assert(sizeof(struct interpreter_record) % 8 == 0 && sizeof(struct code_record) % 8 == 0 &&
                       sizeof(struct runtime_process) % 8 == 0,
               "no padding at the end");

#endif
