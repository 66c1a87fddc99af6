/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The binary interface between the BPF programs and the agent: limits, enumerations, and the layout
 * of each record and map value. Nothing else crosses the kernel boundary.
 *
 * Constants are enums, because BTF describes enums and not macros. src/kernel/abi.rs takes the
 * constants from the BTF of the compiled programs, and mirrors the structures by hand; the build
 * compares sizes, offsets and types, so a wrong mirror does not compile. BTF holds what `abi_types`
 * in sampler.bpf.c refers to.
 *
 * Times are nanoseconds of CLOCK_MONOTONIC.
 */
#ifndef EVERYTICK_ABI_H
#define EVERYTICK_ABI_H

#include "types.h"
#include "runtimes/abi.h"

enum stack_limit {
	/* Frames of a kernel stack at most: default of sysctl kernel.perf_event_max_stack. */
	KERNEL_FRAMES_MAX = 127,
	/* User frames walked before a stack is cut with STACK_END_DEPTH. */
	USER_FRAMES_MAX = 1024,
	/* The same limit for the tail-call unwinder. */
	TAIL_CALL_FRAMES_MAX = 512,
	/* General registers. */
	REGISTERS = 16,
	/* Bytes of a task's name, NUL included. */
	COMM_LEN = 16,
};

/* Bytes of stack that a tick takes along when unwind tables are missing: whole pages. */
enum snapshot_size {
	STACK_SNAPSHOT_MAX = 65536,
	/* Taken when the stack is shorter than that, or the ring fills up. */
	STACK_SNAPSHOT_SHORT = 16384,
	PAGE_BYTES = 4096,
};

/* The sampler's time in one tick, log-linear: 4 classes to each power of two of nanoseconds. */
enum time_class_limit {
	TIME_CLASSES_PER_POWER = 4,
	TIME_CLASSES = 128,
};

/*
 * Bits of a user frame's address. User addresses leave them free; those of the vsyscall page end
 * with a repetition of the bit below.
 */
enum frame_flag_bit {
	/* Found by frame pointer, and no unwind row confirms it. */
	FRAME_GUESSED_BIT = 62,
	/* The frame is at the address itself, not behind a call or system call: see is_behind. */
	FRAME_EXACT_BIT = 63,
};

#define FRAME_GUESSED (1ULL << FRAME_GUESSED_BIT)
#define FRAME_EXACT (1ULL << FRAME_EXACT_BIT)

/*
 * Slabs hold mappings and blocks of rows. A slot in a slab is addressed by 32 bits: the slab's
 * number above, the unit within the slab below. Slots 0 to BLOCK_REFUSED do not exist: `blocks`
 * uses these numbers for states.
 */
enum slab_layout {
	SLAB_BYTES = 1 << 18,
	SLAB_UNIT_BYTES = 8,
	SLAB_UNITS_SHIFT = 15,
	SLABS_MAX = 4096,
};

_Static_assert(SLAB_BYTES == SLAB_UNIT_BYTES << SLAB_UNITS_SHIFT, "a slot addresses a whole slab");

enum map_limit {
	/* Blocks of all unwind tables together. */
	BLOCKS_MAX = 65536,
	PROCESSES_MAX = 16384,
	/* Mappings of one process: they lie in one slab. */
	MAPPINGS_MAX = 8000,
};

/* Values of `blocks` that are not slots. 0: the table is not loaded yet. */
enum block_state {
	/* The block has no rows and never will. */
	BLOCK_EMPTY = 1,
	/* The block has rows, but they do not fit or are in backoff. */
	BLOCK_REFUSED = 2,
};

/* The operation of a struct rule: how to find the CFA. See unwind/src/rule.rs. */
enum rule_op {
	RULE_OP_GAP = 0,
	RULE_OP_ROOT = 1,
	RULE_OP_REGISTER = 2,
	RULE_OP_AT_REGISTER = 3,
	RULE_OP_PLT = 4,
	RULE_OP_SIGNAL = 5,
	RULE_OP_FRAME_POINTER = 6,
	RULE_OP_AT_INDEX = 7,
	RULE_OP_OUTSIDE = 8,
	RULE_OPS,
};

/* The offset of a rule with RULE_OP_GAP: why there is no rule. */
enum rule_gap {
	RULE_GAP_NO_ROW = 0,
	RULE_GAP_NOT_EXPRESSIBLE = 1,
	RULE_GAP_PENDING = 2, /* a row may be derived later */
	RULE_GAPS,
};

/* Where a register is saved. N from -63 to 63, except 0: N words from the CFA. */
enum rule_saved {
	RULE_SAVED_SAME_VALUE = 0,
	/* In another register: its number is added. */
	RULE_SAVED_IN_REGISTER = 64,
	/* Of a return address: a signal handler has pushed it where a call would have. */
	RULE_SAVED_INTERRUPTED = 124,
	/* Of a return address: one word below the CFA. A zero there is the root of the stack. */
	RULE_SAVED_RETURN_OR_ROOT = 125,
	RULE_SAVED_UNDEFINED = 126,
	RULE_SAVED_AT_FP = 127,
};

/* How a tick ended. Every tick ends in exactly one of these. */
enum outcome {
	OUTCOME_DELIVERED,         /* its record is in the ring */
	OUTCOME_LOST_RING_FULL,    /* it has a sequence number, but the ring was full */
	OUTCOME_SKIPPED_IDLE,      /* the idle task, without --idle */
	OUTCOME_SKIPPED_PROCESS,   /* not one of the selected processes */
	OUTCOME_SKIPPED_CGROUP,    /* not at or below a selected cgroup */
	OUTCOME_SKIPPED_COMM,      /* neither thread nor process has a selected name */
	OUTCOME_SKIPPED_MODE,      /* only frames that --no-kernel or --no-user leaves out */
	OUTCOME_SKIPPED_NAMESPACE, /* invisible from the agent's pid namespace */
	OUTCOMES,
};

/* Why a kernel or user stack ends where it ends. */
enum stack_end {
	STACK_END_ABSENT, /* there is no such stack, or it was not requested */
	STACK_END_COMPLETE,
	STACK_END_DEPTH,              /* more frames than the limit */
	STACK_END_NO_ROW,             /* no unwind row, and no frame pointer that leads on */
	STACK_END_BAD_RETURN_ADDRESS, /* the return address is not a user address */
	STACK_END_UNREADABLE,         /* stack memory could not be read */
	STACK_END_32_BIT,             /* 32-bit code, which is not unwound */
	STACK_END_KERNEL_UNAVAILABLE, /* the kernel returned no stack */
	STACK_END_NO_MAPPING,         /* an address in no executable mapping */
	STACK_END_NOT_EXPRESSIBLE,    /* a rule that cannot be followed */
	STACK_END_TIME_LIMIT,         /* the tick took too long */
	STACK_END_NO_TABLE,     /* the unwind table is not loaded, and there is no stack snapshot */
	STACK_END_SNAPSHOT_END, /* set by the agent only: the stack snapshot ended */
	STACK_END_MAPPINGS_UNREAD,  /* set by the agent only: not all mappings are known */
	STACK_END_MAPPING_REPLACED, /* set by the agent only: a mapping was out of date */
	STACK_END_GUESSED, /* set by the agent only: complete, but for frames that are guesses */
	STACK_ENDS,
};

/* Flags of a struct sample. */
enum sample_flag {
	/* The walk stopped early: the record is a struct unfinished_sample. */
	SAMPLE_UNFINISHED = 1,
};

/*
 * The head of a record in the ring. kernel_frames and then user_frames addresses of 8 bytes follow,
 * each stack innermost first. The innermost kernel address is an instruction, the others are return
 * addresses; user addresses have FRAME_EXACT and FRAME_GUESSED.
 */
struct sample {
	u64 time;
	u64 sequence;  /* counts this CPU's samples from 0, lost ones included */
	u64 cgroup_id; /* in the cgroup v2 hierarchy */
	u32 pid;       /* process, in the agent's pid namespace */
	u32 tid;       /* thread, likewise */
	u32 cpu;
	u16 kernel_frames;
	u16 user_frames;
	u8 kernel_end; /* enum stack_end */
	u8 user_end;   /* enum stack_end */
	u8 flags;      /* enum sample_flag */
	u8 reserved[5];
	u8 comm[COMM_LEN]; /* of the thread, NUL-terminated */
};

/* Flags of registers.known: which values of the frame are known. */
enum known_register {
	KNOWN_FP = 1,
	KNOWN_BASE = 2,
	KNOWN_ALL = 4,    /* `all` holds the registers of this frame: it was interrupted */
	KNOWN_CALLEE = 8, /* `all` holds the registers of the frame that this one called */
};

/* The registers of one frame. */
struct registers {
	u64 ip;
	u64 sp;
	u64 fp;
	u64 base;
	u32 known;          /* enum known_register */
	u32 is_behind;      /* 1 if ip is behind the instruction that the frame is at: see step.h */
	u64 all[REGISTERS]; /* by DWARF number, if KNOWN_ALL is set */
};

/*
 * A sample whose walk the agent finishes, with everything it needs to continue: registers and a
 * stack snapshot. A record that is reserved in the ring has a fixed size, so the frames take their
 * maximum here.
 */
struct unfinished_sample {
	struct sample sample;
	u64 frames[KERNEL_FRAMES_MAX + USER_FRAMES_MAX]; /* as many are valid as `sample` counts */
	struct registers registers;                      /* of the last frame */
	u64 stack_bytes;                                 /* valid bytes of `stack` */
	u8 stack[]; /* from the start of the page that the red zone begins in */
};

/*
 * A record in the ring, told from a sample by its size: a process has moved code to another address
 * by mremap. perf has no record of that.
 */
struct moved_code {
	u64 time;
	u64 missed; /* moves on this CPU since the last record, which came too fast */
	u32 pid;    /* process, in the agent's pid namespace */
	u32 reserved;
};

_Static_assert(sizeof(struct moved_code) < sizeof(struct sample) &&
                       sizeof(struct moved_code) < sizeof(struct interpreter_record) &&
                       sizeof(struct moved_code) < sizeof(struct code_record),
               "the size tells which it is");

/*
 * The head of a process's executable mappings in a slab; the mappings follow, by address, and then
 * a struct runtime_process if the process has a runtime.
 */
struct process_header {
	u32 pid; /* in the agent's pid namespace */
	u32 count;
	u64 generation; /* when its address space was created: see `generations` */
	u32 is_partial; /* 1 if the process has more mappings than are published */
	u32 runtime;    /* enum runtime_kind */
};

/* One executable mapping, in a slab. */
struct mapping_entry {
	u64 start;
	u64 end;
	u64 text_offset; /* of `start`, from the start of its table's text */
	u32 first_block; /* of its table, in `blocks` */
	u32 block_shift; /* log2 of the bytes of text that a block covers */
};

_Static_assert(sizeof(struct process_header) + MAPPINGS_MAX * sizeof(struct mapping_entry) +
                               sizeof(struct runtime_process) <=
                       SLAB_BYTES,
               "the mappings of a process fit a slab, and its runtime");

/* How to get from a frame to its caller; unwind/src/rule.rs writes it. */
struct rule {
	s32 offset;
	u8 op_register; /* enum rule_op in the low half, a register number in the high half */
	s8 fp;          /* enum rule_saved, as are the next two */
	s8 base;
	s8 ra;
};

/* What one CPU's sampler counted: the one element of a per-CPU map. */
struct counters {
	u64 ticks;
	u64 outcomes[OUTCOMES];
	u64 time_total;                 /* nanoseconds spent in ticks */
	u64 time_max;                   /* nanoseconds of the longest tick */
	u64 time_classes[TIME_CLASSES]; /* ticks by their time */
	u64 descendants_missed;         /* child processes of COMMAND that could not be followed */
};

/* Configuration of the programs, fixed before they load. */
struct sampler_config {
	u8 kernel_stacks;
	u8 user_stacks;
	u8 idle;
	u8 filter_processes; /* only `pids` and `descendants`, beside what `filter_threads` selects */
	u8 filter_cgroups;   /* only at or below `cgroups` */
	u8 filter_comms;     /* only `comms` */
	u8 perf_samples;     /* have perf write its own record of each tick with a user stack */
	u8 filter_threads;   /* only `tids`, beside what `filter_processes` selects */
	u8 runtimes;         /* walk interpreter frames of processes whose runtime is published */
	u8 reserved[3];
	u32 kernel_frames_limit; /* at most KERNEL_FRAMES_MAX */
	u32 user_frames_limit;   /* at most USER_FRAMES_MAX */
	u32 pid_namespace; /* inode of the agent's pid namespace, 0 if that is the initial one */
	u32 ring_wakeup_bytes;   /* unread bytes at which the reader is woken */
	u32 ring_snapshot_bytes; /* unread bytes above which snapshots are short; above 1.5 times as
	                            many, none is taken */
	u32 tick_limit;          /* nanoseconds after which a tick cuts its stack */
};

/* Key of `cgroups`: an id is unique within one hierarchy only. */
struct cgroup_key {
	u64 id;        /* inode number of the directory */
	u64 hierarchy; /* as in /proc/PID/cgroup; 0 is cgroup v2 */
};

/* Key of `comms`. */
struct comm_key {
	u8 name[COMM_LEN];
};

#endif
