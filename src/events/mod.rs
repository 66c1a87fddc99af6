//! Turns bytes from the kernel into typed events.
//!
//! [`spawn_reader`] runs the one thread that empties the kernel's rings. It parses every record
//! and sends the events of one turn as an [`EventBatch`], in no particular order.
//! This module never reads /proc.

mod batch;
mod clock;
mod event;
mod interpreter;
mod parse;
mod process_event_limit;
mod raw_sample;
mod reader;
mod rings;
mod task_samples;
mod wakeup;

pub use batch::EventBatch;
pub use clock::{cpu_time, now, since_boot_ns, unix_ns};
pub use event::{
    CommEvent, Event, ExitEvent, FileIdentity, ForkEvent, KernelCodeEvent, LATE_RECORD_NS,
    MmapEvent, MoveEvent, TimedEvent,
};
pub use interpreter::{CodeRecord, CodeText, InterpreterFrame, InterpreterStack};
pub use process_event_limit::ProcessEventLimit;
pub use raw_sample::{PerfSample, PerfStackSnapshot, RawSample, StackSnapshot, UserFrame};
pub use reader::{Reader, spawn_reader};
pub use rings::{CpuRings, RingChanges, Rings};
pub use task_samples::{SampleCounts, TaskSamples};
