//! Knows which process had what mapped at the time of each sample.
//!
//! [`Processes`] applies events in time order, after one pass over procfs. [`Executables`] opens a
//! file as soon as the kernel reports its mapping, so that a process that exits or a file that is
//! deleted later can still be symbolized.
//!
//! Nothing here touches BPF maps, and nothing waits for a process or a file system: `file_helper`
//! does. Memory, open files and the CPU time of reads are shared by owners: what exceeds the part
//! of one is left out, and counted by [`TrackingLimit`].

mod code_name_gap;
mod code_names;
mod code_objects;
mod command_line;
mod content;
mod copied_text;
mod copy_sources;
mod debug_files;
mod elf;
mod executable;
mod executables;
mod file_helper;
mod frame_names;
mod identity;
mod interner;
mod interpreted_frames;
mod jit_code;
mod kernel_code;
mod kernel_symbols;
mod labelling;
mod lifecycle;
mod mappings;
pub mod open_files;
mod owners;
mod perf_maps;
mod process_reader;
mod process_runtime;
mod process_table;
mod scan;
mod thread_names;
mod tracking_limit;
mod untrusted_path;

pub use code_name_gap::CodeNameGap;
pub use code_names::CodeName;
pub use content::{ContentId, is_at};
pub use debug_files::{DebugFileSearch, SearchOutcome, SearchedPath, SeparateDebugFiles};
pub use executable::{Executable, ExecutableOrigin, WindowExecutables};
pub use executables::Executables;
pub use file_helper::serve as serve_file_helper;
pub use identity::Identity;
pub use interpreted_frames::{InterpretedElement, InterpretedStack};
pub use labelling::LabelCounts;
pub use mappings::{AddressSpace, Mapping};
pub use process_table::Processes;
pub use tracking_limit::{RefusalCounts, TrackingLimit};
pub use untrusted_path::open_regular_at;
