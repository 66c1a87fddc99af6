//! Rows derived from machine code, for text that no call-frame information covers.
//!
//! Each function is followed from its first instruction, where the return address is on top of
//! the stack, along all its paths. On the way the distance of the stack pointer from there is
//! known at each instruction, and so are the places of saved registers. Where a wrong row cannot be
//! excluded there is none, and the reason is counted.
//!
//! ```text
//! image       what the file says of its code: symbols, relocations
//! mentions    the addresses that code and data mention
//! derivation  finds all functions of a file
//!   function    one function, each instruction labelled with what is known there
//!     framed      follows one that sets up a frame pointer first
//!     walk        follows the paths of any other; branch, jump_table: where they lead
//!     callees     whether a called function returns
//!     transfer    what an instruction does to the state
//! rule        a state as an unwind rule
//! gaps        the code that no other source has rows for
//! parts       the same for a part of the code of a large file
//! check       compares with call-frame information
//! ```
//!
//! # Hostile input
//!
//! The bytes of code, the addresses of each kind, the instructions, blocks and visits of a function
//! and the instructions of a file are bounded. Any bytes decode to something or end a path.

mod addresses;
mod branch;
mod callees;
mod check;
mod code;
mod derivation;
mod flow;
mod framed;
mod function;
mod gaps;
mod image;
mod jump_table;
mod mentions;
mod noreturn;
mod operands;
mod padding;
mod parts;
mod path;
mod program;
mod prologue;
mod reason;
mod rows;
mod rule;
mod starts;
mod state;
#[cfg(test)]
mod tests;
mod transfer;
mod value;
mod walk;

pub use check::{
    DerivedDifference, DerivedReport, GapReport, KnownStarts, check_derived, check_gaps,
};
pub use gaps::{DerivedRows, derive, derive_hidden};
pub use parts::PartDeriver;
pub use reason::Reason;
