//! The third opinion, asked where the two walks part: DWARF as the file has it, with every register.
//!
//! Slow and plain: gimli evaluates each frame's row and expressions from the registers and the stack that
//! perf copied ([`unwind::dwarf`]); neither our rows nor a frame pointer are used.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use profile::{ExecutableId, VirtAddr};
use unwind::arch::SP;
use unwind::dwarf::{DwarfStep, DwarfUnwinder};

use super::verdict::{End, Stack};
use crate::events::{PerfSample, UserFrame};
use crate::processes::{AddressSpace, Executables};

/// Files whose call frames are kept in memory.
const FILES_MAX: usize = 64;

/// With whom DWARF agrees on what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Opinion {
    /// With ours.
    Ours,
    /// With framehop.
    Theirs,
    /// It says something else.
    Neither,
    /// The file says nothing of this place, or what it says needs what was not copied.
    Nothing,
}

impl Opinion {
    /// Says it in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Ours => "agrees with ours",
            Self::Theirs => "agrees with framehop",
            Self::Neither => "agrees with neither",
            Self::Nothing => "says nothing here",
        }
    }
}

/// Reads DWARF, and keeps what it has read.
#[derive(Default)]
pub(super) struct Dwarf {
    files: HashMap<ExecutableId, Option<DwarfUnwinder>>,
}

/// What DWARF says of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    At(u64),
    /// It is the outermost frame.
    Root,
    /// What should be a return address is outside code, 0 perhaps.
    Nowhere,
}

impl Dwarf {
    /// Says who is right behind the frames on which ours and theirs agree. `agreed`: those frames.
    pub fn opinion(
        &mut self,
        (ours, theirs): (&Stack, &Stack),
        agreed: &[UserFrame],
        memory: &AddressSpace,
        executables: &Executables,
        sample: &PerfSample,
    ) -> Opinion {
        let Some(caller) = self.caller(agreed, memory, executables, sample) else {
            return Opinion::Nothing;
        };
        let says_it = |stack: &Stack| match (caller, stack.frames.get(agreed.len())) {
            (Caller::At(address), Some(frame)) => *frame == address,
            (Caller::Root, None) => stack.end == End::Complete,
            (Caller::Nowhere, None) => true,
            _ => false,
        };
        match (says_it(ours), says_it(theirs)) {
            (true, false) => Opinion::Ours,
            (false, true) => Opinion::Theirs,
            (false, false) => Opinion::Neither,
            (true, true) => Opinion::Nothing, // they do not part
        }
    }

    /// Walks up to the last of these frames, and gives its caller; `None` when DWARF does not lead there.
    fn caller(
        &mut self,
        agreed: &[UserFrame],
        memory: &AddressSpace,
        executables: &Executables,
        sample: &PerfSample,
    ) -> Option<Caller> {
        let start = sample.snapshot.registers[usize::from(SP.number())];
        let is_missing = Cell::new(false);
        let read = |address: u64| {
            let word = word(&sample.snapshot.stack, address.wrapping_sub(start));
            word.unwrap_or_else(|| {
                is_missing.set(true);
                0
            })
        };
        let mut registers = sample.snapshot.registers;
        for (depth, frame) in agreed.iter().enumerate() {
            let at = executables.resolve(memory, frame.lookup_address())?;
            let reference = self.reference(at.executable, executables)?;
            let caller = match reference.caller(at.address.0, &registers, &read) {
                DwarfStep::Caller(caller) => caller,
                DwarfStep::Root if depth + 1 == agreed.len() => return Some(Caller::Root),
                DwarfStep::Root | DwarfStep::NoFunction | DwarfStep::Failed => return None,
            };
            if is_missing.get() {
                return None;
            }
            match agreed.get(depth + 1) {
                Some(next) if next.address.0 != caller.ra => return None,
                Some(_) => registers = caller.registers.map(Option::unwrap_or_default),
                None => {
                    let place = VirtAddr(caller.ra.wrapping_sub(1));
                    let is_code = memory.find(place).is_some();
                    return Some(if is_code { Caller::At(caller.ra) } else { Caller::Nowhere });
                }
            }
        }
        None
    }

    fn reference(&mut self, id: ExecutableId, executables: &Executables) -> Option<&DwarfUnwinder> {
        if self.files.len() >= FILES_MAX && !self.files.contains_key(&id) {
            self.files.clear();
        }
        let read = || executables.get(id).file().and_then(read);
        self.files.entry(id).or_insert_with(read).as_ref()
    }
}

fn read(file: &File) -> Option<DwarfUnwinder> {
    let at = |offset: u64, bytes: &mut [u8]| file.read_exact_at(bytes, offset).is_ok();
    DwarfUnwinder::read(&at).ok()
}

fn word(stack: &[u8], into: u64) -> Option<u64> {
    let into = usize::try_from(into).ok()?;
    Some(u64::from_ne_bytes(stack.get(into..into.checked_add(8)?)?.try_into().ok()?))
}
