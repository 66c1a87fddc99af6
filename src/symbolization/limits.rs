//! What symbolization may take: of memory, of CPU time, and of the bytes of names.

use std::time::Duration;

/// Unoptimized parsers are slower by this factor.
const SLOWNESS: u32 = if cfg!(debug_assertions) { 4 } else { 1 };
/// CPU time of one file, and its memory in bytes. The symbol tables of the largest programs take a
/// tenth of the time; debug info that takes more is left to servers that symbolize.
const FILE_CPU: Duration = Duration::from_secs(2).saturating_mul(SLOWNESS);
const FILE_MEMORY: u64 = 64 << 20;
/// CPU time of the first attempt at a file. One that takes more comes last in its window, so that
/// a few slow files do not keep all others from having names.
const FIRST_CPU: Duration = Duration::from_millis(250).saturating_mul(SLOWNESS);
/// The same in a recording.
const RECORDING_FIRST_CPU: Duration = Duration::from_secs(2);
const RECORDING_FILE_CPU: Duration = Duration::from_secs(10);
const RECORDING_NAMES: usize = 256 << 20;
/// CPU time that names may take, as a share of all CPUs.
const CPU_SHARE: f64 = 0.0025;
/// The names of one window, as a part of the cache, and at least this many bytes.
const WINDOW_NAMES_DIVISOR: usize = 3;
const WINDOW_NAMES_LEAST: usize = 2 << 20;

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

/// Limits of symbolization.
#[derive(Clone, Copy, Debug)]
pub struct SymbolizerLimits {
    /// The cache, and the worker process.
    pub memory: SymbolizerMemory,
    /// One file.
    pub file: FileLimits,
    /// Bytes of the distinct functions of one window.
    pub names: usize,
    /// CPU seconds per second over time; `None` without a limit.
    pub cpu_rate: Option<f64>,
}

/// What reading one file may take.
#[derive(Clone, Copy, Debug)]
pub struct FileLimits {
    /// CPU time of the first attempt.
    pub first_cpu: Duration,
    /// CPU time in all, until it is paid off.
    pub cpu: Duration,
    /// Growth of the worker, mapped files included, in bytes.
    pub memory: u64,
}

impl SymbolizerLimits {
    /// Returns the limits of an agent on a machine with so many CPUs.
    pub fn of_agent(memory: SymbolizerMemory, cpus: u32) -> Self {
        Self {
            memory,
            file: FileLimits { first_cpu: FIRST_CPU, cpu: FILE_CPU, memory: FILE_MEMORY },
            names: (memory.cache / WINDOW_NAMES_DIVISOR).max(WINDOW_NAMES_LEAST),
            cpu_rate: Some(CPU_SHARE * f64::from(cpus.max(1))),
        }
    }

    /// Returns the limits of a recording, which symbolizes once, and whose user waits for it.
    pub fn of_recording(memory: SymbolizerMemory) -> Self {
        Self {
            memory,
            file: FileLimits {
                first_cpu: RECORDING_FIRST_CPU,
                cpu: RECORDING_FILE_CPU,
                memory: memory.worker,
            },
            names: RECORDING_NAMES,
            cpu_rate: None,
        }
    }
}
