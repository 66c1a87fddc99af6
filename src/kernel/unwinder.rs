//! Which of the two unwinders a kernel can run, found by asking it.

use libbpf_rs::{ProgramType, libbpf_sys};

use super::abi::{TAIL_CALL_FRAMES_MAX, USER_FRAMES_MAX};

/// How the kernel walks a user stack. The step from frame to frame is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::manual_non_exhaustive)] // the hidden one is made, by tests
pub enum Unwinder {
    /// In a `bpf_loop` (Linux 5.17).
    Loop,
    /// By tail calls: see `bpf/tail_call_unwinder.h`.
    TailCalls,
    /// By tail calls that all fail: for tests.
    BrokenTailCalls,
}

impl Unwinder {
    /// Gives the better one of those that this kernel can run.
    pub fn of_this_kernel() -> Self {
        if is_supported(libbpf_sys::BPF_FUNC_loop) { Self::Loop } else { Self::TailCalls }
    }

    /// User frames after which a stack is cut.
    pub fn frames_max(self) -> u32 {
        match self {
            Self::Loop => USER_FRAMES_MAX,
            Self::TailCalls | Self::BrokenTailCalls => TAIL_CALL_FRAMES_MAX,
        }
    }
}

/// Tells whether this kernel has what no sampler of ours can do without: the BPF ring buffer (Linux 5.8).
pub fn has_ring_buffer() -> bool {
    is_supported(libbpf_sys::BPF_FUNC_ringbuf_output)
}

/// Where the kernel gives no answer, because we may not ask, loading the programs will tell why.
fn is_supported(helper: libbpf_sys::bpf_func_id) -> bool {
    ProgramType::PerfEvent.is_helper_supported(helper).unwrap_or(true)
}
