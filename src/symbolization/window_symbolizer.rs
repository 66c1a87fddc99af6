//! Names that are remembered from window to window, and the worker that is asked for the others. Of an executable that nobody else
//! knows any more nothing is remembered.
//!
//! Functions of which no lines are known are remembered whole, so that an address in one that was met before needs nobody.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Weak};

use profile::{ExecutableId, FileAddr};
use symbolizer::{Failure, Limit, Name, Symbol, Symbolizer, Usage};

use crate::processes::{Executable, Origin};

/// Bytes that remembered names take beside their text.
const ENTRY_BYTES: usize = 160;
/// Windows after which a name that was not of use is forgotten, so that what is remembered does not grow for hours.
const UNUSED_WINDOWS: u64 = 24;
/// Windows from one look for such names to the next.
const LOOK_WINDOWS: u64 = 8;
/// Windows after which an executable that had no names is asked about again.
const FAILED_WINDOWS: u64 = 60;
/// Windows after which the worker begins anew, and the kernel is asked again: modules and BPF programs come and go.
const RENEW_WINDOWS: u64 = 60;
/// Executables without names that are remembered.
const FAILED_MAX: usize = 4096;

/// Gives names to addresses of executables.
pub struct WindowSymbolizer {
    symbolizer: Symbolizer,
    /// By the first address that is called so.
    known: BTreeMap<(ExecutableId, u64), Known>,
    /// Executables that were asked about.
    met: HashMap<ExecutableId, Weak<Executable>>,
    /// Executables that the worker failed on, and in which window.
    failed: HashMap<ExecutableId, (Failure, u64)>,
    window: u64,
    bytes: usize,
    bytes_max: usize,
}

/// What a range of addresses is called.
struct Known {
    end: u64,
    names: Vec<Name>,
    /// The last window with an address in it.
    used: u64,
}

impl Known {
    fn bytes(&self) -> usize {
        let text = |name: &Name| {
            size_of::<Name>() + name.function.len() + name.system_name.len() + name.file.len()
        };
        ENTRY_BYTES + self.names.iter().map(text).sum::<usize>()
    }
}

/// How much memory names may take, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct SymbolizerMemory {
    /// What is remembered, once a window is named.
    pub cache: usize,
    /// The worker.
    pub worker: u64,
}

impl Default for SymbolizerMemory {
    fn default() -> Self {
        Self { cache: 16 << 20, worker: 1 << 30 }
    }
}

impl WindowSymbolizer {
    /// `program`: everytick itself, which is also the worker.
    pub fn new(program: &str, limits: SymbolizerMemory) -> Self {
        let worker = ["symbolizer-worker".to_owned(), (limits.worker >> 20).max(1).to_string()];
        Self {
            symbolizer: Symbolizer::new(program, worker),
            known: BTreeMap::new(),
            met: HashMap::new(),
            failed: HashMap::new(),
            window: 0,
            bytes: 0,
            bytes_max: limits.cache,
        }
    }

    /// What the workers have used so far.
    pub fn usage(&self) -> Usage {
        self.symbolizer.usage()
    }

    /// Bounds the next window: the executables that it has not come to by then have only the names that are known.
    pub fn bound(&mut self, limit: Limit) {
        self.symbolizer.bound(Some(limit));
    }

    /// Learns the names of addresses, those that are not known yet.
    ///
    /// # Errors
    /// [`Failure`] when none of those can have a name.
    pub fn learn(
        &mut self,
        id: ExecutableId,
        executable: &Arc<Executable>,
        addresses: &[FileAddr],
    ) -> Result<(), Failure> {
        let unknown = |address: &&FileAddr| self.find(id, **address).is_none();
        let unknown: Vec<FileAddr> = addresses.iter().filter(unknown).copied().collect();
        if unknown.is_empty() {
            return Ok(());
        }
        if let Some((failure, window)) = self.failed.get(&id)
            && self.window < window + FAILED_WINDOWS
        {
            return Err(failure.clone());
        }
        self.met.entry(id).or_insert_with(|| Arc::downgrade(executable));
        match self.ask(id, executable, &unknown) {
            Ok(symbols) => {
                self.failed.remove(&id);
                for (address, symbol) in unknown.into_iter().zip(symbols) {
                    self.remember(id, address, symbol);
                }
                Ok(())
            }
            Err(failure) => {
                if failure != Failure::NoTime && self.failed.len() < FAILED_MAX {
                    self.failed.insert(id, (failure.clone(), self.window));
                }
                Err(failure)
            }
        }
    }

    /// Gives the names of an address, innermost first; none when it has none.
    pub fn names(&mut self, id: ExecutableId, address: FileAddr) -> &[Name] {
        let window = self.window;
        match self.known.range_mut(..=(id, address.0)).next_back() {
            Some(((of, _), known)) if *of == id && address.0 < known.end => {
                known.used = window;
                &known.names
            }
            _ => &[],
        }
    }

    /// Forgets the executables that are gone, and of the others what was not of use for long, or for longest as far as it takes
    /// too much memory.
    pub fn end_window(&mut self) {
        self.window += 1;
        self.symbolizer.bound(None);
        self.forget_gone();
        let mut oldest = self.window.saturating_sub(UNUSED_WINDOWS);
        if self.window.is_multiple_of(LOOK_WINDOWS) {
            self.keep(|_, known| known.used >= oldest);
        }
        while self.bytes > self.bytes_max && oldest <= self.window {
            self.keep(|_, known| known.used >= oldest);
            oldest += (self.window - oldest).div_ceil(2).max(1);
        }
        self.failed.retain(|_, (_, window)| self.window < *window + FAILED_WINDOWS);
        if self.window.is_multiple_of(RENEW_WINDOWS) {
            self.symbolizer.renew();
            self.keep(|id, _| id != ExecutableId::KERNEL);
        }
    }

    /// Forgets all names but these.
    fn keep(&mut self, is_kept: impl Fn(ExecutableId, &Known) -> bool) {
        self.known.retain(|(id, _), known| is_kept(*id, known));
        self.bytes = self.known.values().map(Known::bytes).sum();
    }

    fn forget_gone(&mut self) {
        let gone = self.met.extract_if(|_, executable| executable.strong_count() == 0);
        let gone: Vec<ExecutableId> = gone.map(|(id, _)| id).collect();
        for id in &gone {
            let range = (*id, 0)..=(*id, u64::MAX);
            let keys: Vec<_> = self.known.range(range).map(|(key, _)| *key).collect();
            let forgotten = keys.iter().filter_map(|key| self.known.remove(key));
            self.bytes -= forgotten.map(|known| known.bytes()).sum::<usize>();
            self.failed.remove(id);
        }
        self.symbolizer.forget(gone.iter().map(|id| id.0.into()).collect());
    }

    fn find(&self, id: ExecutableId, address: FileAddr) -> Option<&Known> {
        let ((of, _), known) = self.known.range(..=(id, address.0)).next_back()?;
        (*of == id && address.0 < known.end).then_some(known)
    }

    fn ask(
        &mut self,
        id: ExecutableId,
        executable: &Executable,
        addresses: &[FileAddr],
    ) -> Result<Vec<Symbol>, Failure> {
        match &executable.origin {
            Origin::Kernel => self.symbolizer.kernel(addresses),
            Origin::File(file) | Origin::Vdso(file) => {
                let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
                let build_id = executable.build_id.as_ref();
                self.symbolizer.file(id.0.into(), &path, build_id, addresses)
            }
            Origin::Memory => Ok(Vec::new()), // nothing to remember
            Origin::Unopened => {
                Err(Failure::Unreadable("the file could not be opened in time".into()))
            }
        }
    }

    fn remember(&mut self, id: ExecutableId, address: FileAddr, symbol: Symbol) {
        let only = address.0..address.0.saturating_add(1);
        let Range { start, end } = self.free_part(id, symbol.same.unwrap_or(only.clone()), address);
        let known = Known { end, names: symbol.names, used: self.window };
        self.bytes += known.bytes();
        if let Some(before) = self.known.insert((id, start), known) {
            self.bytes -= before.bytes();
        }
    }

    /// Gives the part of a range around an address that nothing is remembered of: symbols may overlap.
    fn free_part(&self, id: ExecutableId, range: Range<u64>, address: FileAddr) -> Range<u64> {
        let before = self.known.range(..=(id, address.0)).next_back();
        let start = match before {
            Some(((of, _), known)) if *of == id => range.start.max(known.end.min(address.0)),
            _ => range.start,
        };
        let after = self.known.range((id, address.0.saturating_add(1))..).next();
        let end = match after {
            Some(((of, next), _)) if *of == id => range.end.min(*next),
            _ => range.end,
        };
        start.min(address.0)..end.max(address.0.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const ONE: ExecutableId = ExecutableId(7);
    const OTHER: ExecutableId = ExecutableId(8);

    fn symbolizer(known: usize) -> WindowSymbolizer {
        WindowSymbolizer::new("/nonexistent", SymbolizerMemory { cache: known, worker: 1 << 20 })
    }

    fn symbol(function: &str, same: Option<Range<u64>>) -> Symbol {
        let name = Name { function: function.into(), ..Name::default() };
        Symbol { names: vec![name], same }
    }

    fn called(symbolizer: &mut WindowSymbolizer, id: ExecutableId, address: u64) -> String {
        symbolizer
            .names(id, FileAddr(address))
            .first()
            .map(|n| n.function.clone())
            .unwrap_or_default()
    }

    #[test]
    fn a_function_without_lines_is_known_whole_and_an_address_with_lines_alone() {
        let mut symbolizer = symbolizer(1 << 20);
        symbolizer.remember(ONE, FileAddr(0x110), symbol("whole", Some(0x100..0x200)));
        symbolizer.remember(ONE, FileAddr(0x210), symbol("line", None));
        let cases = [
            (0xff, ""),
            (0x100, "whole"),
            (0x1ff, "whole"),
            (0x200, ""),
            (0x210, "line"),
            (0x211, ""),
        ];
        for (address, expected) in cases {
            assert_eq!(called(&mut symbolizer, ONE, address), expected, "{address:#x}");
        }
        assert_eq!(called(&mut symbolizer, OTHER, 0x110), "");
    }

    #[test]
    fn symbols_that_overlap_keep_what_was_learned_first() {
        let mut symbolizer = symbolizer(1 << 20);
        symbolizer.remember(ONE, FileAddr(0x150), symbol("middle", Some(0x140..0x160)));
        symbolizer.remember(ONE, FileAddr(0x110), symbol("around", Some(0x100..0x200)));
        symbolizer.remember(ONE, FileAddr(0x190), symbol("after", Some(0x150..0x200)));
        for (address, expected) in
            [(0x13f, "around"), (0x140, "middle"), (0x15f, "middle"), (0x160, "after")]
        {
            assert_eq!(called(&mut symbolizer, ONE, address), expected, "{address:#x}");
        }
    }

    #[test]
    fn what_is_not_used_is_forgotten_first_and_the_bound_holds() {
        let mut symbolizer = symbolizer(40_000);
        for window in 0..200 {
            symbolizer.remember(ONE, FileAddr(1), symbol("always", None));
            for number in 0..20 {
                symbolizer.remember(OTHER, FileAddr(window * 100 + number), symbol("once", None));
            }
            assert_eq!(called(&mut symbolizer, ONE, 1), "always");
            symbolizer.end_window();
            assert!(symbolizer.bytes <= 40_000, "{} bytes in window {window}", symbolizer.bytes);
        }
        assert_eq!(called(&mut symbolizer, ONE, 1), "always");
        assert_eq!(called(&mut symbolizer, OTHER, 0), "");
        assert_eq!(symbolizer.bytes, symbolizer.known.values().map(Known::bytes).sum::<usize>());
    }

    #[test]
    fn what_was_not_used_for_long_is_forgotten_though_there_is_room() {
        let mut symbolizer = symbolizer(1 << 20);
        symbolizer.remember(ONE, FileAddr(1), symbol("always", None));
        symbolizer.remember(ONE, FileAddr(2), symbol("once", None));
        for _ in 0..=UNUSED_WINDOWS + LOOK_WINDOWS {
            assert_eq!(called(&mut symbolizer, ONE, 1), "always");
            symbolizer.end_window();
        }
        assert_eq!(called(&mut symbolizer, ONE, 1), "always");
        assert_eq!(called(&mut symbolizer, ONE, 2), "");
    }

    #[test]
    fn an_executable_that_failed_is_left_alone_for_a_while() {
        let mut symbolizer = symbolizer(1 << 20);
        symbolizer.failed.insert(ONE, (Failure::Died, 0));
        let executable = Arc::new(Executable::unknown());
        assert_eq!(symbolizer.learn(ONE, &executable, &[FileAddr(1)]), Err(Failure::Died));
        (0..FAILED_WINDOWS).for_each(|_| symbolizer.end_window());
        assert_eq!(symbolizer.learn(ONE, &executable, &[FileAddr(1)]), Ok(()));
    }

    #[test]
    fn a_window_whose_time_is_over_has_the_names_that_are_known_and_the_next_asks_again() {
        let mut symbolizer = symbolizer(1 << 20);
        let mut kernel = Executable::unknown();
        kernel.origin = Origin::Kernel;
        let executable = Arc::new(kernel);
        symbolizer.remember(ONE, FileAddr(0x110), symbol("function", Some(0x100..0x200)));
        let until = Instant::now() + Duration::from_secs(60);
        symbolizer.bound(Limit { until, hurry: Arc::new(true.into()) });
        assert_eq!(symbolizer.learn(ONE, &executable, &[FileAddr(0x110)]), Ok(()));
        assert_eq!(symbolizer.learn(ONE, &executable, &[FileAddr(0x300)]), Err(Failure::NoTime));
        assert_eq!(called(&mut symbolizer, ONE, 0x110), "function");
        symbolizer.end_window();
        let asked = symbolizer.learn(ONE, &executable, &[FileAddr(0x300)]);
        assert!(matches!(asked, Err(Failure::NotStarted(_))), "{asked:?}");
    }

    #[test]
    fn of_an_executable_that_is_gone_nothing_is_remembered() {
        let mut symbolizer = symbolizer(1 << 20);
        let executables = [ONE, OTHER].map(|id| (id, Arc::new(Executable::unknown())));
        for (id, executable) in &executables {
            assert_eq!(symbolizer.learn(*id, executable, &[FileAddr(0x110)]), Ok(()));
            symbolizer.remember(*id, FileAddr(0x110), symbol("function", Some(0x100..0x200)));
        }
        symbolizer.end_window();
        assert_eq!(called(&mut symbolizer, ONE, 0x110), "function");
        let [one, other] = executables;
        drop(other);
        symbolizer.end_window();
        assert_eq!(called(&mut symbolizer, ONE, 0x110), "function");
        assert_eq!(called(&mut symbolizer, OTHER, 0x110), "");
        assert_eq!(symbolizer.bytes, symbolizer.known.values().map(Known::bytes).sum::<usize>());
        assert_eq!(symbolizer.met.len(), 1);
        drop(one);
    }
}
