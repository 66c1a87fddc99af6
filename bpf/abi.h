/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Everything that crosses the boundary between the BPF programs and the agent:
 * limits, enumerations, and the shape of each record and map value.
 *
 * src/kernel/abi.rs mirrors this file by hand and is compared with the BTF of
 * the compiled programs while the agent builds: a wrong mirror does not compile.
 * Times are nanoseconds of CLOCK_MONOTONIC.
 */
#ifndef EVERYTICK_ABI_H
#define EVERYTICK_ABI_H

#include "types.h"

/* The kernel gives at most this many frames of its own stack (sysctl kernel.perf_event_max_stack). */
#define KERNEL_FRAMES_MAX 127
/* User frames walked before a stack is cut with STACK_END_DEPTH. */
#define USER_FRAMES_MAX 1024
/* The same where the walk goes on by tail calls. */
#define TAIL_CALL_FRAMES_MAX 512
#define COMM_LEN 16

/* The sampler's time in one tick, log-linear: 4 classes to each power of two of nanoseconds. */
#define TIME_CLASSES_PER_POWER 4
#define TIME_CLASSES 128

/* Bytes of stack that a tick takes along when its tables are not there yet: whole pages. */
#define STACK_SNAPSHOT_MAX 65536
/* The same where there is no more, or not the room for it. */
#define STACK_SNAPSHOT_SHORT 16384
#define PAGE_BYTES 4096
#define REGISTERS 16

/* Set in a user frame's address: it is the very instruction where the thread was, no return address. */
#define FRAME_EXACT (1ULL << 63)
/* Set in a user frame's address: it was found by frame pointer with nothing to confirm it. */
#define FRAME_GUESSED (1ULL << 62)

/*
 * Slabs hold mappings and blocks of rows. A place in them is counted in units of 8 bytes:
 * the slab's number above, the place in it below. 0 is no place.
 */
#define SLAB_BYTES (1 << 18)
#define SLAB_UNITS_SHIFT 15
#define SLABS_MAX 4096
/* Blocks of all tables together. */
#define BLOCKS_MAX 65536
/* In `blocks`: there are no rows here, and there will be none. */
#define BLOCK_EMPTY 1
/* In `blocks`: there are rows, but no room for them. */
#define BLOCK_REFUSED 2
#define PROCESSES_MAX 16384
/* Mappings of one process: they lie in one slab. */
#define MAPPINGS_MAX 8000

/* struct rule: what its operation is. See unwind/src/rule.rs. */
#define RULE_OP_GAP 0
#define RULE_OP_ROOT 1
#define RULE_OP_REGISTER 2
#define RULE_OP_AT_REGISTER 3
#define RULE_OP_PLT 4
#define RULE_OP_SIGNAL 5
#define RULE_OP_FRAME_POINTER 6
#define RULE_GAP_NO_ROW 0
/* struct rule: where a register is saved. -63 to 63 but 0: so many words from the CFA. */
#define RULE_SAVED_SAME 0
#define RULE_SAVED_IN 64
#define RULE_SAVED_UNKNOWN 126
#define RULE_SAVED_AT_FP 127

/* How a tick ended. Every tick ends in exactly one of these. */
enum outcome {
	OUTCOME_DELIVERED,		/* its record is in the ring */
	OUTCOME_LOST_RING_FULL,		/* it had a sequence number, but the ring had no room */
	OUTCOME_SKIPPED_IDLE,		/* the idle task, and --idle was not given */
	OUTCOME_SKIPPED_PROCESS,	/* not among the processes asked for */
	OUTCOME_SKIPPED_CGROUP,		/* not below the cgroups asked for */
	OUTCOME_SKIPPED_COMM,		/* neither thread nor process has a name asked for */
	OUTCOME_SKIPPED_MODE,		/* only frames of a mode left out by --no-kernel or --no-user */
	OUTCOME_SKIPPED_NAMESPACE,	/* invisible from the agent's pid namespace */
	OUTCOMES,
};

/* Why a kernel or user stack ends where it ends. */
enum stack_end {
	STACK_END_ABSENT,		/* there is no such stack, or it was not asked for */
	STACK_END_COMPLETE,		/* complete */
	STACK_END_DEPTH,		/* more frames than the limit */
	STACK_END_NO_ROW,		/* no row for an address, and no frame pointer that leads on */
	STACK_END_RETURN_ADDRESS,	/* what should be a return address is not a user address */
	STACK_END_UNREADABLE,		/* stack memory could not be read */
	STACK_END_32_BIT,		/* 32-bit code, which is not unwound */
	STACK_END_KERNEL_REFUSED,	/* the kernel gave no stack */
	STACK_END_NO_MAPPING,		/* an address in no executable mapping */
	STACK_END_NOT_EXPRESSIBLE,	/* a rule that cannot be followed */
	STACK_END_WORK_LIMIT,		/* the tick took too long */
	STACK_END_NO_TABLE,		/* the rows of an executable were not there yet, and there is no stack snapshot */
	STACK_END_SNAPSHOT_END,		/* agent only: the stack snapshot ended */
	STACK_ENDS,
};

/* Set in sample.flags: the user stack is not walked to its end; the rest follows as struct unfinished tells. */
#define SAMPLE_UNFINISHED 1

/*
 * One sample as it lies in the ring: this header, then kernel_frames and then
 * user_frames addresses of 8 bytes, each innermost first. The innermost address
 * is an instruction, the others are return addresses.
 */
struct sample {
	u64 time;
	u64 sequence;		/* counts this CPU's samples from 0, lost ones included */
	u64 cgroup_id;		/* in the cgroup v2 hierarchy */
	u32 pid;		/* process, as the agent's pid namespace numbers it */
	u32 tid;		/* thread, likewise */
	u32 cpu;
	u16 kernel_frames;
	u16 user_frames;
	u8 kernel_end;		/* enum stack_end */
	u8 user_end;		/* enum stack_end */
	u8 flags;		/* SAMPLE_* */
	u8 reserved[5];
	u8 comm[COMM_LEN];	/* of the thread, NUL-terminated */
};

/* Set in registers.known. */
#define KNOWN_FP 1
#define KNOWN_BASE 2
#define KNOWN_ALL 4	/* `all` holds the registers of this frame */

/* Where a thread stands in one frame. */
struct registers {
	u64 ip;
	u64 sp;
	u64 fp;
	u64 base;
	u32 known;
	u32 is_return;	/* 1 when ip is a return address: it belongs to the call before it */
	u64 all[REGISTERS];	/* by DWARF number, as far as KNOWN_ALL says so */
};

/*
 * A sample that is to be finished, with all that the agent needs to go on with the walk. Records in the ring that are
 * reserved have fixed sizes, so this has room.
 */
struct unfinished {
	struct sample sample;
	u64 words[KERNEL_FRAMES_MAX + USER_FRAMES_MAX];	/* frames, of which those count that the sample tells */
	struct registers at;		/* the frame taken last */
	u64 bytes;			/* of the stack, from the beginning of the page that its red zone begins in */
	u8 stack[STACK_SNAPSHOT_MAX];	/* or STACK_SNAPSHOT_SHORT */
};

/* A process's executable mappings: this in a slab, then the mappings in the order of their addresses. */
struct process {
	u32 pid;		/* as the agent's pid namespace numbers it */
	u32 count;
	u64 stamp;		/* when it got its memory: see `stamps` */
};

/* A mapping, in a slab. */
struct mapping {
	u64 start;
	u64 end;
	u64 text;		/* bytes from the start of its table's text to `start` */
	u32 first_block;	/* of its table, in `blocks` */
	u32 block_shift;	/* bytes of text that a block covers, as a power of two */
};

/* How to get from a frame to its caller; unwind/src/rule.rs writes it. */
struct rule {
	s32 offset;
	u8 op_register;		/* RULE_OP_* below, the number of a register above */
	s8 fp;
	s8 base;
	s8 ra;
};

/* What one CPU's sampler counted: a per-CPU map with this one element. */
struct counters {
	u64 ticks;
	u64 outcomes[OUTCOMES];
	u64 time_total;				/* nanoseconds spent in ticks */
	u64 time_max;				/* nanoseconds of the longest tick */
	u64 time_classes[TIME_CLASSES];		/* ticks by their time */
	u64 descendants_missed;			/* child processes that could not be followed */
	u64 copies;				/* ticks that took a copy of their stack along */
};

/* Read-only settings, fixed before the programs load. */
struct settings {
	u8 kernel_stacks;
	u8 user_stacks;
	u8 idle;
	u8 filter_processes;	/* only `pids` and `descendants` */
	u8 filter_cgroups;	/* only at or below `cgroups` */
	u8 filter_comms;	/* only `comms` */
	u8 perf_samples;	/* have perf write its own record of each tick with a user stack */
	u8 reserved;
	u32 kernel_frames_limit;	/* at most KERNEL_FRAMES_MAX */
	u32 pid_namespace;	/* inode number of the agent's pid namespace, 0 when it is the first */
	u32 launcher;		/* the agent's own pid in that namespace: its child is the COMMAND */
	u32 ring_wakeup_bytes;	/* wake the reader once this much is unread */
	u32 ring_snapshot_bytes;	/* take no stacks along once this much is unread */
	u32 tick_limit;		/* nanoseconds after which a stack is cut */
	u32 user_frames_limit;	/* at most USER_FRAMES_MAX */
};

/* Key of `cgroups`: ids are unique within one hierarchy only. */
struct cgroup_key {
	u64 id;			/* inode number of the directory */
	u64 hierarchy;		/* as in /proc/PID/cgroup, 0 is cgroup v2 */
};

/* Key of `comms`. */
struct comm_key {
	u8 name[COMM_LEN];
};

#endif
