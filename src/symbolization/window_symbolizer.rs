//! Symbolizes the addresses of one window after another: from the cache, else by the worker.
//!
//! Nothing is kept of an executable that no one else holds any more, except that its file has
//! failed. What a file may take is bounded ([`FileLimits`]); what a file and its owner have taken
//! is paid off over time (`accounts`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Instant;

use profile::{ExecutableId, FileAddr};
use symbolizer::proto::SourceFunction;

use super::accounts::CpuAccounts;
use super::cache::SymbolCache;
use super::client::{SymbolAnswer, SymbolRequest, SymbolizeError, SymbolizerClient, TimeLimit};
use super::debug_info_requests::DebugInfoRequests;
use super::file_key::{FileKey, identify, size_of};
use super::groups::{AddressGroup, Traits};
use super::limits::{FileLimits, SymbolizerLimits, SymbolizerMemory};
use super::mode::SymbolizeMode;
use super::reason::NameCounts;
use super::refusals::{FileState, Refusals};
use crate::debuginfod::Downloads;
use crate::limits::Owner;
use crate::processes::{Executable, ExecutableOrigin};
use crate::workers::Usage;

/// Windows after which the worker is restarted and the kernel is symbolized again: modules and BPF
/// programs come and go.
const RESTART_WINDOWS: u64 = 60;

/// Symbolizes addresses of executables.
pub struct WindowSymbolizer {
    client: SymbolizerClient,
    cache: SymbolCache,
    mode: SymbolizeMode,
    file_limits: FileLimits,
    names_max: usize,
    /// Executables that the worker was asked about.
    requested: HashMap<ExecutableId, Weak<Executable>>,
    refusals: Refusals,
    accounts: CpuAccounts,
    debug_info: DebugInfoRequests,
    window: u64,
    /// Names that were cut in this window.
    cut: u64,
    /// Executables whose debug info was not read in this window.
    without_debug_info: HashSet<ExecutableId>,
}

impl WindowSymbolizer {
    /// Symbolizes one recording. `program`: everytick itself, which is also the worker.
    pub fn new(program: &str, memory: SymbolizerMemory) -> Self {
        Self::with_limits(program, SymbolizerLimits::of_recording(memory))
    }

    /// `program`: everytick itself, which is also the worker.
    pub fn with_limits(program: &str, limits: SymbolizerLimits) -> Self {
        let SymbolizerLimits { memory, file, names, cpu_rate } = limits;
        let worker = ["symbolizer-worker".to_owned(), (memory.worker >> 20).max(1).to_string()];
        Self {
            client: SymbolizerClient::new(program, worker),
            cache: SymbolCache::new(memory.cache),
            mode: SymbolizeMode::Full,
            file_limits: file,
            names_max: names,
            requested: HashMap::new(),
            refusals: Refusals::default(),
            accounts: CpuAccounts::new(cpu_rate, file, Instant::now()),
            debug_info: DebugInfoRequests::default(),
            window: 0,
            cut: 0,
            without_debug_info: HashSet::new(),
        }
    }

    /// Looks up as much as this mode says.
    pub fn with_mode(mut self, mode: SymbolizeMode) -> Self {
        self.mode = mode;
        self
    }

    /// Uses debug info from servers, too.
    pub fn with_downloads(mut self, downloads: Option<Arc<Downloads>>) -> Self {
        self.client.set_downloads(downloads.clone());
        self.debug_info = DebugInfoRequests::new(downloads);
        self
    }

    /// Forgets the symbols of executables whose debug info was downloaded since they were
    /// symbolized. Returns whether there are any.
    pub fn renew(&mut self) -> bool {
        let arrived = self.debug_info.take_arrived(self.client.pending());
        arrived.iter().for_each(|id| self.cache.remove_executable(*id));
        self.client.forget(arrived.iter().map(|id| id.0.into()));
        !arrived.is_empty()
    }

    /// Returns what the workers have used so far, also those that were killed.
    pub fn usage(&self) -> Usage {
        self.client.usage()
    }

    /// Returns the bytes that the names of a window may take.
    pub fn names_max(&self) -> usize {
        self.names_max
    }

    /// Changes the CPU time that names may take, in CPU seconds per second.
    pub fn set_cpu_rate(&mut self, rate: f64) {
        self.accounts.set_rate(Some(rate), Instant::now());
    }

    /// Bounds the current window: once the time is over, its addresses have only cached symbols.
    pub fn set_limit(&mut self, limit: TimeLimit) {
        self.client.set_limit(Some(limit));
    }

    /// Returns who owns an executable, and whether it is known to be slow. `cgroup`: the one that
    /// runs it most.
    pub(super) fn traits(&self, id: ExecutableId, executable: &Executable, cgroup: u64) -> Traits {
        let (file, owner) = identify(id, executable, cgroup);
        let is_slow = self.refusals.state(file, self.window).is_some();
        Traits { owner, is_slow, bytes: size_of(executable) }
    }

    /// Requests the symbols of those addresses that are not cached.
    ///
    /// # Errors
    /// [`SymbolizeError`] when none of these can have a symbol.
    pub fn load(&mut self, group: &AddressGroup<'_>) -> Result<(), SymbolizeError> {
        if self.missing(group).is_empty() {
            return Ok(());
        }
        // The answer to the request that the window before did not wait for.
        if let Some(answer) = self.client.take_pending()? {
            let _ = self.apply(answer); // which its own group finds in the cache
        }
        if group.executable.is_changed() {
            return Err(SymbolizeError::Changed);
        }
        if !self.mode.reads(group.executable)? {
            return Ok(());
        }
        let addresses = self.missing(group);
        if addresses.is_empty() || group.names_max == 0 {
            return Ok(());
        }
        self.requested.entry(group.id).or_insert_with(|| Arc::downgrade(group.executable));
        let (file, owner) = identify(group.id, group.executable, group.cgroup);
        let state = self.refusals.state(file, self.window).cloned();
        if let Some(FileState::Refused(error)) = state {
            return Err(error);
        }
        let (limits, symbols_only) = match &group.executable.origin {
            ExecutableOrigin::Kernel => (None, false), // its list is no user's file
            _ => self.limits(file, owner, state.as_ref())?,
        };
        let answer = self.client.call(SymbolRequest {
            id: group.id,
            executable: Arc::clone(group.executable),
            file,
            owner,
            samples: group.samples,
            addresses,
            symbols_only,
            limits,
            names_max: group.names_max,
        })?;
        self.apply(answer)
    }

    /// Returns what reading a file may take now, and whether it is read by its symbol tables alone.
    fn limits(
        &mut self,
        file: FileKey,
        owner: Owner,
        state: Option<&FileState>,
    ) -> Result<(Option<FileLimits>, bool), SymbolizeError> {
        let mut symbols_only =
            self.mode == SymbolizeMode::Names || state == Some(&FileState::SymbolsOnly);
        let mut allowed = self.accounts.allowed(file, owner, state.is_some(), Instant::now());
        if allowed.is_none() && state.is_some() {
            // The owner may not have slow files read now; symbol tables are rarely slow.
            symbols_only = true;
            allowed = self.accounts.allowed(file, owner, false, Instant::now());
        }
        let cpu = allowed.ok_or(SymbolizeError::ShareSpent)?;
        // If the debug info takes too much, the rest is left for the symbol tables.
        let cpu = if symbols_only { cpu } else { cpu * 3 / 4 };
        Ok((Some(FileLimits { cpu, ..self.file_limits }), symbols_only))
    }

    /// Applies an answer: caches its symbols, or remembers why there are none.
    fn apply(&mut self, answer: SymbolAnswer) -> Result<(), SymbolizeError> {
        let SymbolAnswer { request, result, cut, lacks_debug_info, no_debug_info, cpu } = answer;
        if request.limits.is_some() {
            self.accounts.charge(request.file, request.owner, cpu, Instant::now());
        }
        self.cut += cut;
        if lacks_debug_info && self.mode == SymbolizeMode::Full {
            self.without_debug_info.insert(request.id);
        }
        // What was written while the worker read the file may be in the answer.
        let is_changed = request.executable.is_changed();
        match result
            .and_then(|symbols| (!is_changed).then_some(symbols).ok_or(SymbolizeError::Changed))
        {
            Ok(symbols) => {
                let lacks_names = self.mode.lacks_names(&request.executable, &symbols);
                self.debug_info.symbolized(&request, no_debug_info || lacks_names);
                for (address, symbol) in request.addresses.into_iter().zip(symbols) {
                    self.cache.insert(request.id, address, symbol, self.window);
                }
                Ok(())
            }
            Err(error) => {
                self.refusals.failed(&request, &error, self.window);
                Err(error)
            }
        }
    }

    fn missing(&self, group: &AddressGroup<'_>) -> Vec<FileAddr> {
        let is_missing = |address: &FileAddr| !self.cache.contains(group.id, *address);
        group.addresses.iter().copied().filter(is_missing).collect()
    }

    /// Returns the functions at an address, innermost first: none when it has no symbol, `None`
    /// when it was not looked up.
    pub fn functions(&mut self, id: ExecutableId, address: FileAddr) -> Option<&[SourceFunction]> {
        self.cache.get(id, address, self.window)
    }

    /// Ends the window: drops executables that no one else holds and evicts unused symbols. Adds
    /// what was left out in it to its counts.
    pub fn end_window(&mut self, counts: &mut NameCounts) {
        self.window += 1;
        self.client.set_limit(None);
        self.drop_unused_executables();
        self.cache.evict(self.window);
        self.refusals.expire(self.window);
        if self.window.is_multiple_of(RESTART_WINDOWS) {
            self.client.restart();
            self.cache.remove_executable(ExecutableId::KERNEL);
        }
        counts.cut += std::mem::take(&mut self.cut);
        counts.without_debug_info += self.without_debug_info.drain().count() as u64;
    }

    fn drop_unused_executables(&mut self) {
        let unused = self.requested.extract_if(|_, executable| executable.strong_count() == 0);
        let unused: Vec<ExecutableId> = unused.map(|(id, _)| id).collect();
        for id in &unused {
            self.cache.remove_executable(*id);
        }
        self.client.forget(unused.into_iter().map(|id| id.0.into()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use symbolizer::proto::Symbol;

    use super::*;

    const ONE: ExecutableId = ExecutableId(7);
    const OTHER: ExecutableId = ExecutableId(8);
    const NEVER: Duration = Duration::from_secs(3600);

    fn symbolizer() -> WindowSymbolizer {
        let memory = SymbolizerMemory { cache: 1 << 20, worker: 1 << 20 };
        WindowSymbolizer::new("/nonexistent", memory)
    }

    fn insert(symbolizer: &mut WindowSymbolizer, id: ExecutableId) {
        let functions = vec![SourceFunction { name: "function".into(), ..Default::default() }];
        let symbol = Symbol { functions, start: 0x100, end: 0x200 };
        symbolizer.cache.insert(id, FileAddr(0x110), symbol, 0);
    }

    fn has_symbol(symbolizer: &mut WindowSymbolizer, id: ExecutableId) -> bool {
        symbolizer.functions(id, FileAddr(0x110)).is_some_and(|functions| !functions.is_empty())
    }

    fn load(
        symbolizer: &mut WindowSymbolizer,
        id: ExecutableId,
        executable: &Arc<Executable>,
        address: u64,
    ) -> Result<(), SymbolizeError> {
        let addresses = &[FileAddr(address)];
        let names_max = 1 << 20;
        symbolizer.load(&AddressGroup {
            id,
            executable,
            cgroup: 1,
            samples: 1,
            addresses,
            names_max,
        })
    }

    fn request(symbols_only: bool) -> SymbolRequest {
        SymbolRequest {
            id: ONE,
            executable: Arc::new(Executable::unknown()),
            file: FileKey::Executable(ONE),
            owner: Owner::User(1),
            samples: 1,
            addresses: vec![FileAddr(1)],
            symbols_only,
            limits: Some(FileLimits { first_cpu: NEVER, cpu: NEVER, memory: 1 << 30 }),
            names_max: 1 << 20,
        }
    }

    #[test]
    fn a_file_is_tried_in_three_ways_before_it_is_refused() {
        let mut symbolizer = symbolizer();
        let file = FileKey::Executable(ONE);
        let mut fail = |symbols_only, error: SymbolizeError| {
            let result = Err(error);
            let request = request(symbols_only);
            let answer = SymbolAnswer {
                request,
                result,
                cut: 0,
                lacks_debug_info: symbols_only,
                no_debug_info: false,
                cpu: Duration::from_secs(1),
            };
            symbolizer.apply(answer).expect_err("failed");
            symbolizer.refusals.state(file, symbolizer.window).cloned()
        };
        assert_eq!(fail(false, SymbolizeError::NoTime), None);
        assert_eq!(fail(false, SymbolizeError::TooSlow), Some(FileState::Slow));
        assert_eq!(fail(false, SymbolizeError::TooSlow), Some(FileState::SymbolsOnly));
        let refused = FileState::Refused(SymbolizeError::OutOfMemory);
        assert_eq!(fail(true, SymbolizeError::OutOfMemory), Some(refused));
        let mut executable = Executable::unknown();
        executable.origin = ExecutableOrigin::File(tempfile::tempfile().expect("a file"));
        let executable = Arc::new(executable);
        let again = load(&mut symbolizer, ONE, &executable, 1);
        assert_eq!(again, Err(SymbolizeError::OutOfMemory), "it is not tried again");
        let other = load(&mut symbolizer, OTHER, &executable, 1);
        assert!(matches!(other, Err(SymbolizeError::NotStarted(_))), "{other:?}");
    }

    #[test]
    fn a_window_out_of_time_uses_the_cache_and_the_next_asks_again() {
        let mut symbolizer = symbolizer();
        let mut kernel = Executable::unknown();
        kernel.origin = ExecutableOrigin::Kernel;
        let executable = Arc::new(kernel);
        insert(&mut symbolizer, ONE);
        let cancel = Arc::new(AtomicBool::new(true));
        symbolizer.set_limit(TimeLimit::within(Duration::from_secs(60), cancel));
        assert_eq!(load(&mut symbolizer, ONE, &executable, 0x110), Ok(()));
        let out_of_time = load(&mut symbolizer, ONE, &executable, 0x300);
        assert_eq!(out_of_time, Err(SymbolizeError::NoTime));
        assert!(has_symbol(&mut symbolizer, ONE));
        symbolizer.end_window(&mut NameCounts::default());
        let next = load(&mut symbolizer, ONE, &executable, 0x300);
        assert!(matches!(next, Err(SymbolizeError::NotStarted(_))), "{next:?}");
    }

    #[test]
    fn nothing_is_kept_of_an_executable_that_was_dropped() {
        let mut symbolizer = symbolizer();
        let [one, other] = [ONE, OTHER].map(|id| {
            let mut executable = Executable::unknown();
            executable.origin = ExecutableOrigin::File(tempfile::tempfile().expect("a file"));
            let executable = Arc::new(executable);
            load(&mut symbolizer, id, &executable, 0x110).expect_err("there is no program");
            insert(&mut symbolizer, id);
            executable
        });
        symbolizer.end_window(&mut NameCounts::default());
        assert!(has_symbol(&mut symbolizer, ONE) && has_symbol(&mut symbolizer, OTHER));
        drop(other);
        symbolizer.end_window(&mut NameCounts::default());
        assert!(has_symbol(&mut symbolizer, ONE) && !has_symbol(&mut symbolizer, OTHER));
        assert_eq!(symbolizer.requested.len(), 1);
        drop(one);
    }
}
