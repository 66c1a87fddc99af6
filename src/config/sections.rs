//! The sections of the agent itself. Those of sinks are in crate `upload`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use upload::config::Conflict;
use upload::sinks::directory::Retention;

use crate::budget::MemoryShares;
use crate::debuginfod::ServerList;
use crate::host::{AGENT_MEMORY_LEAST, agent_memory};
use crate::symbolization::SymbolizeMode;

upload::config! {
    /// What is sampled, and the overhead allowed for it.
    pub struct AgentSection {
        /// Ticks per second on each CPU.
        frequency: u32 = integer(1..=1000).default(19),
        /// Time that one profile covers.
        window: Duration = duration(seconds(1)..=hours(1)).default(seconds(10)),
        /// Name of this machine, the label `node` of each profile.
        node: String = text().computed("`$NODE_NAME`, else the host name"),
        /// Labels of each profile, as in `team = "core"`; at most 16.
        labels: BTreeMap<String, String> = labels().or_empty(),
        /// Maximum number of series in one window. Beyond it, those with the fewest samples are
        /// merged into one.
        series_max: usize = integer(1..=100_000).default(500),
        /// CPU time that everytick may use, BPF programs included, in % of total CPU capacity.
        /// Above it, the frequency is lowered, but not below 1 Hz.
        max_cpu: f64 = number(0.01..=100.0).default(1.0),
        /// Memory that everytick may use, kernel memory included.
        max_memory: u64 = bytes(MemoryShares::LEAST..=tib(1))
            .computed("`256MiB`, or 75 % of the limit of its memory cgroup if that is less")
            .needs_restart(),
        /// Whether stacks include kernel frames.
        kernel_stacks: bool = boolean().default(true).needs_restart(),
        /// Whether stacks include user frames.
        user_stacks: bool = boolean().default(true).needs_restart(),
        /// Address that serves `/healthz`, `/readyz` and `/metrics`.
        listen: Option<SocketAddr> = address()
            .or_off()
            .default(Some(SocketAddr::from(([127, 0, 0, 1], 7171))))
            .needs_restart(),
        /// Names of this machine that requests to `listen` may use in their `Host` header,
        /// separated by commas. Always accepted are addresses, `node`, names without a dot, and
        /// names that end in `.localhost`, `.local`, `.internal` or `.svc`.
        host_names: String = text().or_empty().needs_restart(),
        /// Directory that caches unwind tables for the next start, 256 MiB at most, and debug info
        /// from `debuginfod`, 1 GiB at most and what is being downloaded.
        cache_dir: Option<PathBuf> = directory()
            .or_off()
            .default(Some("/var/lib/everytick/cache".into()))
            .needs_restart(),
        /// Debuginfod servers that are asked for debug info which this machine lacks, separated by
        /// commas, or `env` for those of `$DEBUGINFOD_URLS`. They learn the build IDs of programs
        /// that run here.
        debuginfod: Option<String> = text().or_off().default(None).needs_restart(),
        /// What frames have besides their addresses: `full` is functions, inlined functions, files
        /// and lines; `names` functions alone, without reading debug info; `none` leaves files to a
        /// server that symbolizes, and names the kernel and JIT code, which it cannot.
        symbolize: SymbolizeMode = one_of().default(SymbolizeMode::Full).needs_restart(),
    }
}

/// Memory without a limit of a cgroup, in bytes.
const MEMORY_USUAL: u64 = 256 << 20;

const _: () = assert!(AGENT_MEMORY_LEAST == MemoryShares::LEAST, "one least memory");

/// Returns the default of `max_memory`, in bytes. `limit`: that of the memory cgroup.
pub(super) fn default_memory(limit: Option<u64>) -> u64 {
    limit.map_or(MEMORY_USUAL, |limit| agent_memory(limit).min(MEMORY_USUAL))
}

impl AgentSection {
    /// Returns the settings that contradict each other.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let has_stacks = self.kernel_stacks || self.user_stacks;
        let text = "is false, and so is `agent.kernel_stacks`; leave one of them on";
        let no_stacks = (!has_stacks).then(|| Conflict::new("user_stacks", text));
        let servers = self.debuginfod.as_deref().map(ServerList::check);
        let malformed = servers
            .and_then(Result::err)
            .map(|error| Conflict::new("debuginfod", format!("cannot be used: {error}")));
        let text = "is set, and `agent.cache_dir` is off; set a directory for the downloaded files";
        let no_directory = (self.debuginfod.is_some() && self.cache_dir.is_none())
            .then(|| Conflict::new("debuginfod", text));
        let text = "is set, and `agent.symbolize` is none, which reads no file; set it to names";
        let is_useless =
            self.debuginfod.is_some() && self.symbolize == SymbolizeMode::AddressesOnly;
        let not_used = is_useless.then(|| Conflict::new("debuginfod", text));
        no_stacks.into_iter().chain(malformed).chain(no_directory).chain(not_used).collect()
    }
}

upload::config! {
    /// The log, which is written to standard error.
    pub struct LogSection {
        /// Least important level that is logged.
        level: LogLevel = one_of().default(LogLevel::Info),
        /// Format of a line: for people, or a JSON object.
        format: LogFormat = one_of().default(LogFormat::Text).needs_restart(),
    }
}

upload::config! {
    /// Importance of a log line, most important first.
    pub enum LogLevel {
        /// Someone must act.
        Error = "error",
        /// Quality suffers.
        Warn = "warn",
        /// The life of the agent.
        Info = "info",
        /// For developers.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

upload::config! {
    /// Format of a log line.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// A JSON object.
        Json = "json",
    }
}

upload::config! {
    /// The local store: a directory with a pprof file for each window, for one machine without a
    /// profile store elsewhere. `everytick agent --export` and `go tool pprof` read it.
    pub struct StoreSection {
        /// Whether windows are written to the store. `--export` reads it in any case.
        enabled: bool = boolean().computed("`true` without sinks, else `false`"),
        /// Directory of the store.
        directory: PathBuf = directory().default("/var/lib/everytick/store".into()).needs_restart(),
        /// The bounds of the store.
        retention: Retention = flattened(),
    }
}
