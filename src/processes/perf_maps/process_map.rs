//! The perf maps and jitdumps of all processes, as far as they are read.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use profile::{CodeNameId, Pid, Tid};

use super::entry_table::EntryTable;
use super::marker::JitDumpId;
use super::text::MapEntry;
use crate::limits::{Charge, Owner, SharedPool};
use crate::processes::code_name_gap::CodeNameGap;
use crate::processes::code_names::{CodeName, CodeNames};

/// Bytes parsed of one map. Code in a jitdump is not parsed.
const FILE_MAX: u64 = 64 << 20;
/// Interval between two reads of a map while its process is sampled in code of no file: doubled
/// each time that nothing is new, up to the longest, unless a sample lacks a name.
const READ_INTERVAL: Duration = Duration::from_millis(200);
const READ_INTERVAL_MAX: Duration = Duration::from_millis(400);
/// What the interval is before the first read, which doubles it.
const FIRST_INTERVAL: Duration = Duration::from_millis(100);
/// Reading a map takes at most this part of the time of the thread that waits for it.
const READ_DIVISOR: u32 = 10;
/// The same of a process without a map: doubled each time, up to the longest.
const MISSING_INTERVAL_MAX: Duration = Duration::from_secs(8);
/// How long a map is left alone whose file system did not answer.
const UNANSWERED_INTERVAL: Duration = Duration::from_secs(30);
/// Bytes that a process takes besides its entries.
const PROCESS_BYTES: u64 = 512;
/// Bytes that an address takes whose name is not known.
const PENDING_BYTES: u64 = 48;

/// What the file helper has read of a map.
#[derive(Debug, Default)]
pub(in crate::processes) struct PerfMapPart {
    /// Why nothing was read.
    pub gap: Option<CodeNameGap>,
    /// The map, if it is another file than before; not open for reading.
    pub file: Option<File>,
    /// The jitdump that was read; `None` if it was a perf map.
    pub jit_dump: Option<JitDumpId>,
    /// The part begins at the start of the file: it is another one, or was written anew.
    pub is_new: bool,
    pub entries: Vec<MapEntry>,
    /// Offset of the next part.
    pub offset: u64,
    /// The last bytes before it.
    pub tail: Vec<u8>,
    /// Bytes that were parsed.
    pub parsed: u64,
    /// Lines or records that are no entries.
    pub malformed: u64,
    pub has_more: bool,
}

/// The perf map or jitdump of one process.
#[derive(Debug)]
pub(in crate::processes) struct ProcessMap {
    pub owner: Owner,
    /// A thread of the process that ran when it was sampled last.
    pub tid: Tid,
    /// The file, which is held so that it can be read after it is unlinked, and after the process
    /// has exited. Not open for reading: closing it waits for no file system.
    file: Option<(File, Charge)>,
    /// Which jitdump the file is; `None` if it is a perf map.
    pub jit_dump: Option<JitDumpId>,
    pub offset: u64,
    pub tail: Vec<u8>,
    bytes_parsed: u64,
    table: EntryTable,
    /// Sampled addresses whose names are not known.
    pending: BTreeMap<u64, CodeNameId>,
    pending_charge: Charge,
    gap: Option<CodeNameGap>,
    has_malformed: bool,
    /// The map has more than was read so far: what was read may be replaced by the rest.
    is_behind: bool,
    /// Entries were added since names that samples lack were looked up.
    has_new_entries: bool,
    next_read: Instant,
    /// The same when a sample lacks a name.
    next_read_for_miss: Instant,
    interval: Duration,
    _record: Charge,
}

impl ProcessMap {
    /// Returns the file, if it was found.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref().map(|(file, _)| file)
    }

    fn gap(&self) -> CodeNameGap {
        let without_entry = match &self.file {
            None => CodeNameGap::NoMap,
            Some(_) if self.has_malformed && self.table.count() == 0 => CodeNameGap::Malformed,
            Some(_) => CodeNameGap::NoEntry,
        };
        self.gap.unwrap_or(without_entry)
    }

    /// Sets why there is no map. One that was refused stays refused when it is gone.
    fn set_gap(&mut self, gap: CodeNameGap) {
        let is_refused = self.gap.is_some_and(CodeNameGap::is_refusal);
        if self.file.is_none() && (gap.is_refusal() || !is_refused) {
            self.gap = Some(gap);
        }
    }

    /// Plans the next read, after one that has taken `used`.
    fn schedule(&mut self, used: Duration) {
        self.interval = match (&self.file, self.gap) {
            (_, Some(CodeNameGap::Unanswered)) => UNANSWERED_INTERVAL,
            (None, _) => (2 * self.interval).min(MISSING_INTERVAL_MAX),
            (Some(_), _) if self.has_new_entries => READ_INTERVAL,
            (Some(_), _) => (2 * self.interval).min(READ_INTERVAL_MAX),
        };
        let now = Instant::now();
        self.next_read = now + self.interval.max(used * READ_DIVISOR);
        self.next_read_for_miss = now + READ_INTERVAL.max(used * READ_DIVISOR);
    }
}

/// The perf maps and jitdumps of all processes, and the names that samples have.
#[derive(Debug)]
pub(in crate::processes) struct PerfMaps {
    by_pid: HashMap<Pid, ProcessMap>,
    pub names: CodeNames,
    pool: SharedPool,
}

impl PerfMaps {
    /// `bytes`: memory for the entries of all maps, and for names.
    pub fn new(bytes: u64) -> Self {
        let pool = SharedPool::new(bytes);
        Self { by_pid: HashMap::new(), names: CodeNames::new(pool.clone()), pool }
    }

    /// Returns the memory that entries and names take, in bytes.
    pub fn memory(&self) -> u64 {
        self.pool.used()
    }

    /// Returns the memory that entries and names share.
    pub fn pool(&self) -> &SharedPool {
        &self.pool
    }

    /// Returns the map of a process.
    pub fn get(&self, pid: Pid) -> Option<&ProcessMap> {
        self.by_pid.get(&pid)
    }

    /// Lists the processes.
    pub fn pids(&self) -> impl Iterator<Item = Pid> {
        self.by_pid.keys().copied()
    }

    /// Returns whether the map of a process is followed.
    pub fn contains(&self, pid: Pid) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// Returns whether the map of a process was found.
    pub fn is_held(&self, pid: Pid) -> bool {
        self.by_pid.get(&pid).is_some_and(|map| map.file.is_some())
    }

    /// Returns whether the map of a process, sampled in a thread, is to be read now. Remembers the
    /// process, if there is space.
    pub fn is_due(&mut self, (pid, tid): (Pid, Tid), owner: Owner) -> bool {
        if !self.by_pid.contains_key(&pid) {
            let Some(record) = self.pool.charge(owner, PROCESS_BYTES) else { return false };
            let map = ProcessMap {
                owner,
                tid,
                file: None,
                jit_dump: None,
                offset: 0,
                tail: Vec::new(),
                bytes_parsed: 0,
                table: EntryTable::new(record.empty()),
                pending: BTreeMap::new(),
                pending_charge: record.empty(),
                gap: None,
                has_malformed: false,
                is_behind: false,
                has_new_entries: false,
                next_read: Instant::now(),
                next_read_for_miss: Instant::now(),
                interval: FIRST_INTERVAL,
                _record: record,
            };
            self.by_pid.insert(pid, map);
        }
        self.by_pid.get_mut(&pid).is_some_and(|map| {
            map.tid = tid;
            map.next_read <= Instant::now()
        })
    }

    /// Returns the name of an address, as of a time in nanoseconds of CLOCK_MONOTONIC, by the
    /// entries that were read so far.
    pub fn name_at(&mut self, pid: Pid, address: u64, time: u64) -> Option<CodeNameId> {
        let map = self.by_pid.get_mut(&pid).filter(|map| !map.is_behind)?;
        let entry = map.table.find(address, time)?;
        if entry.id.is_none_or(|id| !self.names.contains(id)) {
            let name = CodeName::from(Arc::clone(&entry.name));
            entry.id = self.names.add(Some(pid), map.owner, Ok(name));
        }
        entry.id
    }

    /// Returns a name for an address without an entry: a later read may find it.
    pub fn pending_name(&mut self, pid: Pid, address: u64) -> Option<CodeNameId> {
        let map = self.by_pid.get_mut(&pid)?;
        if let Some(id) = map.pending.get(&address).filter(|id| self.names.contains(**id)) {
            return Some(*id);
        }
        let id = self.names.add(Some(pid), map.owner, Err(CodeNameGap::NoSpace))?;
        if map.pending_charge.grow(PENDING_BYTES) {
            map.pending.insert(address, id);
        }
        Some(id)
    }

    /// Returns whether a map is to be read now because a sample lacks a name.
    pub fn is_due_for_miss(&self, pid: Pid) -> bool {
        let is_due =
            |map: &ProcessMap| map.file.is_some() && map.next_read_for_miss <= Instant::now();
        self.by_pid.get(&pid).is_some_and(is_due)
    }

    /// Plans a read as soon as the process is sampled: it has mapped a jitdump.
    pub fn expect_jit_dump(&mut self, pid: Pid, id: JitDumpId) {
        if let Some(map) = self.by_pid.get_mut(&pid).filter(|map| map.jit_dump != Some(id)) {
            (map.next_read, map.interval) = (Instant::now(), FIRST_INTERVAL);
        }
    }

    /// Plans the next read of a map that was not read now. `gap`: why it was not.
    pub fn postpone(&mut self, pid: Pid, gap: CodeNameGap) {
        if let Some(map) = self.by_pid.get_mut(&pid) {
            map.set_gap(gap);
            map.schedule(Duration::ZERO);
        }
    }

    /// Ends a read that has taken `used`, and plans the next. `is_whole`: all that there is to read
    /// was read. Then the names that samples lack are those that are in force now.
    pub fn end_read(&mut self, pid: Pid, is_whole: bool, used: Duration) {
        let Some(map) = self.by_pid.get_mut(&pid) else { return };
        map.schedule(used);
        map.is_behind = !is_whole;
        if !is_whole || !std::mem::take(&mut map.has_new_entries) {
            return;
        }
        let named = |address: &u64, _: &mut CodeNameId| map.table.current(*address).is_some();
        let named: Vec<_> = map.pending.extract_if(.., named).collect();
        for (address, id) in named {
            map.pending_charge.shrink(PENDING_BYTES);
            if let Some(entry) = map.table.current(address) {
                self.names.set(id, Ok(CodeName::from(Arc::clone(&entry.name))));
            }
        }
    }

    /// Applies a part of a map, read at a time in nanoseconds of CLOCK_MONOTONIC. `open_files`:
    /// pays for holding the map. Returns whether to read on.
    pub fn apply(
        &mut self,
        pid: Pid,
        part: PerfMapPart,
        time: u64,
        open_files: &SharedPool,
    ) -> bool {
        let Some(map) = self.by_pid.get_mut(&pid) else { return false };
        if let Some(gap) = part.gap {
            map.set_gap(gap);
            return false;
        }
        if let Some(file) = part.file {
            let charge = match map.file.take() {
                Some((_, charge)) => Some(charge),
                None => open_files.charge(map.owner, 1),
            };
            map.jit_dump = part.jit_dump;
            map.file = charge.map(|charge| (file, charge));
            if map.file.is_none() {
                map.gap = Some(CodeNameGap::OpenFiles);
                return false;
            }
        }
        if part.is_new {
            map.table.clear(time, map.jit_dump.is_some());
            (map.bytes_parsed, map.offset, map.has_malformed, map.gap) = (0, 0, false, None);
        }
        map.bytes_parsed += part.parsed;
        (map.offset, map.tail) = (part.offset, part.tail);
        map.has_malformed |= part.malformed > 0;
        map.has_new_entries |= !part.entries.is_empty();
        for entry in part.entries {
            if !map.table.insert(entry, time) {
                map.gap = Some(CodeNameGap::NoSpace);
            }
        }
        let is_too_large = part.has_more && map.bytes_parsed >= FILE_MAX;
        if is_too_large {
            map.gap = Some(CodeNameGap::TooLarge);
        }
        part.has_more && !is_too_large
    }

    /// Returns whether a map may be read on: not all that is read of one was read.
    pub fn has_bytes_left(&self, pid: Pid) -> bool {
        self.by_pid.get(&pid).is_some_and(|map| map.bytes_parsed < FILE_MAX)
    }

    /// Returns the processes with sampled addresses whose names are not known.
    pub fn with_pending(&self) -> Vec<Pid> {
        let pending = self.by_pid.iter().filter(|(_, map)| !map.pending.is_empty());
        pending.map(|(pid, _)| *pid).collect()
    }

    /// Returns whether a map is held, or its process is to be asked for one now.
    pub fn is_readable(&self, pid: Pid) -> bool {
        let is_due = |map: &ProcessMap| map.file.is_some() || map.next_read <= Instant::now();
        self.by_pid.get(&pid).is_some_and(is_due)
    }

    /// Removes the map of a process that has exited or called exec.
    pub fn remove(&mut self, pid: Pid) {
        let Some(map) = self.by_pid.remove(&pid) else { return };
        let gap = map.gap();
        map.pending.values().for_each(|id| self.names.set(*id, Err(gap)));
    }

    /// Returns why an unknown name of a process is not known. `last`: when the map was removed.
    pub fn gap(&self, pid: Pid, last: CodeNameGap) -> CodeNameGap {
        self.by_pid.get(&pid).map_or(last, ProcessMap::gap)
    }

    /// Removes names without frames in a window from `oldest` on.
    pub fn remove_unused(&mut self, oldest: u64) {
        self.names.remove_unused(oldest);
        for map in self.by_pid.values_mut() {
            let before = map.pending.len();
            map.pending.retain(|_, id| self.names.contains(*id));
            map.pending_charge.shrink((before - map.pending.len()) as u64 * PENDING_BYTES);
        }
    }
}
