//! Sets up a session: reader and processor, and the pipeline between them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::count::Counter;
use super::cpu::ProcessorCpu;
use super::finish::Finisher;
use super::observer::SampleObserver;
use super::options::{ScanScope, SessionLimits};
use super::pipeline::Pipeline;
use super::processor::Processor;
use super::resolve::Resolver;
use super::window_boundary::WindowBoundary;
use super::windows::Windows;
use crate::aggregate::WindowLimits;
use crate::events::{EventBatch, ProcessEventLimit, Reader, RingChanges, Rings, spawn_reader};
use crate::kernel::{LoadError, WalkMaps, bpf_code};
use crate::labels::Root;
use crate::limits::SharedRate;
use crate::processes::{Executables, Processes, open_files};
use crate::tables::{Cache, LoadingCanceller, MappingPublisher, RowLimits, RowStore};

/// Batches on their way to the processor. When the processor falls behind, the reader waits, and
/// the kernel counts what its rings then lose.
const BATCHES_MAX: usize = 256;

/// The part of the memory for processes that perf maps and jitdumps may take.
const PERF_MAPS_DIVISOR: u64 = 4;

/// A session whose clocks do not run yet: its rings are read, and the processes in scope are known.
pub(super) struct Setup {
    reader: Reader,
    batches: Receiver<EventBatch>,
    resolver: Resolver,
    rows: RowStore,
    publisher: MappingPublisher,
    processor_cpu: ProcessorCpu,
    rates: [SharedRate; 3],
    loading_canceller: LoadingCanceller,
    limits: SessionLimits,
    /// Bytes of BPF maps without slabs; `None` if there is no BPF program.
    map_bytes: Option<u64>,
}

/// The running threads of a session.
pub(super) struct SessionThreads {
    pub reader: Reader,
    pub processor: Processor,
    /// When the clocks were started.
    pub started: Instant,
    /// Samples counted so far.
    pub samples: Arc<AtomicU64>,
    pub processor_cpu: ProcessorCpu,
    /// CPU time of reading unwind tables, of process events, and of reading processes.
    pub rates: [SharedRate; 3],
    pub loading_canceller: LoadingCanceller,
}

/// Where the programs find rows and mappings.
pub(super) struct KernelTables {
    pub maps: WalkMaps,
    /// Bytes of all BPF maps so far.
    pub bytes: u64,
}

impl Setup {
    /// Starts the reader, and reads the processes in scope. `tick`: time between two ticks of a
    /// clock. `tables`: of the programs that walk stacks; `None` if there are none.
    ///
    /// # Errors
    /// When a thread or its descriptors cannot be created.
    pub fn new(
        program: &str,
        rings: Rings,
        tick: Duration,
        tables: Option<KernelTables>,
        scope: ScanScope,
        limits: SessionLimits,
        cache: Option<Cache>,
    ) -> Result<(Self, RingChanges), LoadError> {
        let map_bytes = tables.as_ref().map(|tables| tables.bytes);
        let (maps, mut publisher) = match tables {
            Some(tables) => (tables.maps, MappingPublisher::new(limits.unwind / 4)),
            None => (WalkMaps::in_user_space(), MappingPublisher::without_readers()),
        };
        let row_limits =
            RowLimits { slabs: limits.unwind, reading: limits.reading, deriving: limits.deriving };
        let mut rows = RowStore::new(program, maps, row_limits, cache, limits.row_source)?;
        let rates = [rows.cpu_rate(), SharedRate::unlimited(), SharedRate::unlimited()];

        let loading_canceller = rows.loading_canceller();
        let (sender, batches) = crossbeam_channel::bounded(BATCHES_MAX);
        let processor_cpu = ProcessorCpu::default();
        let used = processor_cpu.clone();
        let limit = ProcessEventLimit::new(rates[1].clone(), move || used.get().processes);
        let (reader, ring_changes) = spawn_reader(rings, tick, limit, sender)?;

        let perf_maps = limits.tracking / PERF_MAPS_DIVISOR;
        let tracking = limits.tracking - perf_maps;
        let executables = Executables::new(open_files::held_max(), tracking, program);
        let mut processes = Processes::new(executables);
        processes.limit_perf_maps(perf_maps);
        if limits.labels {
            processes.enable_labels(Root::find());
        }
        if limits.command_lines {
            processes.enable_command_lines();
        }
        if map_bytes.is_none() {
            processes.enable_thread_names();
        }
        if map_bytes.is_some() {
            processes.set_kernel_code(bpf_code(), 0);
        }
        let mut resolver = Resolver::new(processes);
        resolver.scan(scope, &mut rows, &mut publisher);
        resolver.processes.limit_read_time(rates[2].clone());
        let setup = Self {
            reader,
            batches,
            resolver,
            rows,
            publisher,
            processor_cpu,
            rates,
            loading_canceller,
            limits,
            map_bytes,
        };
        Ok((setup, ring_changes))
    }

    /// Starts the processor. `started`: when the clocks were started. `begin`: where the first
    /// window begins.
    ///
    /// # Errors
    /// When the thread cannot be created.
    pub fn run(
        self,
        started: Instant,
        begin: WindowBoundary,
        observer: Option<Box<dyn SampleObserver>>,
    ) -> Result<SessionThreads, LoadError> {
        let Self { reader, batches, resolver, rows, publisher, processor_cpu, .. } = self;
        let Self { rates, loading_canceller, limits, map_bytes, .. } = self;
        let SessionLimits { window, times, waiting, .. } = limits;
        let windows = Windows::new(WindowLimits { stacks: window, times }, begin);
        let counter = Counter::new(windows, observer);
        let (finisher, cpu) = (Finisher::new(waiting), processor_cpu.clone());
        let pipeline = Pipeline::new(resolver, finisher, counter, rows, publisher, map_bytes, cpu);
        let samples = Arc::<AtomicU64>::default();
        let processor = Processor::spawn(batches, pipeline, Arc::clone(&samples))?;
        Ok(SessionThreads {
            reader,
            processor,
            started,
            samples,
            processor_cpu,
            rates,
            loading_canceller,
        })
    }
}
