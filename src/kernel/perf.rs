//! Opens, switches and reads perf events.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use perf_event_open_sys as sys;
use perf_event_open_sys::bindings as attr;
use profile::{Cpu, Tid};

use super::cpus::online_cpus;

/// Why a perf event could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("perf_event_open for {}CPU {cpu}: {source}", of_task(.task), cpu = cpu.0)]
pub struct PerfError {
    /// The CPU.
    pub cpu: Cpu,
    /// The thread; `None` for all of them.
    pub task: Option<Tid>,
    /// The error of the system call.
    pub source: io::Error,
}

fn of_task(task: &Option<Tid>) -> String {
    task.map_or_else(String::new, |tid| format!("thread {} on ", tid.0))
}

/// An open perf event of one CPU, for all tasks or for one. Closed when dropped.
#[derive(Debug)]
pub(super) struct PerfEvent {
    fd: OwnedFd,
}

impl PerfEvent {
    /// Opens the sampling clock of a CPU at `frequency` ticks a second, disabled.
    ///
    /// The kernel turns the frequency of this event into the fixed period 1e9 / frequency ns.
    ///
    /// `records`: perf writes a record of a tick, with user registers and stack, if the BPF program
    /// returns 1 for it.
    pub fn cpu_clock(cpu: Cpu, frequency: u32, records: bool) -> Result<Self, PerfError> {
        let mut event = software_event(attr::PERF_COUNT_SW_CPU_CLOCK);
        event.__bindgen_anon_1.sample_freq = u64::from(frequency);
        event.set_freq(1);
        event.set_disabled(1);
        event.read_format = u64::from(attr::PERF_FORMAT_TOTAL_TIME_RUNNING);
        if records {
            request_records(&mut event, PERF_STACK_BYTES);
            wake_reader_at(&mut event, PERF_SAMPLES_WAKEUP);
        }
        Self::open(&mut event, None, cpu)
    }

    /// Opens an event that never ticks and records every exec, fork, exit, name and executable
    /// mapping on a CPU, and code that comes into the kernel or leaves it, in time of
    /// CLOCK_MONOTONIC.
    ///
    /// It does not request build IDs: the kernel would then set the build ID flag in the records of
    /// other profilers' events too, which would read inodes as build IDs.
    pub fn side_band(cpu: Cpu) -> Result<Self, PerfError> {
        let mut event = side_band_event();
        event.set_ksymbol(1);
        Self::open(&mut event, None, cpu)
    }

    /// Opens an event that never ticks. Its running time shows whether its CPU stays online.
    pub fn silent(cpu: Cpu) -> Result<Self, PerfError> {
        let mut event = software_event(attr::PERF_COUNT_SW_DUMMY);
        event.read_format = u64::from(attr::PERF_FORMAT_TOTAL_TIME_RUNNING);
        Self::open(&mut event, None, cpu)
    }

    /// Opens an event. `task`: a thread, 0 for the calling one; `None` for all tasks.
    pub fn open(
        event: &mut attr::perf_event_attr,
        task: Option<Tid>,
        cpu: Cpu,
    ) -> Result<Self, PerfError> {
        let (pid, no_group) = (task.map_or(-1, |tid| tid.0 as i32), -1);
        // SAFETY: `event` is a valid perf_event_attr, and its `size` is correct. The kernel reads
        // it during the call only.
        let fd = unsafe {
            sys::perf_event_open(
                event,
                pid,
                cpu.0 as i32,
                no_group,
                attr::PERF_FLAG_FD_CLOEXEC.into(),
            )
        };
        if fd < 0 {
            return Err(PerfError { cpu, task, source: io::Error::last_os_error() });
        }
        // SAFETY: the kernel has just opened this descriptor, and nothing else owns it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Disables the event. Its running time stands still from then on.
    pub fn disable(&self) -> io::Result<()> {
        // SAFETY: the descriptor is an open perf event, and the request takes no argument.
        match unsafe { sys::ioctls::DISABLE(self.fd.as_raw_fd(), 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Enables the event.
    pub fn enable(&self) -> io::Result<()> {
        // SAFETY: as above.
        match unsafe { sys::ioctls::ENABLE(self.fd.as_raw_fd(), 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sets the period of the clock, in nanoseconds. The first tick comes a period after `enable`.
    pub fn set_period(&self, period: u64) -> io::Result<()> {
        let address = (&raw const period).addr() as u64;
        // SAFETY: the descriptor is an open perf event. The request takes the address of the
        // period, despite the type of the binding. The kernel reads it during the call only.
        match unsafe { sys::ioctls::PERIOD(self.fd.as_raw_fd(), address) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Reads for how many nanoseconds the event has been in use on its CPU.
    ///
    /// The time for which it was enabled is not the same: enabling an event whose CPU has been
    /// offline makes that time go on, though the event never ticks again.
    pub fn running_ns(&self) -> io::Result<u64> {
        Ok(self.counts()?.0)
    }

    /// Reads what [`Self::running_ns`] does, and how many records the event has lost, if its
    /// `read_format` has that. Both include all tasks that have inherited the event.
    pub fn counts(&self) -> io::Result<(u64, Option<u64>)> {
        let mut bytes = [0; 24]; // value, time running, and records lost if they are requested
        let read = rustix::io::read(&self.fd, &mut bytes)?;
        let word = |at: usize| {
            let word = bytes[..read].get(at..at + 8)?;
            word.try_into().ok().map(u64::from_ne_bytes)
        };
        Ok((word(8).ok_or(io::ErrorKind::UnexpectedEof)?, word(16)))
    }

    /// Has the event write to the ring of another event of its CPU.
    pub fn write_to(&self, ring: &Self) -> io::Result<()> {
        // SAFETY: both descriptors are open perf events. The kernel keeps the ring alive for as
        // long as this event may write to it.
        match unsafe { sys::ioctls::SET_OUTPUT(self.fd.as_raw_fd(), ring.fd.as_raw_fd()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Returns another descriptor of the same event.
    pub fn duplicate(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }

    /// Returns the descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for PerfEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const CLOCK_MONOTONIC: i32 = 1;
/// Bytes of stack in perf's record of a tick. The size of a record has 16 bits, and registers, ids
/// and time take some 200 bytes of it.
pub const PERF_STACK_BYTES: u32 = 65_024;
/// Unread bytes of such records at which the reader is woken.
const PERF_SAMPLES_WAKEUP: u32 = 1 << 20;

/// Returns an event that the kernel counts by itself.
pub(super) fn software_event(config: u32) -> attr::perf_event_attr {
    attr::perf_event_attr {
        type_: attr::PERF_TYPE_SOFTWARE,
        size: mem::size_of::<attr::perf_event_attr>() as u32,
        config: u64::from(config),
        ..Default::default()
    }
}

/// Returns the event of [`PerfEvent::side_band`].
pub(super) fn side_band_event() -> attr::perf_event_attr {
    let mut event = software_event(attr::PERF_COUNT_SW_DUMMY);
    event.sample_type =
        u64::from(attr::PERF_SAMPLE_TID | attr::PERF_SAMPLE_TIME | attr::PERF_SAMPLE_CPU);
    event.set_sample_id_all(1);
    event.set_mmap(1);
    event.set_mmap2(1);
    event.set_comm(1);
    event.set_comm_exec(1);
    event.set_task(1);
    use_monotonic_clock(&mut event);
    wake_reader_at(&mut event, 1);
    event
}

/// Takes the times of records from CLOCK_MONOTONIC.
pub(super) fn use_monotonic_clock(event: &mut attr::perf_event_attr) {
    event.set_use_clockid(1);
    event.clockid = CLOCK_MONOTONIC;
}

/// Wakes the reader of the event's ring at this number of unread bytes.
pub(super) fn wake_reader_at(event: &mut attr::perf_event_attr, bytes: u32) {
    event.set_watermark(1);
    event.__bindgen_anon_2.wakeup_watermark = bytes;
}

/// Requests records of ticks as [`crate::events`] parses them, with as many bytes of stack.
pub(super) fn request_records(event: &mut attr::perf_event_attr, stack_bytes: u32) {
    event.sample_type = u64::from(
        attr::PERF_SAMPLE_TID
            | attr::PERF_SAMPLE_TIME
            | attr::PERF_SAMPLE_CPU
            | attr::PERF_SAMPLE_REGS_USER
            | attr::PERF_SAMPLE_STACK_USER,
    );
    event.sample_regs_user =
        unwind::arch::PERF_REGISTERS.iter().fold(0, |mask, bit| mask | 1 << bit);
    event.sample_stack_user = stack_bytes;
    use_monotonic_clock(event);
}

/// Opens a sampling clock and closes it, to find out whether that works here.
///
/// # Errors
/// [`PerfError`] if the kernel refuses it.
pub fn cpu_clock_opens() -> Result<(), PerfError> {
    let cpu = online_cpus().ok().and_then(|cpus| cpus.first().copied()).unwrap_or(Cpu(0));
    PerfEvent::cpu_clock(cpu, 1, false).map(drop)
}
