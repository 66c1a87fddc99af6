//! Names of code that comes into the kernel and leaves it: BPF programs and trampolines.
//!
//! The kernel reports when such code comes and when it leaves, with its name. So a sample has the
//! name of the code that was at its address then. The kernel's list of symbols is read later: what
//! has left is not in it, and what has come instead is.
//!
//! Code that was there before the recording has the name of that list, or of its report if it
//! leaves meanwhile.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use profile::{JitNameId, Pid};

use super::perf_maps::{JitNameGap, JitNames};
use crate::events::KernelCodeEvent;
use crate::limits::Owner;

/// Symbols at once. Beyond, code has the names of the kernel's list.
const SYMBOLS_MAX: usize = 1 << 16;
/// In the place of the process that JIT code belongs to.
const KERNEL: Pid = Pid(0);

#[derive(Debug)]
struct KernelSymbol {
    end: u64,
    /// `None` if it was there before the recording.
    name: Option<Arc<str>>,
    /// The key of the name, once a frame has it.
    id: Option<JitNameId>,
}

/// The code that is in the kernel at the time of the events so far, by its first address. Ranges do
/// not overlap.
#[derive(Debug, Default)]
pub(super) struct KernelSymbols(BTreeMap<u64, KernelSymbol>);

impl KernelSymbols {
    /// Adds code that was there before the recording.
    pub fn add_unnamed(&mut self, addresses: Range<u64>) {
        self.add(addresses, None);
    }

    /// Applies an event. `names`: of frames that have none yet.
    pub fn apply(&mut self, event: KernelCodeEvent, names: &mut JitNames) {
        let KernelCodeEvent { start, end, name, is_removed } = event;
        if !is_removed {
            return self.add(start.0..end.0, Some(name.into()));
        }
        let removed = self.0.remove(&start.0);
        if let Some(id) = removed.and_then(|symbol| symbol.id) {
            names.set(id, Ok(name.into()));
        }
    }

    fn add(&mut self, addresses: Range<u64>, name: Option<Arc<str>>) {
        let Range { start, end } = addresses;
        // What is there has left, and its event was missed.
        while let Some((before, symbol)) = self.0.range(..end).next_back()
            && symbol.end > start
        {
            let before = *before;
            self.0.remove(&before);
        }
        if start < end && self.0.len() < SYMBOLS_MAX {
            self.0.insert(start, KernelSymbol { end, name, id: None });
        }
    }

    /// Returns the key of the name at an address; `None` if no such code is there, or its name does
    /// not fit into memory.
    pub fn name_at(&mut self, address: u64, names: &mut JitNames) -> Option<JitNameId> {
        let (_, symbol) = self.0.range_mut(..=address).next_back()?;
        if address >= symbol.end {
            return None;
        }
        if !symbol.id.is_some_and(|id| names.contains(id)) {
            let name = symbol.name.clone().ok_or(JitNameGap::NoEntry);
            symbol.id = names.add(KERNEL, Owner::SYSTEM, name);
        }
        symbol.id
    }
}

#[cfg(test)]
mod tests {
    use profile::VirtAddr;

    use super::*;
    use crate::limits::SharedPool;

    fn event(addresses: Range<u64>, name: &str, is_removed: bool) -> KernelCodeEvent {
        let (start, end) = (VirtAddr(addresses.start), VirtAddr(addresses.end));
        KernelCodeEvent { start, end, name: name.into(), is_removed }
    }

    #[test]
    fn frames_have_the_name_of_their_time() {
        let mut names = JitNames::new(SharedPool::new(1 << 20));
        let mut symbols = KernelSymbols::default();
        let text = |names: &JitNames, id| names.get(id).map(|(name, _)| name);
        symbols.apply(event(100..200, "first", false), &mut names);
        let first = symbols.name_at(150, &mut names).expect("it is there");
        assert_eq!(symbols.name_at(199, &mut names), Some(first));
        assert_eq!([99, 200].map(|at| symbols.name_at(at, &mut names)), [None; 2]);
        symbols.apply(event(100..200, "first", true), &mut names);
        assert_eq!(symbols.name_at(150, &mut names), None);
        symbols.apply(event(120..180, "second", false), &mut names);
        let second = symbols.name_at(150, &mut names).expect("it is there");
        assert_eq!(text(&names, first), Some(Ok("first".into())));
        assert_eq!(text(&names, second), Some(Ok("second".into())));
    }

    #[test]
    fn code_from_before_is_named_when_it_leaves() {
        let mut names = JitNames::new(SharedPool::new(1 << 20));
        let mut symbols = KernelSymbols::default();
        symbols.add_unnamed(100..200);
        let id = symbols.name_at(100, &mut names).expect("it is there");
        assert_eq!(names.get(id).map(|(name, _)| name), Some(Err(JitNameGap::NoEntry)));
        symbols.apply(event(100..200, "old", true), &mut names);
        assert_eq!(names.get(id).map(|(name, _)| name), Some(Ok("old".into())));
    }

    #[test]
    fn code_whose_end_was_missed_is_replaced() {
        let mut names = JitNames::new(SharedPool::new(1 << 20));
        let mut symbols = KernelSymbols::default();
        for addresses in [100..200, 200..300, 300..400] {
            symbols.apply(event(addresses, "missed", false), &mut names);
        }
        symbols.apply(event(150..350, "new", false), &mut names);
        assert_eq!(symbols.0.keys().copied().collect::<Vec<u64>>(), [150]);
        symbols.apply(event(500..500, "empty", false), &mut names);
        symbols.apply(event(7..9, "never seen", true), &mut names);
        assert_eq!(symbols.0.len(), 1);
    }
}
