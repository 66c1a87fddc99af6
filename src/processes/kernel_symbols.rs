//! Names of code that comes into the kernel and leaves it: BPF programs and trampolines.
//!
//! The kernel reports when such code comes and when it leaves, with its name. So a sample has the
//! name of the code that was at its address then. The kernel's list of symbols is read later: what
//! has left is not in it, and what has come instead is.
//!
//! Code that was there before the recording has the name of that list, or of its report if it
//! leaves meanwhile.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use profile::CodeNameId;

use super::code_name_gap::CodeNameGap;
use super::code_names::{CodeName, CodeNames};
use crate::events::KernelCodeEvent;
use crate::limits::Owner;

/// Symbols at once.
const SYMBOLS_MAX: usize = 1 << 16;
/// Symbols of code that has left. Samples from before may wait for their tables.
const REMOVED_MAX: usize = 256;

#[derive(Debug)]
struct KernelSymbol {
    end: u64,
    /// When it came, nanoseconds of CLOCK_MONOTONIC; 0 if it was there before the recording.
    since: u64,
    /// `None` if its coming was not reported.
    name: Option<Arc<str>>,
    /// The key of the name, once a frame has it.
    id: Option<CodeNameId>,
}

#[derive(Debug)]
struct RemovedSymbol {
    start: u64,
    until: u64,
    symbol: KernelSymbol,
}

/// The code that is in the kernel at the time of the events so far.
#[derive(Debug)]
pub(super) struct KernelSymbols {
    /// By first address. Ranges do not overlap.
    present: BTreeMap<u64, KernelSymbol>,
    /// By the time at which they left.
    removed: VecDeque<RemovedSymbol>,
    /// No symbol is below.
    lowest: u64,
    is_complete: bool,
}

impl Default for KernelSymbols {
    fn default() -> Self {
        let (present, removed) = (BTreeMap::new(), VecDeque::new());
        Self { present, removed, lowest: u64::MAX, is_complete: false }
    }
}

impl KernelSymbols {
    /// Sets what code is there at a time, when its coming or leaving may not have been reported;
    /// `None` if that is not known.
    pub fn set(&mut self, functions: Option<Vec<Range<u64>>>, time: u64) {
        self.is_complete = functions.is_some();
        let Some(functions) = functions else { return };
        let known: HashSet<&Range<u64>> = functions.iter().collect();
        let gone = |(start, symbol): (&u64, &KernelSymbol)| {
            (!known.contains(&(*start..symbol.end))).then_some(*start)
        };
        let gone: Vec<u64> = self.present.iter().filter_map(gone).collect();
        gone.into_iter().for_each(|start| self.remove(start, time));
        for function in &functions {
            if !self.present.contains_key(&function.start) {
                self.add(function.clone(), None, time);
            }
        }
    }

    /// Returns whether all such code is known, with its names or without.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Applies an event. `names`: of frames that have none yet.
    pub fn apply(&mut self, time: u64, event: KernelCodeEvent, names: &mut CodeNames) {
        let KernelCodeEvent { start, end, name, is_removed } = event;
        if !is_removed {
            return self.add(start.0..end.0, Some(name.into()), time);
        }
        if let Some(symbol) = self.present.get_mut(&start.0) {
            let name: Arc<str> = name.into();
            if let Some(id) = symbol.id {
                names.set(id, Ok(CodeName::from(Arc::clone(&name))));
            }
            symbol.name.get_or_insert(name);
        }
        self.remove(start.0, time);
    }

    fn add(&mut self, addresses: Range<u64>, name: Option<Arc<str>>, since: u64) {
        let Range { start, end } = addresses;
        // What is there has left, and was not reported.
        while let Some((before, symbol)) = self.present.range(..end).next_back()
            && symbol.end > start
        {
            let before = *before;
            self.remove(before, since);
        }
        if self.present.len() >= SYMBOLS_MAX {
            self.is_complete = false;
        } else if start < end {
            self.lowest = self.lowest.min(start);
            self.present.insert(start, KernelSymbol { end, since, name, id: None });
        }
    }

    fn remove(&mut self, start: u64, until: u64) {
        if let Some(symbol) = self.present.remove(&start) {
            self.removed.push_back(RemovedSymbol { start, until, symbol });
            if self.removed.len() > REMOVED_MAX {
                self.removed.pop_front();
            }
        }
    }

    /// Returns the key of the name that an address had at a time; `None` if no such code was there,
    /// or its name does not fit into memory.
    pub fn name_at(
        &mut self,
        address: u64,
        time: u64,
        names: &mut CodeNames,
    ) -> Option<CodeNameId> {
        if address < self.lowest {
            return None; // as nearly all of the kernel
        }
        let Self { present, removed, is_complete, .. } = self;
        let is_in = |symbol: &KernelSymbol| address < symbol.end && symbol.since <= time;
        let last = present.range_mut(..=address).next_back().map(|(_, symbol)| symbol);
        let was_there = |gone: &&mut RemovedSymbol| {
            gone.start <= address && is_in(&gone.symbol) && time < gone.until
        };
        let symbol = last
            .filter(|symbol| is_in(symbol))
            .or_else(|| removed.iter_mut().rev().find(was_there).map(|gone| &mut gone.symbol))?;
        if !symbol.id.is_some_and(|id| names.contains(id)) {
            let name = symbol.name.clone().map(CodeName::from).ok_or(CodeNameGap::NoEntry);
            symbol.id = names.add(None, Owner::SYSTEM, name);
            *is_complete &= symbol.id.is_some();
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

    fn new() -> (KernelSymbols, CodeNames) {
        (KernelSymbols::default(), CodeNames::new(SharedPool::new(1 << 20)))
    }

    /// Returns the name at an address, if code is there.
    fn name(
        (symbols, names): &mut (KernelSymbols, CodeNames),
        address: u64,
        time: u64,
    ) -> Option<Result<Arc<str>, CodeNameGap>> {
        let id = symbols.name_at(address, time, names)?;
        names.get(id).map(|(name, _)| name.map(|name| name.name))
    }

    #[test]
    fn frames_have_the_name_of_their_time() {
        let mut both = new();
        let mut apply = |time, event| both.0.apply(time, event, &mut both.1);
        apply(10, event(100..200, "first", false));
        apply(20, event(100..200, "first", true));
        apply(30, event(120..180, "second", false));
        for (address, time, expected) in [
            (150, 9, None),
            (150, 10, Some("first")),
            (199, 19, Some("first")),
            (150, 20, None),
            (150, 30, Some("second")),
            (150, 15, Some("first")),
            (180, 30, None),
            (99, 15, None),
        ] {
            let expected = expected.map(|name| Ok(name.into()));
            assert_eq!(name(&mut both, address, time), expected, "{address} at {time}");
        }
    }

    #[test]
    fn code_from_before_is_named_when_it_leaves() {
        let mut both = new();
        both.0.set(Some(vec![100..200, 200..300]), 0);
        assert!(both.0.is_complete());
        assert_eq!(name(&mut both, 100, 5), Some(Err(CodeNameGap::NoEntry)));
        both.0.apply(7, event(100..200, "old", true), &mut both.1);
        assert_eq!(name(&mut both, 100, 5), Some(Ok("old".into())));
        assert_eq!(name(&mut both, 250, 5), Some(Err(CodeNameGap::NoEntry)));
        both.0.set(None, 8);
        assert!(!both.0.is_complete() && name(&mut both, 250, 9).is_some());
    }

    #[test]
    fn code_whose_leaving_was_missed_is_replaced() {
        let mut both = new();
        for addresses in [100..200, 200..300, 300..400] {
            both.0.apply(1, event(addresses, "missed", false), &mut both.1);
        }
        both.0.apply(2, event(150..350, "new", false), &mut both.1);
        both.0.apply(3, event(500..500, "empty", false), &mut both.1);
        both.0.apply(3, event(7..9, "never seen", true), &mut both.1);
        assert_eq!(both.0.present.keys().copied().collect::<Vec<u64>>(), [150]);
        both.0.set(Some(vec![150..350, 600..700]), 5);
        assert_eq!(name(&mut both, 150, 6), Some(Ok("new".into())), "it is still there");
        both.0.set(Some(vec![600..700, 800..900]), 8);
        assert_eq!(name(&mut both, 150, 8), None);
        assert_eq!(name(&mut both, 150, 7), Some(Ok("new".into())));
        for time in 0..1000 {
            both.0.apply(time, event(1000..1001, "f", false), &mut both.1);
        }
        assert_eq!(both.0.removed.len(), REMOVED_MAX);
    }
}
