//! The sampler: loads the programs, switches their clocks and reads their counters.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
use std::thread;
use std::time::Duration;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, PrintLevel, RingBuffer, RingBufferBuilder};
use profile::Cpu;
use zerocopy::{FromBytes, IntoBytes};

use super::abi::{Counters, KERNEL_FRAMES_MAX};
use super::perf::{PerfError, PerfEvent, online_cpus};
use super::perf_samples::PerfSamples;
use super::skeleton::{EverytickSkel, EverytickSkelBuilder, OpenEverytickSkel};
use super::{SamplerConfig, SamplingRate, Unwinder, WalkMaps, log};

/// Starting all clocks takes no longer than this.
const STAGGER_MAX: Duration = Duration::from_millis(50);

/// Why the sampler could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel refused a BPF program or map; `log` is what libbpf said.
    #[error("the kernel refused the BPF programs: {source}")]
    Bpf {
        /// What went wrong.
        source: libbpf_rs::Error,
        /// libbpf's messages with the verifier's log.
        log: String,
    },
    /// The kernel refused a sampling clock.
    #[error(transparent)]
    Perf(#[from] PerfError),
    /// The list of CPUs could not be read, or a descriptor not be duplicated.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The kernel's answer, as far as it tells what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// We may not.
    Denied,
    /// It cannot.
    Unsupported,
    /// Anything else.
    Other,
}

/// What libbpf writes before the verifier's log.
const VERIFIER_LOG: &str = "BEGIN PROG LOAD LOG";

impl LoadError {
    /// Sorts what the kernel answered.
    pub fn answer(&self) -> Answer {
        let of_io = |error: &io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => Answer::Denied,
            io::ErrorKind::Unsupported => Answer::Unsupported,
            _ => Answer::Other,
        };
        match self {
            // EACCES with a log is the verifier's: we may load programs, but not this one.
            Self::Bpf { source, log } => match source.kind() {
                libbpf_rs::ErrorKind::PermissionDenied if !log.contains(VERIFIER_LOG) => {
                    Answer::Denied
                }
                _ => Answer::Other,
            },
            Self::Perf(error) => of_io(&error.source),
            Self::Io(error) => of_io(error),
        }
    }
}

/// The loaded programs. Nothing of them is left in the kernel when it is dropped.
pub struct Sampler {
    skeleton: EverytickSkel<'static>,
    settings: SamplerConfig,
    clocks: Vec<(Cpu, PerfEvent)>,
    links: Vec<Link>,
}

impl Sampler {
    /// Loads the programs; no tick comes before [`Sampler::start`].
    ///
    /// # Errors
    /// [`LoadError`] when the kernel refuses them.
    pub fn load(settings: SamplerConfig) -> Result<Self, LoadError> {
        let (loaded, log) = log::listening(PrintLevel::Warn, || {
            open(&settings)?.load().and_then(|mut skeleton| {
                fill_filters(&mut skeleton, &settings)?;
                if settings.unwinder == Unwinder::TailCalls {
                    install_tail_call(&skeleton)?;
                }
                Ok(skeleton)
            })
        });
        let skeleton = loaded.map_err(|source| LoadError::Bpf { source, log })?;
        Ok(Self { skeleton, settings, clocks: Vec::new(), links: Vec::new() })
    }

    /// Makes the reader of the ring.
    ///
    /// # Errors
    /// When the ring cannot be mapped.
    pub fn reader(&self) -> Result<SampleReader, LoadError> {
        MapHandle::try_from(&self.skeleton.maps.ring)
            .map(|ring| SampleReader { ring })
            .map_err(|source| LoadError::Bpf { source, log: String::new() })
    }

    /// Gives the maps that walks look into, to be filled.
    ///
    /// # Errors
    /// When their descriptors cannot be duplicated.
    pub fn walk_maps(&self) -> Result<WalkMaps, LoadError> {
        WalkMaps::new(&self.skeleton.maps)
            .map_err(|source| LoadError::Bpf { source, log: String::new() })
    }

    /// Watches processes get new memory, which makes what walks know of the old one void.
    ///
    /// # Errors
    /// When the kernel refuses to watch processes.
    pub fn watch_memory(&mut self) -> Result<(), LoadError> {
        let refused = |source| LoadError::Bpf { source, log: String::new() };
        let programs = &mut self.skeleton.progs;
        let links = [
            programs.memory_fork.attach_raw_tracepoint("sched_process_fork"),
            programs.memory_exec.attach_raw_tracepoint("sched_process_exec"),
            programs.memory_exit.attach_raw_tracepoint("sched_process_exit"),
        ];
        for link in links {
            self.links.push(link.map_err(refused)?);
        }
        Ok(())
    }

    /// Opens the clock of every CPU that is switched on; none ticks before [`Sampler::start`]. Gives the
    /// rings of perf's own records if they are asked for.
    ///
    /// # Errors
    /// [`LoadError`] when a clock or the memory of a ring is refused.
    pub fn open_clocks(&mut self) -> Result<Vec<PerfSamples>, LoadError> {
        let mut rings = Vec::new();
        for cpu in online_cpus()? {
            let clock =
                PerfEvent::cpu_clock(cpu, self.settings.frequency, self.settings.perf_samples)?;
            if self.settings.perf_samples {
                rings.push(PerfSamples::of(cpu, &clock)?);
            }
            self.clocks.push((cpu, clock));
        }
        Ok(rings)
    }

    /// Starts the clocks, one after the other within a period, so that CPUs do not tick together.
    ///
    /// # Errors
    /// [`LoadError`] when a clock is refused; those already started stop when this is dropped.
    pub fn start(&mut self) -> Result<(), LoadError> {
        let refused = |source| LoadError::Bpf { source, log: String::new() };
        let apart = self.apart(1_000_000_000 / u64::from(self.settings.frequency));
        for (at, (_, clock)) in self.clocks.iter().enumerate() {
            if at > 0 {
                thread::sleep(apart);
            }
            // libbpf closes the descriptor it is given; ours stays to read and stop the clock.
            let given = clock.duplicate()?.into_raw_fd();
            let program = match self.settings.unwinder {
                Unwinder::Loop => &mut self.skeleton.progs.sample,
                Unwinder::TailCalls | Unwinder::BrokenTailCalls => {
                    &mut self.skeleton.progs.sample_tailcall
                }
            };
            let link = program.attach_perf_event(given).map_err(refused)?;
            self.links.push(link);
        }
        Ok(())
    }

    /// Starts stopped clocks at another pace, unless it is a pause. Their first tick is a period away.
    ///
    /// # Errors
    /// When the kernel refuses; some clocks may be on then.
    pub fn resume(&mut self, pace: SamplingRate) -> io::Result<()> {
        if let Some(data) = self.skeleton.maps.bss_data.as_mut() {
            // SAFETY: as in `set_launching`; four aligned bytes are written at once.
            unsafe { std::ptr::write_volatile(&raw mut data.user_frames_now, pace.user_frames) };
        }
        let Some(period) = pace.period else { return Ok(()) };
        let apart = self.apart(period.get());
        for (at, (_, clock)) in self.clocks.iter().enumerate() {
            if at > 0 {
                thread::sleep(apart);
            }
            clock.set_period(period.get())?;
            clock.enable()?;
        }
        Ok(())
    }

    /// The time between the starts of two clocks.
    fn apart(&self, period: u64) -> Duration {
        Duration::from_nanos(period).min(STAGGER_MAX) / self.clocks.len().max(1) as u32
    }

    /// Runs `spawn`; a process that it starts is followed with all its children from its first instruction.
    ///
    /// # Errors
    /// When the kernel refuses to watch processes.
    pub fn launch<T>(&mut self, spawn: impl FnOnce() -> T) -> Result<T, LoadError> {
        let refused = |source| LoadError::Bpf { source, log: String::new() };
        let fork = self.skeleton.progs.follow_fork.attach_raw_tracepoint("sched_process_fork");
        self.links.push(fork.map_err(refused)?);
        let free = self.skeleton.progs.follow_free.attach_raw_tracepoint("sched_process_free");
        self.links.push(free.map_err(refused)?);
        self.set_launching(true);
        let result = spawn();
        self.set_launching(false);
        Ok(result)
    }

    fn set_launching(&mut self, launching: bool) {
        if let Some(data) = self.skeleton.maps.bss_data.as_mut() {
            // SAFETY: `data` is the programs' .bss, mapped for as long as the skeleton lives;
            // a byte is written at once, and the programs only read it.
            unsafe {
                std::ptr::write_volatile((&raw mut data.launching).cast::<u8>(), launching.into())
            };
        }
    }

    /// Stops every clock. Ticks that are due by now have come.
    ///
    /// # Errors
    /// When the kernel refuses; the clocks stop when this is dropped.
    pub fn stop(&self) -> io::Result<()> {
        self.clocks.iter().try_for_each(|(_, clock)| clock.disable())
    }

    /// Gives each CPU's counters so far, indexed by CPU number.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> io::Result<Vec<Counters>> {
        let key = 0u32.to_ne_bytes();
        let values = self
            .skeleton
            .maps
            .counters
            .lookup_percpu(&key, MapFlags::ANY)
            .map_err(io::Error::other)?
            .unwrap_or_default();
        let read =
            |bytes: &Vec<u8>| Counters::read_from_prefix(bytes).ok().map(|(counters, _)| counters);
        let all: Option<Vec<Counters>> = values.iter().map(read).collect();
        all.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the counters are too short"))
    }

    /// Tells for each clock how long it has been on so far, in nanoseconds.
    ///
    /// # Errors
    /// When a clock cannot be read.
    pub fn times(&self) -> io::Result<Vec<(Cpu, u64)>> {
        self.clocks.iter().map(|(cpu, clock)| Ok((*cpu, clock.times()?.enabled))).collect()
    }
}

/// Takes records out of the sampler's ring.
pub struct SampleReader {
    ring: MapHandle,
}

impl SampleReader {
    /// Gives each record to `take` as it comes, for as long as `turns` asks: it is
    /// handed the descriptor that becomes readable when the ring fills, and a
    /// function that drains the ring.
    ///
    /// # Errors
    /// When the ring cannot be mapped.
    pub fn read(
        self,
        take: impl FnMut(&[u8]),
        turns: impl FnOnce(BorrowedFd<'_>, &dyn Fn()),
    ) -> io::Result<()> {
        let mut take = take;
        let mut builder = RingBufferBuilder::new();
        builder
            .add(&self.ring, move |record| {
                take(record);
                0
            })
            .map_err(io::Error::other)?;
        let ring: RingBuffer<'_> = builder.build().map_err(io::Error::other)?;
        // SAFETY: the epoll descriptor belongs to `ring`, which lives until this function ends.
        let readable = unsafe { BorrowedFd::borrow_raw(ring.epoll_fd()) };
        turns(readable, &|| {
            // Draining cannot fail: the callback above never does.
            ring.consume_raw();
        });
        Ok(())
    }
}

/// Opens the skeleton with the settings in it.
pub(super) fn open(settings: &SamplerConfig) -> libbpf_rs::Result<OpenEverytickSkel<'static>> {
    // The skeleton borrows the place of its object. A place of a few bytes, leaked once for
    // each sampler, keeps `Sampler` free of that lifetime; dropping the skeleton frees the object.
    let place = Box::leak(Box::new(MaybeUninit::uninit()));
    let mut skeleton = EverytickSkelBuilder::default().open(place)?;

    skeleton.progs.follow_fork.set_autoload(settings.command);
    skeleton.progs.follow_free.set_autoload(settings.command);
    choose_unwinder(&mut skeleton, settings.unwinder)?;
    skeleton.maps.ring.set_max_entries(settings.ring_bytes)?;
    let filters = &settings.filters;
    let filter_processes = settings.command || !filters.processes.is_empty();
    shrink(&mut skeleton.maps.pids, filters.processes.len())?;
    shrink(&mut skeleton.maps.cgroups, filters.cgroups.len())?;
    shrink(&mut skeleton.maps.comms, filters.comms.len())?;
    if !settings.command {
        shrink(&mut skeleton.maps.descendants, 0)?;
    }

    let rodata = skeleton.maps.rodata_data.as_deref_mut();
    let rodata = rodata
        .ok_or_else(|| libbpf_rs::Error::from(io::Error::other("the programs have no settings")))?;
    let told = &mut rodata.settings;
    told.kernel_stacks = settings.kernel_stacks.into();
    told.user_stacks = settings.user_stacks.into();
    told.idle = settings.idle.into();
    told.filter_processes = filter_processes.into();
    told.filter_cgroups = (!filters.cgroups.is_empty()).into();
    told.perf_samples = settings.perf_samples.into();
    told.filter_comms = (!filters.comms.is_empty()).into();
    told.kernel_frames_limit = settings.kernel_frames_limit.min(KERNEL_FRAMES_MAX);
    told.pid_namespace = settings.pid_namespace.unwrap_or_default();
    told.launcher = settings.own_pid;
    told.user_frames_limit = settings.user_frames_limit.clamp(1, settings.unwinder.frames_max());
    told.tick_limit = settings.tick_limit;
    told.ring_wakeup_bytes = settings.ring_bytes / 4;
    told.ring_snapshot_bytes = settings.ring_bytes / 2;
    Ok(skeleton)
}

/// Leaves out what the other unwinder needs: a kernel without `bpf_loop` would refuse it.
fn choose_unwinder(
    skeleton: &mut OpenEverytickSkel<'static>,
    unwinder: Unwinder,
) -> libbpf_rs::Result<()> {
    let by_tail_calls = unwinder != Unwinder::Loop;
    skeleton.progs.sample.set_autoload(!by_tail_calls);
    skeleton.progs.sample_tailcall.set_autoload(by_tail_calls);
    skeleton.progs.unwind_tailcall.set_autoload(by_tail_calls);
    skeleton.maps.tail_calls.set_autocreate(by_tail_calls)
}

/// Lets the link of the chain follow itself.
fn install_tail_call(skeleton: &EverytickSkel<'static>) -> libbpf_rs::Result<()> {
    let link = skeleton.progs.unwind_tailcall.as_fd().as_raw_fd();
    skeleton.maps.tail_calls.update(&0u32.to_ne_bytes(), &link.to_ne_bytes(), MapFlags::ANY)
}

/// Makes a filter's map as large as its entries: an empty one costs next to nothing.
fn shrink(map: &mut libbpf_rs::OpenMapMut<'_>, entries: usize) -> libbpf_rs::Result<()> {
    map.set_max_entries(entries.max(1) as u32)
}

fn fill_filters(
    skeleton: &mut EverytickSkel<'static>,
    settings: &SamplerConfig,
) -> libbpf_rs::Result<()> {
    let (maps, filters) = (&skeleton.maps, &settings.filters);
    for (pid, start) in &filters.processes {
        maps.pids.update(&pid.to_ne_bytes(), &start.to_ne_bytes(), MapFlags::ANY)?;
    }
    for key in &filters.cgroups {
        maps.cgroups.update(key.as_bytes(), &[1], MapFlags::ANY)?;
    }
    for key in &filters.comms {
        maps.comms.update(key.as_bytes(), &[1], MapFlags::ANY)?;
    }
    Ok(())
}
