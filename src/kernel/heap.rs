//! The heap of this process, as the C library manages it: what is free goes back to the kernel.
//!
//! Each thread would have a heap of its own, and keep what it once needed: the table of one large executable takes 25 MiB for a
//! tenth of a second.

/// Bytes from which on memory is asked of the kernel, and given back when it is free. The C library would raise this bound to
/// the largest piece that it has ever seen.
const LARGE: i32 = 256 << 10;

/// Lets all threads share one heap, without what is large. To be called while there is only one.
pub fn share_heap() {
    // SAFETY: it sets numbers, and there is no other thread yet.
    #[cfg(target_env = "gnu")]
    let _ = unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE)
    };
}

/// Gives the free pages of the heap back to the kernel. Other threads wait for memory meanwhile, for about a millisecond.
pub fn trim_heap() {
    // SAFETY: it takes the locks of the heap like any allocation does, and touches free memory alone.
    #[cfg(target_env = "gnu")]
    let _ = unsafe { libc::malloc_trim(0) };
}
