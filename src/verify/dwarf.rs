//! The third unwinder, used where the other two differ: DWARF as the file has it, with every
//! register.
//!
//! Slow and simple: gimli evaluates the row and the expressions of each frame from the registers
//! and the stack snapshot in perf's record ([`unwind::dwarf`]). Neither our rows nor frame pointers
//! are used.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use profile::{ExecutableId, VirtAddr};
use unwind::arch::SP;
use unwind::dwarf::{DwarfStep, DwarfUnwinder};

use super::comparison::{UnwoundStack, WalkEnd};
use crate::events::{PerfSample, UserFrame};
use crate::processes::{AddressSpace, Executables};

/// Files whose call frames are cached.
const FILES_MAX: usize = 64;

/// Which of the two unwinders DWARF agrees with about the next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DwarfAgreement {
    /// With ours.
    Ours,
    /// With framehop.
    Framehop,
    /// With neither.
    Neither,
    /// The file has no DWARF for the address, or it needs memory that is not in the snapshot.
    Unknown,
}

impl DwarfAgreement {
    /// Returns the text for reports.
    pub fn text(self) -> &'static str {
        match self {
            Self::Ours => "agrees with ours",
            Self::Framehop => "agrees with framehop",
            Self::Neither => "agrees with neither",
            Self::Unknown => "says nothing here",
        }
    }
}

/// Decides between two stacks by the DWARF of the files, whose functions it caches.
#[derive(Default)]
pub(super) struct DwarfArbiter {
    files: HashMap<ExecutableId, Option<DwarfUnwinder>>,
}

/// The caller of a frame by DWARF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    At(u64),
    /// None: the frame is the root.
    Root,
    /// None: the return address is outside code, possibly 0.
    OutsideCode,
}

impl DwarfArbiter {
    /// Returns which of the stacks has the right frame after `agreed`, the frames they share.
    pub fn decide(
        &mut self,
        (ours, theirs): (&UnwoundStack, &UnwoundStack),
        agreed: &[UserFrame],
        memory: &AddressSpace,
        executables: &Executables,
        sample: &PerfSample,
    ) -> DwarfAgreement {
        let Some(caller) = self.caller(agreed, memory, executables, sample) else {
            return DwarfAgreement::Unknown;
        };
        let is_right = |stack: &UnwoundStack| match (caller, stack.frames.get(agreed.len())) {
            (Caller::At(address), Some(frame)) => *frame == address,
            (Caller::Root, None) => stack.end == WalkEnd::Complete,
            (Caller::OutsideCode, None) => true,
            _ => false,
        };
        match (is_right(ours), is_right(theirs)) {
            (true, false) => DwarfAgreement::Ours,
            (false, true) => DwarfAgreement::Framehop,
            (false, false) => DwarfAgreement::Neither,
            (true, true) => DwarfAgreement::Unknown, // they do not differ
        }
    }

    /// Unwinds to the last of these frames and returns its caller; `None` if DWARF leads elsewhere.
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
            let unwinder = self.unwinder(at.executable, executables)?;
            let caller = match unwinder.step(at.address.0, &registers, &read) {
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
                    let call = VirtAddr(caller.ra.wrapping_sub(1));
                    let is_code = memory.find(call).is_some();
                    return Some(if is_code { Caller::At(caller.ra) } else { Caller::OutsideCode });
                }
            }
        }
        None
    }

    fn unwinder(&mut self, id: ExecutableId, executables: &Executables) -> Option<&DwarfUnwinder> {
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

fn word(stack: &[u8], offset: u64) -> Option<u64> {
    let offset = usize::try_from(offset).ok()?;
    Some(u64::from_ne_bytes(stack.get(offset..offset.checked_add(8)?)?.try_into().ok()?))
}
