//! The C library's heap: one for all threads, which returns free memory to the kernel.
//!
//! By default each thread has a heap of its own, and keeps its peak: the table of one large
//! executable takes 25 MiB for a tenth of a second.

/// Size from which the C library maps an allocation by itself, and unmaps it when it is freed.
/// Without this setting the threshold would rise to the largest allocation ever freed.
const LARGE_BYTES: i32 = 256 << 10;

/// Makes all threads share one heap, apart from large allocations. Call it before threads start.
pub fn share_heap() {
    // SAFETY: this sets numbers, and no other thread exists yet.
    #[cfg(target_env = "gnu")]
    let _ = unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES)
    };
}

/// Returns free pages of the heap to the kernel. Allocations of other threads wait meanwhile, for
/// about a millisecond.
pub fn trim_heap() {
    // SAFETY: this locks the heap as an allocation does, and touches free memory only.
    #[cfg(target_env = "gnu")]
    let _ = unsafe { libc::malloc_trim(0) };
}
