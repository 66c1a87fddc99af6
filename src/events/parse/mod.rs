//! Parsers of ring records, one file per kind of ring. Each takes the bytes of one record.

mod interpreter;
mod perf_record;
mod perf_sample;
mod sampler;
mod side_band;
mod task_sample;

pub(super) use perf_record::{ParsedRecord, SkippedRecord};
pub(super) use perf_sample::parse as perf_sample_record;
pub(super) use sampler::parse as sampler_record;
pub(super) use side_band::{parse as side_band_record, parse_pid as side_band_pid};
pub(super) use task_sample::{TaskRecord, parse as task_record};
