//! The command line: every flag with its help and its range.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, Parser, Subcommand, ValueEnum};
use upload::output::StackRoot;

use crate::config::{Flags, RangeError, TimeRange};

/// A continuous, system-wide CPU profiler for Linux.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  everytick record                         profile the machine until Ctrl-C
  everytick record -d 10 -o cpu.svg        ten seconds, a flamegraph only
  everytick record -p 1234 -p 5678         two processes
  everytick record --cgroup /kubepods      all pods of this node
  everytick record -F 999 -- make -j8      a command and all that it starts
  everytick doctor                         what this host supports";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Profile the machine, or a part of it, into files.
    Record(RecordArguments),
    /// Profile the machine for months, and deliver a profile each window.
    Agent(AgentArguments),
    /// Tell whether this host can be profiled, and what is missing.
    Doctor,
    /// Show what the unwinder makes of ELF files, and check it.
    Unwind(UnwindArguments),
    /// Judge unwinding on this host: another unwinder walks the very same ticks.
    Verify(VerifyArguments),
    /// Name addresses for a running `record` or `agent`.
    #[command(hide = true)]
    SymbolizerWorker {
        /// MiB of memory that it may take.
        memory: u64,
    },
    /// Open files for it.
    #[command(hide = true)]
    FileHelper,
}

/// What `record` is to do.
#[derive(Debug, Args)]
#[command(after_help = RECORD_EXAMPLES)]
pub(super) struct RecordArguments {
    /// Samples a second on each CPU.
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = 99, value_parser = clap::value_parser!(u32).range(1..))]
    pub frequency: u32,

    /// Stop after so many seconds; without it Ctrl-C or the end of COMMAND stops.
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = seconds)]
    pub duration: Option<f64>,

    /// Only this process with its threads. Can be given several times.
    #[arg(short, long = "pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Vec<u32>,

    /// Only processes in this cgroup or below, in any hierarchy: a directory, or a
    /// path as /proc/PID/cgroup shows it. Can be given several times.
    #[arg(long = "cgroup", value_name = "PATH")]
    pub cgroups: Vec<PathBuf>,

    /// Only threads of this name, or of processes of this name. Can be given several times.
    #[arg(long = "comm", value_name = "NAME")]
    pub comms: Vec<String>,

    /// A file to write, its ending tells the format: .svg (flamegraph), .pb.gz (pprof) or
    /// .folded (text). Can be given several times. Without it: everytick.svg and everytick.pb.gz.
    #[arg(short, long = "output", value_name = "FILE")]
    pub outputs: Vec<PathBuf>,

    /// What stacks in flamegraphs and text start with.
    #[arg(long, value_enum, default_value_t = Start::Process)]
    pub by: Start,

    /// Leave out kernel frames.
    #[arg(long, conflicts_with = "no_user")]
    pub no_kernel: bool,

    /// Leave out user frames.
    #[arg(long)]
    pub no_user: bool,

    /// Sample idle CPUs too.
    #[arg(long)]
    pub idle: bool,

    /// Print nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,

    /// KiB of memory in which samples wait for the agent; by default what two seconds need.
    #[arg(long, value_name = "KIB", value_parser = clap::value_parser!(u32).range(4..=1 << 20))]
    pub ring_size: Option<u32>,

    /// Microseconds after which a tick cuts the stack that it walks.
    #[arg(long, value_name = "MICROSECONDS", hide = true, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub tick_limit: Option<u32>,

    /// KiB of memory in which each CPU's process events wait for the agent.
    #[arg(long, value_name = "KIB", hide = true, value_parser = clap::value_parser!(u32).range(4..=1 << 20))]
    pub side_band_size: Option<u32>,

    /// MiB of kernel memory for unwind tables; what was not sampled for longest makes room.
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub unwind_memory: u32,

    /// Keep unwind tables in this directory, 256 MiB at most, and take those of earlier runs from there. It is made if it
    /// is not there, and can be deleted at any time.
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,

    /// Run this command, profile it with all that it starts, and stop when it ends.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What `agent` is to do.
#[derive(Debug, Args)]
#[command(after_help = AGENT_EXAMPLES)]
pub(super) struct AgentArguments {
    /// What is configured.
    #[command(flatten)]
    pub flags: Flags,

    /// Show what is in force and where each value comes from, or all that is wrong, and stop.
    #[arg(long, conflicts_with = "export")]
    pub check_config: bool,

    /// Merge what the local store has of a range of time into files, and stop. FROM and TO are times
    /// such as 2026-11-25T10:00:00Z, `now`, or -5m for five minutes ago.
    #[arg(long, value_name = "FROM..TO", allow_hyphen_values = true, value_parser = time_range, requires = "outputs")]
    pub export: Option<TimeRange>,

    /// A file to export to, its ending tells the format: .svg (flamegraph), .pb.gz (pprof) or
    /// .folded (text). Can be given several times.
    #[arg(short, long = "output", value_name = "FILE", requires = "export")]
    pub outputs: Vec<PathBuf>,

    /// What stacks in exported flamegraphs and text start with.
    #[arg(long, value_enum, default_value_t = Start::Process)]
    pub by: Start,
}

/// What `unwind` is to do.
#[derive(Debug, Args)]
pub(super) struct UnwindArguments {
    /// ELF files; directories are searched for them.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Print every row: from which address on the caller is found how.
    #[arg(long)]
    pub rows: bool,

    /// Compare with DWARF as gimli reads it, at so many random addresses of each file, or at every
    /// row where there are fewer; the exit status is 1 if there is a difference.
    #[arg(long, value_name = "ADDRESSES", num_args = 0..=1, default_missing_value = "1000", require_equals = true)]
    pub check: Option<u64>,

    /// Other random addresses.
    #[arg(long, default_value_t = 1, requires = "check")]
    pub seed: u64,
}

/// What `verify` is to do.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_EXAMPLES)]
pub(super) struct VerifyArguments {
    /// Samples a second on each CPU.
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = 99, value_parser = clap::value_parser!(u32).range(1..))]
    pub frequency: u32,

    /// Stop after so many seconds; without it Ctrl-C or the end of COMMAND stops.
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = seconds)]
    pub duration: Option<f64>,

    /// Only this process with its threads. Can be given several times.
    #[arg(short, long = "pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Vec<u32>,

    /// Write all figures and every place of difference to this file too, as JSON.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Show at most so many places of difference.
    #[arg(long, value_name = "COUNT", default_value_t = 12)]
    pub places: usize,

    /// Run this command, judge it with all that it starts, and stop when it ends.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

const AGENT_EXAMPLES: &str = "\
A file, over it the environment, over that flags say what it does; docs/configuration.md has all
keys. Without any, it samples at 19 Hz and keeps profiles in /var/lib/everytick/store.

Examples:
  everytick agent                              profile this machine for months
  everytick agent --config everytick.toml --check-config
  everytick agent --export -5m..now -o cpu.svg the last five minutes as a flamegraph";

const VERIFY_EXAMPLES: &str = "\
perf copies registers and 64 KiB of stack of each tick; framehop walks that copy by the call
frames of the same files. It knows no register but ip, sp and fp, and goes on by frame pointer
without saying so where call frames do not serve it: a difference says that one of the two is
wrong. `readelf --debug-dump=frames-interp FILE` at the address shown says which.

Examples:
  everytick verify -d 10                   whatever runs on this machine
  everytick verify -o verify.json -- make  a command and all that it starts";

const RECORD_EXAMPLES: &str = "\
Filters of one kind widen each other (-p 1 -p 2: either), filters of different kinds
narrow each other (-p 1 --comm x: both). They work in the kernel: what is left out costs
next to nothing. The exit status is that of COMMAND.

A stack that is not complete starts with [cut: reason]; in pprof it has a label `cut`.
Every tick of the sampling clock is accounted for at the end and in the pprof comments.

Examples:
  everytick record -d 30 -o before.pb.gz && go tool pprof -http : before.pb.gz
  everytick record --comm postgres --by thread -o postgres.svg
  everytick record -F 999 -o build.folded -- cargo build";

/// What stacks start with.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Start {
    /// The name of the process.
    Process,
    /// The name of the process, then that of the thread.
    Thread,
}

impl From<Start> for StackRoot {
    fn from(start: Start) -> Self {
        match start {
            Start::Process => Self::Process,
            Start::Thread => Self::Thread,
        }
    }
}

fn time_range(text: &str) -> Result<TimeRange, RangeError> {
    TimeRange::parse(text, SystemTime::now())
}

fn seconds(text: &str) -> Result<f64, String> {
    const LONGEST: f64 = 1e9;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= LONGEST => Ok(seconds),
        _ => Err("give a number of seconds above 0, such as 10 or 0.5".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[derive(Debug, Parser)]
    struct Agent {
        #[command(flatten)]
        arguments: AgentArguments,
    }

    #[test]
    fn a_range_may_begin_with_a_minus_and_wants_a_file() {
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
        assert!(error.contains("\"soon\" is no time"), "{error}");
        assert!(parse(&["--check-config", "--config", "x.toml"]).is_ok());
    }
}
