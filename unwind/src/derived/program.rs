//! A file, as the derivation reads it.

use std::rc::Rc;

use super::callees::Callees;
use super::code::Code;
use super::image::Image;
use super::mentions::Mentions;
use super::transfer::Transfer;
use crate::elf::Elf;

/// A file, with what is learned of it while its functions are followed.
pub(super) struct Program<'a> {
    pub elf: &'a Elf<'a>,
    pub code: Code<'a>,
    pub image: Rc<Image>,
    pub mentions: Mentions,
    pub callees: Callees,
    pub transfer: Transfer,
    /// Whether jump tables of unknown length are followed: only once other data is known, at which
    /// they end at the latest.
    pub follows_open_tables: bool,
    /// Code that begins with setting up a frame pointer is followed by that alone: registers that
    /// such functions save are not known then.
    pub follows_frames: bool,
    /// Whether the code was written by hand: compilers describe theirs.
    pub is_hand_written: bool,
    /// Instructions that may still be interpreted.
    pub instructions_left: u64,
}
