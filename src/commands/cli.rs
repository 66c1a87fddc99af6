//! The command line: every flag with its help text and its range.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use jiff::tz::TimeZone;
use upload::output::Format;

use super::debuginfo::DebuginfoArguments;
use super::examples::{
    AGENT_EXAMPLES, COMPLETIONS_EXAMPLES, EXAMPLES, MAN_EXAMPLES, RECORD_EXAMPLES, VERIFY_EXAMPLES,
};
use super::output_values::{RootFrames, RuntimeFramesMode, exported_root, format};
use super::perf_arguments::PerfArguments;
use super::runtimes::RuntimesArguments;
use super::unwind::UnwindArguments;
use super::values::{self, CpuList};
use crate::config::{Flags, RangeError, TimeRange};
use crate::debuginfod::ServerList;
use crate::symbolization::SymbolizeMode;

/// A continuous, system-wide CPU profiler for Linux.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Profile the machine, or a part of it, and write files.
    Record(RecordArguments),
    /// Profile the machine continuously, and deliver a profile of each window.
    Agent(AgentArguments),
    /// Check whether this host can be profiled, and what is missing.
    Doctor,
    /// Show where the names of files come from, and which paths were searched for debug info.
    Debuginfo(DebuginfoArguments),
    /// Show which interpreters processes run, and whether their functions have frames.
    Runtimes(RuntimesArguments),
    /// Build unwind tables of ELF files, show and check them.
    Unwind(UnwindArguments),
    /// Verify unwinding on this host: a second unwinder walks the same ticks.
    Verify(VerifyArguments),
    /// Print the completions of a shell.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the man page, or write those of all commands into a directory.
    #[command(after_help = MAN_EXAMPLES)]
    Man {
        /// Directory for everytick.1, everytick-record.1 and the others.
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// Symbolize addresses for a running `record` or `agent`.
    #[command(hide = true)]
    SymbolizerWorker {
        /// Memory limit in MiB.
        memory: u64,
    },
    /// Open files for a running `record` or `agent`.
    #[command(hide = true)]
    FileHelper,
    /// Derive unwind rows for a running `record` or `agent`.
    #[command(hide = true)]
    Deriver,
}

/// What `record` and `verify` sample.
#[derive(Debug, Args)]
pub(super) struct SamplingArguments {
    /// Sampling frequency in Hz, on each CPU. `max` is what the kernel allows, 10000 at most.
    #[arg(
        short = 'F', long, visible_alias = "freq", value_name = "HZ", default_value = "99",
        allow_negative_numbers = true, value_parser = values::frequency
    )]
    pub frequency: u32,

    /// Stop after this time, as in 10, 500ms or 1h30m; a number alone is in seconds. COMMAND gets
    /// SIGTERM then. Without it, Ctrl-C or the end of COMMAND or of all of -p and -t stops.
    #[arg(
        short, long, value_name = "TIME", allow_negative_numbers = true,
        value_parser = values::duration
    )]
    pub duration: Option<Duration>,

    /// Only these processes, with all their threads, as in 12 or 12,34. Can be given several times.
    #[arg(
        short, long = "pid", value_name = "PID", allow_negative_numbers = true,
        value_delimiter = ',', value_parser = values::pid
    )]
    pub pids: Vec<u32>,

    /// Only these threads, as in 12 or 12,34. Can be given several times.
    #[arg(
        short, long = "tid", value_name = "TID", allow_negative_numbers = true,
        value_delimiter = ',', value_parser = values::tid
    )]
    pub tids: Vec<u32>,

    /// Only on these CPUs, as in 0 or 0,2-3. Can be given several times.
    #[arg(
        short = 'C', long = "cpu", value_name = "CPUS", allow_negative_numbers = true,
        value_parser = values::cpus
    )]
    pub cpus: Vec<CpuList>,
}

/// Arguments of `record`.
#[derive(Debug, Args)]
#[command(after_help = RECORD_EXAMPLES)]
pub(super) struct RecordArguments {
    #[command(flatten)]
    pub sampling: SamplingArguments,

    /// The whole machine, also while COMMAND runs. Without COMMAND, -p and -t that is the default.
    #[arg(short, long = "all-cpus", conflicts_with_all = ["pids", "tids"])]
    pub all: bool,

    /// Only processes in this cgroup and below, in any hierarchy: a directory, or a path as in
    /// /proc/PID/cgroup. Can be given several times.
    #[arg(long = "cgroup", value_name = "PATH")]
    pub cgroups: Vec<PathBuf>,

    /// Only threads with this name, or of processes with this name. Can be given several times.
    #[arg(long = "comm", value_name = "NAME")]
    pub comms: Vec<String>,

    /// Write this file; its extension selects the format: .svg (flamegraph), .pb.gz (pprof),
    /// .folded (folded stacks), .speedscope.json, .perf (as perf script prints it) or
    /// .firefox.json.gz (Firefox Profiler). `-` is standard output. Can be given several times.
    /// Default: everytick.svg and everytick.pb.gz.
    #[arg(short, long = "output", value_name = "FILE")]
    pub outputs: Vec<PathBuf>,

    /// Format of all files, whatever their extension.
    #[arg(long, value_name = "FORMAT", value_parser = format())]
    pub format: Option<Format>,

    /// Keep the time and the CPU of each sample, of up to 16 million: for .perf. A file for the
    /// Firefox Profiler implies it.
    #[arg(long)]
    pub timestamps: bool,

    /// Root frames of stacks in flamegraphs and folded stacks.
    #[arg(long, value_enum, default_value_t = RootFrames::Process)]
    pub by: RootFrames,

    /// Draw flame graphs from the root at the bottom up, instead of from the top down.
    #[arg(long)]
    pub bottom_up: bool,

    /// Native frames of an interpreter between the functions that it runs, in all files but pprof,
    /// which always has them.
    #[arg(long, value_name = "MODE", value_enum, default_value_t = RuntimeFramesMode::Hide)]
    pub runtime_frames: RuntimeFramesMode,

    /// Leave out kernel frames.
    #[arg(long, conflicts_with = "no_user")]
    pub no_kernel: bool,

    /// Leave out user frames.
    #[arg(long)]
    pub no_user: bool,

    /// Sample idle CPUs too.
    #[arg(long)]
    pub idle: bool,

    /// Print nothing but errors and lost samples.
    #[arg(short, long, overrides_with = "verbose")]
    pub quiet: bool,

    /// Print every tick, how stacks ended, and the overhead in parts as well.
    #[arg(short, long, overrides_with = "quiet")]
    pub verbose: bool,

    /// Print the summary as JSON to standard output.
    #[arg(long)]
    pub json: bool,

    /// Size of the ring buffer for samples, as in 16MiB. Default: two seconds of samples. Without
    /// capabilities, as far as this memory may be locked.
    #[arg(long = "ring-size", value_name = "SIZE", value_parser = values::ring_kib)]
    pub ring_kib: Option<u32>,

    /// Time limit of a tick, after which it cuts the stack.
    #[arg(
        long, value_name = "MICROSECONDS", hide = true,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub tick_limit: Option<u32>,

    /// Size of each CPU's ring buffer for process events.
    #[arg(
        long = "side-band-size", value_name = "SIZE", hide = true, value_parser = values::ring_kib
    )]
    pub side_band_kib: Option<u32>,

    /// Kernel memory for unwind tables. When it is full, the least recently used are evicted.
    #[arg(
        long = "unwind-memory", value_name = "SIZE", default_value = "128MiB",
        value_parser = values::unwind_mib
    )]
    pub unwind_mib: u32,

    /// Cache unwind tables in this directory across runs, 256 MiB at most. It is created if it does
    /// not exist, and can be deleted at any time.
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,

    /// What frames have besides their addresses: `full` is functions, inlined functions, files and
    /// lines; `names` functions alone, without reading debug info; `none` leaves files to a server
    /// that symbolizes, and names the kernel and JIT code, which it cannot.
    #[arg(long, value_name = "MODE", default_value = "full")]
    #[arg(value_parser = values::symbolize_mode())]
    pub symbolize: SymbolizeMode,

    /// Ask these debuginfod servers for debug info that this machine lacks, separated by commas, or
    /// `env` for those of $DEBUGINFOD_URLS. They learn the build IDs of the programs. The end waits
    /// up to 10 seconds for answers, or until Ctrl-C. Files are cached below --cache-dir, or
    /// ~/.cache/everytick, 1 GiB at most.
    #[arg(long, value_name = "URLS", value_parser = ServerList::parse)]
    pub debuginfod: Option<ServerList>,

    #[command(flatten)]
    pub perf: PerfArguments,

    /// Run this command, profile it and its descendants, and stop when it exits.
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Arguments of `agent`.
#[derive(Debug, Args)]
#[command(after_help = AGENT_EXAMPLES)]
pub(super) struct AgentArguments {
    #[command(flatten)]
    pub flags: Flags,

    /// Print the effective configuration with the source of each value, or all errors, and exit.
    #[arg(long, conflicts_with = "export")]
    pub check_config: bool,

    /// Merge the profiles of a time range in the local store into files, and exit. FROM and TO are
    /// -5m for five minutes ago, `now`, a local time such as 11:18 or 2026-11-25T11:18, or
    /// 2026-11-25T10:18:00Z. Without TO the range ends now.
    #[arg(
        long, value_name = "FROM..TO", allow_hyphen_values = true, value_parser = time_range,
        requires = "outputs"
    )]
    pub export: Option<TimeRange>,

    /// Export to this file; its extension selects the format: .svg (flamegraph), .pb.gz (pprof),
    /// .folded (folded stacks), .speedscope.json or .perf (as perf script prints it). `-` is
    /// standard output. Can be given several times.
    #[arg(short, long = "output", value_name = "FILE", requires = "export")]
    pub outputs: Vec<PathBuf>,

    /// Format of all exported files, whatever their extension.
    #[arg(long, value_name = "FORMAT", value_parser = format(), requires = "export")]
    pub format: Option<Format>,

    /// Export only windows of this agent, HOST or HOST/INSTANCE. Can be given several times.
    #[arg(long = "only-agent", value_name = "AGENT", requires = "export")]
    pub agents: Vec<String>,

    /// Root frames of stacks in exported flamegraphs and folded stacks: always `process`.
    #[arg(long, default_value = "process", requires = "export", value_parser = exported_root)]
    pub by: RootFrames,

    /// Draw flame graphs from the root at the bottom up, instead of from the top down.
    #[arg(long, requires = "export")]
    pub bottom_up: bool,

    /// Native frames of an interpreter between the functions that it runs, in all files but pprof,
    /// which always has them.
    #[arg(
        long, value_name = "MODE", value_enum, default_value_t = RuntimeFramesMode::Hide,
        requires = "export"
    )]
    pub runtime_frames: RuntimeFramesMode,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_EXAMPLES)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    pub sampling: SamplingArguments,

    /// Write all figures and all differences to this file too, as JSON.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Unwind by rows derived from machine code alone, to see how right they are: our unwinder
    /// ignores all call frames, which framehop uses.
    #[arg(long)]
    pub derived_only: bool,

    /// Show at most this many differences.
    #[arg(long, value_name = "COUNT", default_value_t = 12)]
    pub places: usize,

    /// Run this command, verify it and its descendants, and stop when it exits.
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn time_range(text: &str) -> Result<TimeRange, RangeError> {
    TimeRange::parse(text, SystemTime::now(), &TimeZone::system())
}

/// Parses the arguments of `record`, separated by spaces.
#[cfg(test)]
pub(super) fn parse_record(arguments: &str) -> RecordArguments {
    #[derive(Debug, clap::Parser)]
    struct Record {
        #[command(flatten)]
        arguments: RecordArguments,
    }
    let all = ["record"].into_iter().chain(arguments.split_whitespace());
    <Record as clap::Parser>::parse_from(all).arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[derive(Debug, Parser)]
    struct Agent {
        #[command(flatten)]
        arguments: AgentArguments,
    }

    #[test]
    fn export_range_may_start_with_a_minus_and_needs_a_file() {
        let parse = |arguments: &[&str]| {
            let all = [&["agent"], arguments].concat();
            Agent::try_parse_from(all).map_err(|error| error.to_string())
        };
        Agent::command().debug_assert();
        let agent = parse(&["--export", "-5m..now", "-o", "x.svg", "--store", "/s", "-F", "19"]);
        let arguments = agent.map(|agent| agent.arguments);
        let range = arguments.as_ref().ok().and_then(|arguments| arguments.export);
        assert_eq!(
            range.map(|range| range.to_unix_ns - range.from_unix_ns),
            Some(300_000_000_000),
            "{arguments:?}"
        );
        let error = parse(&["--export", "-5m..now"]).err().unwrap_or_default();
        assert!(error.contains("--output <FILE>"), "{error}");
        let error = parse(&["--export", "soon..now", "-o", "x.svg"]).err().unwrap_or_default();
        assert!(error.contains("\"soon\" is not a time"), "{error}");
        assert!(parse(&["--check-config", "--config", "x.toml"]).is_ok());
        let export = ["--export", "-5m..", "-o", "x.svg", "--by"];
        assert!(parse(&[&export[..], &["process"]].concat()).is_ok());
        for by in ["thread", "pid", "cmdline"] {
            let error = parse(&[&export[..], &[by]].concat()).err().unwrap_or_default();
            assert!(error.contains("the agent adds up the samples of all threads"), "{error}");
        }
    }
}
