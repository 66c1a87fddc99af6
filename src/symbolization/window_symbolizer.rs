//! Symbolizes the addresses of one window after another: from the cache, else by the worker.
//!
//! Nothing is kept of an executable that no one else holds any more.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Weak};

use profile::{ExecutableId, FileAddr};
use symbolizer::proto::{SourceFunction, Symbol};

use super::cache::SymbolCache;
use super::client::{SymbolizeError, SymbolizerClient, TimeLimit};
use crate::processes::{Executable, ExecutableOrigin};
use crate::workers::Usage;

/// Windows after which an executable without symbols is tried again.
const FAILED_WINDOWS: u64 = 60;
/// Windows after which the worker is restarted and the kernel is symbolized again: modules and BPF
/// programs come and go.
const RESTART_WINDOWS: u64 = 60;
/// Failed executables that are remembered.
const FAILED_MAX: usize = 4096;

/// Memory limits of symbolization, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct SymbolizerMemory {
    /// Symbols kept between windows.
    pub cache: usize,
    /// The worker process.
    pub worker: u64,
}

impl Default for SymbolizerMemory {
    fn default() -> Self {
        Self { cache: 16 << 20, worker: 1 << 30 }
    }
}

/// Symbolizes addresses of executables.
pub struct WindowSymbolizer {
    client: SymbolizerClient,
    cache: SymbolCache,
    /// Executables that the worker was asked about.
    requested: HashMap<ExecutableId, Weak<Executable>>,
    /// Executables without symbols: why, and since which window.
    failed: HashMap<ExecutableId, (SymbolizeError, u64)>,
    window: u64,
}

impl WindowSymbolizer {
    /// `program`: everytick itself, which is also the worker.
    pub fn new(program: &str, memory: SymbolizerMemory) -> Self {
        let worker = ["symbolizer-worker".to_owned(), (memory.worker >> 20).max(1).to_string()];
        Self {
            client: SymbolizerClient::new(program, worker),
            cache: SymbolCache::new(memory.cache),
            requested: HashMap::new(),
            failed: HashMap::new(),
            window: 0,
        }
    }

    /// Returns what the workers have used so far.
    pub fn usage(&self) -> Usage {
        self.client.usage()
    }

    /// Bounds the current window: once the time is over, its addresses have only cached symbols.
    pub fn set_limit(&mut self, limit: TimeLimit) {
        self.client.set_limit(Some(limit));
    }

    /// Requests the symbols of those addresses that are not cached.
    ///
    /// # Errors
    /// [`SymbolizeError`] when none of these can have a symbol.
    pub fn load(
        &mut self,
        id: ExecutableId,
        executable: &Arc<Executable>,
        addresses: &[FileAddr],
    ) -> Result<(), SymbolizeError> {
        let is_missing = |address: &FileAddr| !self.cache.contains(id, *address);
        let missing: Vec<FileAddr> = addresses.iter().copied().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if let Some((error, window)) = self.failed.get(&id)
            && self.window < window + FAILED_WINDOWS
        {
            return Err(error.clone());
        }
        self.requested.entry(id).or_insert_with(|| Arc::downgrade(executable));
        match self.request(id, executable, &missing) {
            Ok(symbols) => {
                self.failed.remove(&id);
                for (address, symbol) in missing.into_iter().zip(symbols) {
                    self.cache.insert(id, address, symbol, self.window);
                }
                Ok(())
            }
            Err(error) => {
                if error != SymbolizeError::NoTime && self.failed.len() < FAILED_MAX {
                    self.failed.insert(id, (error.clone(), self.window));
                }
                Err(error)
            }
        }
    }

    /// Returns the functions at an address, innermost first; none when it has no symbol.
    pub fn functions(&mut self, id: ExecutableId, address: FileAddr) -> &[SourceFunction] {
        self.cache.get(id, address, self.window)
    }

    /// Ends the window: drops executables that no one else holds and evicts unused symbols.
    pub fn end_window(&mut self) {
        self.window += 1;
        self.client.set_limit(None);
        self.drop_unused_executables();
        self.cache.evict(self.window);
        self.failed.retain(|_, (_, window)| self.window < *window + FAILED_WINDOWS);
        if self.window.is_multiple_of(RESTART_WINDOWS) {
            self.client.restart();
            self.cache.remove_executable(ExecutableId::KERNEL);
        }
    }

    fn drop_unused_executables(&mut self) {
        let unused = self.requested.extract_if(|_, executable| executable.strong_count() == 0);
        let unused: Vec<ExecutableId> = unused.map(|(id, _)| id).collect();
        for id in &unused {
            self.cache.remove_executable(*id);
            self.failed.remove(id);
        }
        self.client.forget(unused.iter().map(|id| id.0.into()).collect());
    }

    fn request(
        &mut self,
        id: ExecutableId,
        executable: &Executable,
        addresses: &[FileAddr],
    ) -> Result<Vec<Symbol>, SymbolizeError> {
        match &executable.origin {
            ExecutableOrigin::Kernel => self.client.symbolize_kernel(addresses),
            ExecutableOrigin::File(file) | ExecutableOrigin::Vdso(file) => {
                let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
                let build_id = executable.build_id.as_ref();
                self.client.symbolize_file(id.0.into(), &path, build_id, addresses)
            }
            ExecutableOrigin::Memory => Ok(Vec::new()),
            ExecutableOrigin::Unopened => {
                Err(SymbolizeError::Unreadable("the file could not be opened in time".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const ONE: ExecutableId = ExecutableId(7);
    const OTHER: ExecutableId = ExecutableId(8);

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
        !symbolizer.functions(id, FileAddr(0x110)).is_empty()
    }

    #[test]
    fn a_failed_executable_is_retried_after_a_while() {
        let mut symbolizer = symbolizer();
        symbolizer.failed.insert(ONE, (SymbolizeError::Died, 0));
        let executable = Arc::new(Executable::unknown());
        let died = symbolizer.load(ONE, &executable, &[FileAddr(1)]);
        assert_eq!(died, Err(SymbolizeError::Died));
        (0..FAILED_WINDOWS).for_each(|_| symbolizer.end_window());
        assert_eq!(symbolizer.load(ONE, &executable, &[FileAddr(1)]), Ok(()));
    }

    #[test]
    fn a_window_out_of_time_uses_the_cache_and_the_next_asks_again() {
        let mut symbolizer = symbolizer();
        let mut kernel = Executable::unknown();
        kernel.origin = ExecutableOrigin::Kernel;
        let executable = Arc::new(kernel);
        insert(&mut symbolizer, ONE);
        let until = Instant::now() + Duration::from_secs(60);
        symbolizer.set_limit(TimeLimit { until, cancel: Arc::new(true.into()) });
        assert_eq!(symbolizer.load(ONE, &executable, &[FileAddr(0x110)]), Ok(()));
        let out_of_time = symbolizer.load(ONE, &executable, &[FileAddr(0x300)]);
        assert_eq!(out_of_time, Err(SymbolizeError::NoTime));
        assert!(has_symbol(&mut symbolizer, ONE));
        symbolizer.end_window();
        let next = symbolizer.load(ONE, &executable, &[FileAddr(0x300)]);
        assert!(matches!(next, Err(SymbolizeError::NotStarted(_))), "{next:?}");
    }

    #[test]
    fn nothing_is_kept_of_an_executable_that_was_dropped() {
        let mut symbolizer = symbolizer();
        let [one, other] = [ONE, OTHER].map(|id| {
            let executable = Arc::new(Executable::unknown());
            assert_eq!(symbolizer.load(id, &executable, &[FileAddr(0x110)]), Ok(()));
            insert(&mut symbolizer, id);
            executable
        });
        symbolizer.end_window();
        assert!(has_symbol(&mut symbolizer, ONE) && has_symbol(&mut symbolizer, OTHER));
        drop(other);
        symbolizer.end_window();
        assert!(has_symbol(&mut symbolizer, ONE) && !has_symbol(&mut symbolizer, OTHER));
        assert_eq!(symbolizer.requested.len(), 1);
        drop(one);
    }
}
