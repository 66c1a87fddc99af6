//! The sampler: attaches the loaded programs, controls their clocks and reads their counters.

use std::io;
use std::os::fd::IntoRawFd;
use std::thread;
use std::time::Duration;

use libbpf_rs::{Link, MapCore, MapFlags, MapHandle};
use profile::Cpu;
use zerocopy::FromBytes;

use super::abi::Counters;
use super::load::load;
use super::perf::{PerfEvent, online_cpus};
use super::perf_samples::PerfSamples;
use super::skeleton::{EverytickSkel, types};
use super::{LoadError, SampleReader, SamplerConfig, SamplingRate, Unwinder, WalkMaps};

/// Starting all clocks takes at most this long.
const STAGGER_MAX: Duration = Duration::from_millis(50);

/// The loaded programs. Dropping it removes everything from the kernel.
pub struct Sampler {
    skeleton: EverytickSkel<'static>,
    config: SamplerConfig,
    clocks: Vec<(Cpu, PerfEvent)>,
    links: Vec<Link>,
}

impl Sampler {
    /// Loads the programs. They do not tick before [`Sampler::start`].
    ///
    /// # Errors
    /// [`LoadError`] if the kernel refuses them.
    pub fn load(config: SamplerConfig) -> Result<Self, LoadError> {
        let skeleton = load(&config)?;
        Ok(Self { skeleton, config, clocks: Vec::new(), links: Vec::new() })
    }

    /// Returns a reader of the ring.
    ///
    /// # Errors
    /// If the ring's descriptor cannot be duplicated.
    pub fn reader(&self) -> Result<SampleReader, LoadError> {
        Ok(SampleReader::new(MapHandle::try_from(&self.skeleton.maps.ring)?))
    }

    /// Returns the maps by which the programs unwind, for the agent to fill.
    ///
    /// # Errors
    /// If their descriptors cannot be duplicated.
    pub fn walk_maps(&self) -> Result<WalkMaps, LoadError> {
        Ok(WalkMaps::new(&self.skeleton.maps)?)
    }

    /// Attaches the programs that invalidate published mappings when a process gets new memory.
    ///
    /// # Errors
    /// If the kernel refuses the tracepoints.
    pub fn watch_memory(&mut self) -> Result<(), LoadError> {
        let programs = &mut self.skeleton.progs;
        let links = [
            programs.memory_fork.attach_raw_tracepoint("sched_process_fork"),
            programs.memory_exec.attach_raw_tracepoint("sched_process_exec"),
            programs.memory_exit.attach_raw_tracepoint("sched_process_exit"),
        ];
        for link in links {
            self.links.push(link?);
        }
        Ok(())
    }

    /// Opens the clock of every online CPU; no clock ticks before [`Sampler::start`]. Returns the
    /// rings of perf's own records if the configuration requests them.
    ///
    /// # Errors
    /// [`LoadError`] if the kernel refuses a clock or the memory of a ring.
    pub fn open_clocks(&mut self) -> Result<Vec<PerfSamples>, LoadError> {
        let SamplerConfig { frequency, perf_samples, .. } = self.config;
        let mut rings = Vec::new();
        for cpu in online_cpus()? {
            let clock = PerfEvent::cpu_clock(cpu, frequency, perf_samples)?;
            if perf_samples {
                rings.push(PerfSamples::of(cpu, &clock)?);
            }
            self.clocks.push((cpu, clock));
        }
        Ok(rings)
    }

    /// Starts the clocks one after the other within a period, so that CPUs do not tick together.
    ///
    /// # Errors
    /// [`LoadError`] if the kernel refuses a clock. Clocks that run already stop when this is
    /// dropped.
    pub fn start(&mut self) -> Result<(), LoadError> {
        let stagger = self.stagger(1_000_000_000 / u64::from(self.config.frequency));
        for (number, (_, clock)) in self.clocks.iter().enumerate() {
            if number > 0 {
                thread::sleep(stagger);
            }
            // libbpf closes the descriptor it gets; ours stays open to read and stop the clock.
            let descriptor = clock.duplicate()?.into_raw_fd();
            let program = match self.config.unwinder {
                Unwinder::Loop => &mut self.skeleton.progs.sample,
                Unwinder::TailCalls | Unwinder::BrokenTailCalls => {
                    &mut self.skeleton.progs.sample_tailcall
                }
            };
            self.links.push(program.attach_perf_event(descriptor)?);
        }
        Ok(())
    }

    /// Starts stopped clocks at another rate, unless that is a pause. A clock ticks a period later
    /// for the first time.
    ///
    /// # Errors
    /// If the kernel refuses. Some clocks may run then.
    pub fn resume(&mut self, rate: SamplingRate) -> io::Result<()> {
        self.write_bss(|bss| &raw mut bss.current_user_frames_limit, rate.user_frames);
        let Some(period) = rate.period else { return Ok(()) };
        let stagger = self.stagger(period.get());
        for (number, (_, clock)) in self.clocks.iter().enumerate() {
            if number > 0 {
                thread::sleep(stagger);
            }
            clock.set_period(period.get())?;
            clock.enable()?;
        }
        Ok(())
    }

    /// Returns the time between the starts of two clocks with a period in nanoseconds.
    fn stagger(&self, period: u64) -> Duration {
        Duration::from_nanos(period).min(STAGGER_MAX) / self.clocks.len().max(1) as u32
    }

    /// Runs `spawn`. A process that it starts is followed with all its descendants, from its first
    /// instruction.
    ///
    /// # Errors
    /// If the kernel refuses the tracepoints.
    pub fn launch<T>(&mut self, spawn: impl FnOnce() -> T) -> Result<T, LoadError> {
        let programs = &mut self.skeleton.progs;
        self.links.push(programs.follow_fork.attach_raw_tracepoint("sched_process_fork")?);
        self.links.push(programs.follow_free.attach_raw_tracepoint("sched_process_free")?);
        self.set_launching(true);
        let result = spawn();
        self.set_launching(false);
        Ok(result)
    }

    fn set_launching(&mut self, launching: bool) {
        self.write_bss(|bss| (&raw mut bss.launching).cast::<u8>(), launching.into());
    }

    /// Writes a variable of the programs.
    fn write_bss<T>(&mut self, variable: impl FnOnce(&mut types::bss) -> *mut T, value: T) {
        if let Some(bss) = self.skeleton.maps.bss_data.as_mut() {
            // SAFETY: the pointer is to a variable of the programs' .bss, which is mapped for as
            // long as the skeleton lives. An aligned integer of at most 8 bytes is written at once,
            // and the programs only read it.
            unsafe { std::ptr::write_volatile(variable(bss), value) };
        }
    }

    /// Stops every clock. All ticks that are due by then have come.
    ///
    /// # Errors
    /// If the kernel refuses. The clocks stop when this is dropped.
    pub fn stop(&self) -> io::Result<()> {
        self.clocks.iter().try_for_each(|(_, clock)| clock.disable())
    }

    /// Reads each CPU's counters, indexed by CPU number.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn counters(&self) -> io::Result<Vec<Counters>> {
        let counters = &self.skeleton.maps.counters;
        let values = counters.lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY);
        let values = values.map_err(io::Error::other)?.unwrap_or_default();
        let read = |bytes: &Vec<u8>| Counters::read_from_prefix(bytes).ok().map(|(read, _)| read);
        let all: Option<Vec<Counters>> = values.iter().map(read).collect();
        all.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the counters are too short"))
    }

    /// Reads for how many nanoseconds each clock has run.
    ///
    /// # Errors
    /// If a clock cannot be read.
    pub fn times(&self) -> io::Result<Vec<(Cpu, u64)>> {
        self.clocks.iter().map(|(cpu, clock)| Ok((*cpu, clock.enabled_ns()?))).collect()
    }
}
