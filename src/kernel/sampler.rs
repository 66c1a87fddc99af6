//! The sampler: attaches the loaded programs to clocks, and reads their counters.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::IntoRawFd;

use libbpf_rs::{Link, MapCore, MapFlags, MapHandle};
use zerocopy::FromBytes;

use super::abi::Counters;
use super::load::load;
use super::skeleton::EverytickSkel;
use super::{CpuClock, LoadError, SampleReader, SamplerConfig, Unwinder, WalkMaps};

/// The loaded programs. Dropping it and the clocks removes everything from the kernel.
pub struct Sampler {
    skeleton: EverytickSkel<'static>,
    config: SamplerConfig,
    links: Vec<Link>,
}

impl Sampler {
    /// Loads the programs. They do not run before [`Sampler::start_clock`].
    ///
    /// # Errors
    /// [`LoadError`] if the kernel refuses them.
    pub fn load(config: SamplerConfig) -> Result<Self, LoadError> {
        let skeleton = load(&config)?;
        Ok(Self { skeleton, config, links: Vec::new() })
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

    /// Attaches the programs that invalidate published mappings when a process gets new memory, and
    /// the one that reports moved code, if the kernel has what it traces.
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
        if programs.memory_copy.autoload() {
            self.links.extend(programs.memory_copy.attach());
        } else if programs.memory_write.autoload() {
            self.links.extend(programs.memory_write.attach_raw_tracepoint("ma_write"));
        }
        Ok(())
    }

    /// Starts a clock at a rate: the sampler runs in its ticks. The first one comes a period later.
    ///
    /// # Errors
    /// [`LoadError`] if the kernel refuses.
    pub fn start_clock(&self, clock: &mut CpuClock, period: NonZeroU64) -> Result<(), LoadError> {
        clock.event.set_period(period.get())?;
        // libbpf closes the descriptor it gets; ours stays open to read and stop the clock.
        let descriptor = clock.event.duplicate()?.into_fd().into_raw_fd();
        let program = match self.config.unwinder {
            Unwinder::Loop => &self.skeleton.progs.sample,
            Unwinder::TailCalls | Unwinder::BrokenTailCalls => &self.skeleton.progs.sample_tailcall,
        };
        clock.link = Some(program.attach_perf_event(descriptor)?); // this enables the clock
        Ok(())
    }

    /// Runs `spawn`. A process that it starts, on the calling thread, is followed with all its
    /// descendants, from its exec on.
    ///
    /// # Errors
    /// If the kernel refuses the tracepoints.
    pub fn launch<T>(&mut self, spawn: impl FnOnce() -> T) -> Result<T, LoadError> {
        let programs = &mut self.skeleton.progs;
        self.links.push(programs.follow_fork.attach_raw_tracepoint("sched_process_fork")?);
        self.links.push(programs.follow_exec.attach_raw_tracepoint("sched_process_exec")?);
        self.links.push(programs.follow_free.attach_raw_tracepoint("sched_process_free")?);
        self.set_launching_thread(rustix::thread::gettid().as_raw_nonzero().get() as u32);
        let result = spawn();
        self.set_launching_thread(0);
        Ok(result)
    }

    fn set_launching_thread(&mut self, tid: u32) {
        if let Some(bss) = self.skeleton.maps.bss_data.as_mut() {
            // SAFETY: the pointer is to a variable of the programs' .bss, which is mapped for as
            // long as the skeleton lives. It is aligned, so that it is written at once, and the
            // programs only read it.
            unsafe { std::ptr::write_volatile(&raw mut bss.launching_thread, tid) };
        }
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
}
