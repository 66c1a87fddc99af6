//! Symbols kept from window to window, within a bound of bytes.
//!
//! Not crate `lru`, which finds an entry by its exact key and moves it at each hit: here an address
//! is found by the range that contains it, and nothing is evicted while a window is symbolized.

use std::collections::BTreeMap;
use std::ops::Range;

use profile::{ExecutableId, FileAddr};
use symbolizer::proto::{SourceFunction, Symbol};

/// Bytes that an entry takes besides its text.
const ENTRY_BYTES: usize = 160;
/// Windows after which an unused entry is evicted, so that the cache does not grow for hours.
const UNUSED_WINDOWS: u64 = 24;
/// Windows from one search for such entries to the next.
const SEARCH_WINDOWS: u64 = 8;

/// Symbols by the range of addresses that have them.
///
/// A function without line information is one entry, so that a new address in it is found here.
pub(super) struct SymbolCache {
    /// By the executable and the first address of the range.
    entries: BTreeMap<(ExecutableId, u64), CacheEntry>,
    bytes: usize,
    bytes_max: usize,
}

struct CacheEntry {
    /// Address after the last.
    end: u64,
    functions: Vec<SourceFunction>,
    /// The last window with an address in the range.
    last_used: u64,
}

impl CacheEntry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.functions.iter().map(SourceFunction::bytes).sum::<usize>()
    }
}

impl SymbolCache {
    /// Returns an empty cache. `bytes_max`: what it may hold after [`Self::evict`].
    pub fn new(bytes_max: usize) -> Self {
        Self { entries: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// Returns whether the symbol of an address is cached.
    pub fn contains(&self, id: ExecutableId, address: FileAddr) -> bool {
        let before = self.entries.range(..=(id, address.0)).next_back();
        before.is_some_and(|((owner, _), entry)| *owner == id && address.0 < entry.end)
    }

    /// Returns the functions at an address, innermost first, and marks them as used in `window`.
    /// `None`: the address is not cached.
    pub fn get(
        &mut self,
        id: ExecutableId,
        address: FileAddr,
        window: u64,
    ) -> Option<&[SourceFunction]> {
        match self.entries.range_mut(..=(id, address.0)).next_back() {
            Some(((owner, _), entry)) if *owner == id && address.0 < entry.end => {
                entry.last_used = window;
                Some(&entry.functions)
            }
            _ => None,
        }
    }

    /// Adds the symbol of an address that is not cached.
    pub fn insert(&mut self, id: ExecutableId, address: FileAddr, symbol: Symbol, window: u64) {
        let Range { start, end } = self.free_range(id, address, &symbol);
        let entry = CacheEntry { end, functions: symbol.functions, last_used: window };
        self.bytes += entry.bytes();
        if let Some(replaced) = self.entries.insert((id, start), entry) {
            self.bytes -= replaced.bytes();
        }
    }

    /// Removes all symbols of an executable.
    pub fn remove_executable(&mut self, id: ExecutableId) {
        let range = (id, 0)..=(id, u64::MAX);
        let keys: Vec<_> = self.entries.range(range).map(|(key, _)| *key).collect();
        let removed = keys.iter().filter_map(|key| self.entries.remove(key));
        self.bytes -= removed.map(|entry| entry.bytes()).sum::<usize>();
    }

    /// Evicts what was unused for long and, while the cache is too large, what was unused for
    /// longest. `window`: the number of the window that begins now.
    pub fn evict(&mut self, window: u64) {
        let mut oldest = window.saturating_sub(UNUSED_WINDOWS);
        if window.is_multiple_of(SEARCH_WINDOWS) {
            self.evict_before(oldest);
        }
        while self.bytes > self.bytes_max && oldest <= window {
            self.evict_before(oldest);
            oldest += (window - oldest).div_ceil(2).max(1);
        }
    }

    fn evict_before(&mut self, window: u64) {
        self.entries.retain(|_, entry| entry.last_used >= window);
        self.bytes = self.entries.values().map(CacheEntry::bytes).sum();
    }

    /// Returns the part of a symbol's range, around an address, that is not cached: symbols may
    /// overlap.
    fn free_range(&self, id: ExecutableId, address: FileAddr, symbol: &Symbol) -> Range<u64> {
        let (address, next) = (address.0, address.0.saturating_add(1));
        let whole = match symbol.start < symbol.end {
            true => symbol.start..symbol.end,
            false => address..next,
        };
        let before = self.entries.range(..=(id, address)).next_back();
        let start = match before {
            Some(((owner, _), entry)) if *owner == id => whole.start.max(entry.end.min(address)),
            _ => whole.start,
        };
        let after = self.entries.range((id, next)..).next();
        let end = match after {
            Some(((owner, next_start), _)) if *owner == id => whole.end.min(*next_start),
            _ => whole.end,
        };
        start.min(address)..end.max(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ExecutableId = ExecutableId(7);
    const OTHER: ExecutableId = ExecutableId(8);

    fn symbol(name: &str, range: Range<u64>) -> Symbol {
        let function = SourceFunction { name: name.into(), ..SourceFunction::default() };
        Symbol { functions: vec![function], start: range.start, end: range.end }
    }

    fn check(cache: &mut SymbolCache, id: ExecutableId, address: u64, expected: &str) {
        let functions = cache.get(id, FileAddr(address), 0).unwrap_or_default();
        let name = functions.first().map_or("", |function| &function.name);
        assert_eq!(name, expected, "{address:#x}");
    }

    fn check_bytes(cache: &SymbolCache) {
        assert_eq!(cache.bytes, cache.entries.values().map(CacheEntry::bytes).sum::<usize>());
    }

    #[test]
    fn a_function_without_lines_is_one_entry() {
        let mut cache = SymbolCache::new(1 << 20);
        cache.insert(ONE, FileAddr(0x110), symbol("whole", 0x100..0x200), 0);
        cache.insert(ONE, FileAddr(0x210), symbol("line", 0..0), 0);
        for (address, expected) in [
            (0xff, ""),
            (0x100, "whole"),
            (0x1ff, "whole"),
            (0x200, ""),
            (0x210, "line"),
            (0x211, ""),
        ] {
            check(&mut cache, ONE, address, expected);
            assert_eq!(cache.contains(ONE, FileAddr(address)), !expected.is_empty());
        }
        check(&mut cache, OTHER, 0x110, "");
    }

    #[test]
    fn overlapping_symbols_keep_the_range_of_the_first() {
        let mut cache = SymbolCache::new(1 << 20);
        cache.insert(ONE, FileAddr(0x150), symbol("middle", 0x140..0x160), 0);
        cache.insert(ONE, FileAddr(0x110), symbol("around", 0x100..0x200), 0);
        cache.insert(ONE, FileAddr(0x190), symbol("after", 0x150..0x200), 0);
        for (address, expected) in
            [(0x13f, "around"), (0x140, "middle"), (0x15f, "middle"), (0x160, "after")]
        {
            check(&mut cache, ONE, address, expected);
        }
    }

    #[test]
    fn the_least_recently_used_is_evicted_and_the_bound_holds() {
        let mut cache = SymbolCache::new(40_000);
        for window in 0..200 {
            if !cache.contains(ONE, FileAddr(1)) {
                cache.insert(ONE, FileAddr(1), symbol("always", 0..0), window);
            }
            for number in 0..20 {
                let address = FileAddr(window * 100 + number);
                cache.insert(OTHER, address, symbol("once", 0..0), window);
            }
            assert_eq!(cache.get(ONE, FileAddr(1), window).map(<[_]>::len), Some(1));
            cache.evict(window + 1);
            assert!(cache.bytes <= 40_000, "{} bytes in window {window}", cache.bytes);
        }
        check(&mut cache, ONE, 1, "always");
        check(&mut cache, OTHER, 0, "");
        check_bytes(&cache);
    }

    #[test]
    fn unused_entries_are_evicted_although_there_is_space() {
        let mut cache = SymbolCache::new(1 << 20);
        cache.insert(ONE, FileAddr(1), symbol("always", 0..0), 0);
        cache.insert(ONE, FileAddr(2), symbol("once", 0..0), 0);
        for window in 0..=UNUSED_WINDOWS + SEARCH_WINDOWS {
            assert_eq!(cache.get(ONE, FileAddr(1), window).map(<[_]>::len), Some(1));
            cache.evict(window + 1);
        }
        assert!(cache.contains(ONE, FileAddr(1)));
        assert!(!cache.contains(ONE, FileAddr(2)));
    }

    #[test]
    fn an_executable_is_removed_with_all_its_symbols() {
        let mut cache = SymbolCache::new(1 << 20);
        for id in [ONE, OTHER] {
            cache.insert(id, FileAddr(0x110), symbol("function", 0x100..0x200), 0);
            cache.insert(id, FileAddr(0x310), symbol("other", 0..0), 0);
        }
        cache.remove_executable(OTHER);
        check(&mut cache, ONE, 0x310, "other");
        check(&mut cache, OTHER, 0x110, "");
        check_bytes(&cache);
    }
}
