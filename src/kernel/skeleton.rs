//! The generated skeleton of `bpf/`: programs, maps, and the types in their BTF.

#[allow(clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/everytick.skel.rs"));
}

pub(super) use generated::*;
