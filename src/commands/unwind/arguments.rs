//! The arguments of `everytick unwind`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `unwind`.
#[derive(Debug, Args)]
pub struct UnwindArguments {
    /// ELF files, or directories to search for them.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Print all rows: the rule that finds the caller, from each address on.
    #[arg(long)]
    pub rows: bool,

    /// Compare with gimli's reading of the call frame information, at this many random addresses of
    /// each file, or at every row of files with fewer. The exit status is 1 if they differ.
    #[arg(
        long, value_name = "ADDRESSES", num_args = 0..=1, default_missing_value = "1000",
        require_equals = true
    )]
    pub check: Option<u64>,

    /// Seed of the random addresses.
    #[arg(long, default_value_t = 1, requires = "check")]
    pub seed: u64,

    /// Derive rows from machine code where there is no call frame information; --rows marks them.
    /// With --check, derive them everywhere, and compare them with call frame information at every
    /// instruction: knowing where functions begin, and not knowing it. A third line per file has
    /// the bytes without call frame information, and how many of them have a derived row. The exit
    /// status is 1 if more than 0.02 % of the instructions of a file are wrong, or 0.1 % where
    /// nothing is known.
    #[arg(long)]
    pub derived: bool,
}
