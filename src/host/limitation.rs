//! Something that the host lacks, and what follows from it.

/// Something that the host lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limitation {
    /// For metrics.
    pub reason: LimitationReason,
    /// Nothing can be profiled.
    pub is_fatal: bool,
    /// What is missing, and what follows from it.
    pub text: String,
    /// What to do about it.
    pub next_step: String,
}

impl Limitation {
    /// Profiles lack something.
    pub(super) fn degraded(
        reason: LimitationReason,
        text: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Self {
        Self { reason, is_fatal: false, text: text.into(), next_step: next_step.into() }
    }

    /// Nothing can be profiled.
    pub(super) fn fatal(
        reason: LimitationReason,
        text: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Self {
        Self { is_fatal: true, ..Self::degraded(reason, text, next_step) }
    }
}

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckResult {
    /// What the host has.
    pub found: String,
    /// What it lacks.
    pub missing: Vec<Limitation>,
}

impl CheckResult {
    pub(super) fn ok(found: impl Into<String>) -> Self {
        Self { found: found.into(), missing: Vec::new() }
    }

    /// Returns what is missing, or `found` if nothing is.
    pub(super) fn of(found: impl Into<String>, missing: Option<Limitation>) -> Self {
        Self { missing: missing.into_iter().collect(), ..Self::ok(found) }
    }
}

impl From<Limitation> for CheckResult {
    fn from(missing: Limitation) -> Self {
        Self { found: String::new(), missing: vec![missing] }
    }
}

/// Declares the reasons with their texts.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// What kind of thing is missing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum LimitationReason {
            $($(#[$doc])* $name,)+
        }

        impl LimitationReason {
            /// All reasons.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Returns the value of the label `reason` of `everytick_host_limitation`.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

reasons! {
    /// The kernel has no BPF ring buffer.
    RingBuffer = "ring buffer",
    /// The kernel may lock up.
    KernelDefect = "kernel defect",
    /// /sys does not list the CPUs.
    CpuList = "CPU list",
    /// The capability to load BPF programs.
    CapBpf = "CAP_BPF",
    /// The capability to sample all processes.
    CapPerfmon = "CAP_PERFMON",
    /// The capability to read /proc of processes of other users.
    CapSysPtrace = "CAP_SYS_PTRACE",
    /// The capability to read files of other users.
    CapDacReadSearch = "CAP_DAC_READ_SEARCH",
    /// The kernel does not describe its types.
    Btf = "BTF",
    /// The kernel is locked down.
    Lockdown = "lockdown",
    /// The sampling clock does not open.
    SamplingClock = "sampling clock",
    /// The kernel allows a low sampling rate only.
    SampleRate = "perf_event_max_sample_rate",
    /// The kernel lowers the sampling rate soon.
    CpuTime = "perf_cpu_time_max_percent",
    /// The kernel cuts kernel stacks.
    StackDepth = "perf_event_max_stack",
    /// The kernel hides its symbols.
    KernelSymbols = "kernel symbols",
    /// Deleted files cannot be opened.
    MapFiles = "map_files",
    /// Other pid namespaces are not visible.
    PidNamespace = "pid namespace",
    /// /proc hides processes of other users.
    HidePid = "hidepid",
    /// No cgroup hierarchy is mounted.
    Cgroups = "cgroups",
    /// Few files can be open.
    OpenFiles = "open files",
    /// The memory cgroup is small.
    MemoryLimit = "memory limit",
    /// The CPU cgroup is small.
    CpuLimit = "CPU limit",
}
