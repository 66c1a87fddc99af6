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
#define COMM_LEN 16

/* The sampler's time in one tick, log-linear: 4 classes to each power of two of nanoseconds. */
#define TIME_CLASSES_PER_POWER 4
#define TIME_CLASSES 128

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
	STACK_END_BOTTOM,		/* complete */
	STACK_END_DEPTH,		/* more frames than the limit */
	STACK_END_FRAME_POINTER,	/* the chain of frame pointers ended or was broken */
	STACK_END_RETURN_ADDRESS,	/* what should be a return address is not a user address */
	STACK_END_UNREADABLE,		/* stack memory could not be read */
	STACK_END_32_BIT,		/* 32-bit code, which is not unwound */
	STACK_END_KERNEL_REFUSED,	/* the kernel gave no stack */
	STACK_END_NO_MAPPING,		/* agent only: a return address in no executable mapping */
	STACK_ENDS,
};

/* Set in sample.flags when a user frame was found by frame pointer with nothing to confirm it. */
#define SAMPLE_GUESSED 1

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

/* What one CPU's sampler counted: a per-CPU map with this one element. */
struct counters {
	u64 ticks;
	u64 outcomes[OUTCOMES];
	u64 time_total;				/* nanoseconds spent in ticks */
	u64 time_max;				/* nanoseconds of the longest tick */
	u64 time_classes[TIME_CLASSES];		/* ticks by their time */
	u64 family_full;			/* child processes that could not be followed */
};

/* Read-only settings, fixed before the programs load. */
struct settings {
	u8 kernel_stacks;
	u8 user_stacks;
	u8 idle;
	u8 filter_processes;	/* only `pids` and `family` */
	u8 filter_cgroups;	/* only at or below `cgroups` */
	u8 filter_comms;	/* only `comms` */
	u8 reserved[2];
	u32 kernel_frames_limit;	/* at most KERNEL_FRAMES_MAX */
	u32 pid_namespace;	/* inode number of the agent's pid namespace, 0 when it is the first */
	u32 launcher;		/* the agent's own pid in that namespace: its child is the COMMAND */
	u32 ring_wakeup_bytes;	/* wake the reader once this much is unread */
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
