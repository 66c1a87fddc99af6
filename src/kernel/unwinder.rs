//! Chooses between the two unwinders of the kernel side, by the helpers that the kernel supports.

use libbpf_rs::{ProgramType, libbpf_sys};

use super::abi::{TAIL_CALL_FRAMES_MAX, USER_FRAMES_MAX};

/// How the BPF programs walk a user stack. The step from frame to frame is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::manual_non_exhaustive)] // tests construct the hidden variant
pub enum Unwinder {
    /// In a `bpf_loop` (Linux 5.17).
    Loop,
    /// By tail calls: see `bpf/tail_call_unwinder.h`.
    TailCalls,
    /// By tail calls that all fail: for tests.
    #[doc(hidden)]
    BrokenTailCalls,
}

impl Unwinder {
    /// Returns the better one of those that this kernel supports.
    pub fn of_this_kernel() -> Self {
        if is_supported(libbpf_sys::BPF_FUNC_loop) { Self::Loop } else { Self::TailCalls }
    }

    /// Returns the number of user frames after which a stack is cut.
    pub fn frames_max(self) -> u32 {
        match self {
            Self::Loop => USER_FRAMES_MAX,
            Self::TailCalls | Self::BrokenTailCalls => TAIL_CALL_FRAMES_MAX,
        }
    }
}

/// Returns whether this kernel has the BPF ring buffer (Linux 5.8), which the sampler requires.
pub fn has_ring_buffer() -> bool {
    is_supported(libbpf_sys::BPF_FUNC_ringbuf_output)
}

/// If the kernel does not answer, for want of permission, loading the programs will report why.
fn is_supported(helper: libbpf_sys::bpf_func_id) -> bool {
    ProgramType::PerfEvent.is_helper_supported(helper).unwrap_or(true)
}
