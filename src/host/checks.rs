//! The checks: the kernel, its settings, our permissions and limits.

use std::fs::{self, File};

use profile::error_chain;
use symbolizer::KernelAccess;

use super::capabilities::Capabilities;
use super::kernel_limits::{kernel_frames_limit, max_sample_rate, sysctl};
use super::kernel_release::may_lock_up;
use super::limitation::{CheckResult, Limitation, LimitationReason as Reason};
use super::pid_namespace::pid_namespace;
use super::{cgroup_limits, open_files};
use crate::kernel::{Unwinder, cpu_clock_opens, has_ring_buffer, online_cpus};
use crate::procfs::{parse_mounts, read_text};

/// A check.
pub type HostCheck = fn() -> CheckResult;

/// All checks, with the names under which `doctor` prints them.
pub const CHECKS: [(&str, HostCheck); 17] = [
    ("kernel", kernel),
    ("machine", machine),
    ("capabilities", capabilities),
    ("kernel types", kernel_types),
    ("lockdown", lockdown),
    ("sampling clock", sampling_clock),
    ("sampling rate", sampling_rate),
    ("sampling time", sampling_time),
    ("kernel symbols", kernel_symbols),
    ("kernel depth", kernel_depth),
    ("executables", executables),
    ("pid namespace", check_pid_namespace),
    ("processes", processes),
    ("cgroup filters", cgroups),
    ("open files", open_files::check),
    ("memory limit", cgroup_limits::check_memory),
    ("CPU limit", cgroup_limits::check_cpu),
];

fn kernel() -> CheckResult {
    let release = read_text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    if !has_ring_buffer() {
        let text = format!("Linux {release} has no BPF ring buffer");
        return Limitation::fatal(Reason::RingBuffer, text, "use Linux 5.10 or newer").into();
    }
    let defect = || {
        Limitation::degraded(
            Reason::KernelDefect,
            format!(
                "Linux {release} may lock up when a sampler reads user memory (HARDENED_USERCOPY)"
            ),
            "use 6.1.36, 6.3.10 or newer, or a kernel with the fix",
        )
    };
    let frames = Unwinder::of_this_kernel().frames_max();
    let found = format!("Linux {release}: user stacks of up to {frames} frames");
    CheckResult::of(found, may_lock_up(release).then(defect))
}

fn machine() -> CheckResult {
    match online_cpus() {
        Ok(cpus) => CheckResult::ok(format!("{}, {} CPUs", std::env::consts::ARCH, cpus.len())),
        Err(error) => {
            let text = format!("cannot list the CPUs: {error}");
            Limitation::fatal(Reason::CpuList, text, "mount /sys").into()
        }
    }
}

fn capabilities() -> CheckResult {
    let missing = Capabilities::effective().limitations();
    CheckResult { found: "all that are used".into(), missing }
}

fn kernel_types() -> CheckResult {
    const FILE: &str = "/sys/kernel/btf/vmlinux";
    match File::open(FILE) {
        Ok(_) => CheckResult::ok(FILE),
        Err(error) => Limitation::fatal(
            Reason::Btf,
            format!("{FILE}: {error}"),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, and mount /sys",
        )
        .into(),
    }
}

/// In the mode `confidentiality`, BPF programs cannot read kernel memory, and so no stacks.
fn lockdown() -> CheckResult {
    let modes = read_text("/sys/kernel/security/lockdown").unwrap_or_default();
    let mode = modes.split(['[', ']']).nth(1).unwrap_or("none");
    let limitation = || {
        Limitation::fatal(
            Reason::Lockdown,
            "the kernel is locked down (confidentiality): BPF programs cannot read memory",
            "boot with lockdown=integrity or without it",
        )
    };
    CheckResult::of(mode, (mode == "confidentiality").then(limitation))
}

fn sampling_clock() -> CheckResult {
    match cpu_clock_opens() {
        Ok(()) => CheckResult::ok("cpu-clock"),
        Err(error) => Limitation::fatal(
            Reason::SamplingClock,
            error_chain(&error),
            "run as root, or lower kernel.perf_event_paranoid; in a container, allow \
             perf_event_open in seccomp",
        )
        .into(),
    }
}

fn sampling_rate() -> CheckResult {
    let rate = max_sample_rate();
    let limitation = || {
        Limitation::degraded(
            Reason::SampleRate,
            format!(
                "kernel.perf_event_max_sample_rate allows {rate} Hz, less than the 99 of record"
            ),
            "raise kernel.perf_event_max_sample_rate",
        )
    };
    CheckResult::of(format!("at most {rate} Hz"), (rate < 99).then(limitation))
}

/// Beyond this part of CPU time in ticks, the kernel lowers the sampling rate for all.
fn sampling_time() -> CheckResult {
    const LEAST: u32 = 5;
    let Some(percent) = sysctl("perf_cpu_time_max_percent").filter(|percent| *percent < 100) else {
        return CheckResult::ok("not limited by the kernel");
    };
    let limitation = || {
        Limitation::degraded(
            Reason::CpuTime,
            format!(
                "kernel.perf_cpu_time_max_percent is {percent}: the kernel soon lowers \
                 kernel.perf_event_max_sample_rate, and ticks are missed"
            ),
            "set kernel.perf_cpu_time_max_percent to 25, the default of Linux",
        )
    };
    let found = format!("{percent} % of CPU time, as the kernel allows");
    CheckResult::of(found, (1..LEAST).contains(&percent).then(limitation))
}

fn kernel_symbols() -> CheckResult {
    match KernelAccess::probe() {
        KernelAccess::Available => CheckResult::ok("/proc/kallsyms"),
        access => Limitation::degraded(
            Reason::KernelSymbols,
            format!("{}: kernel frames have no symbols", access.cause()),
            access.next_step(),
        )
        .into(),
    }
}

fn kernel_depth() -> CheckResult {
    let limit = kernel_frames_limit();
    let limitation = || {
        Limitation::degraded(
            Reason::StackDepth,
            format!("kernel.perf_event_max_stack is {limit}: deeper kernel stacks are cut"),
            "raise kernel.perf_event_max_stack to 127, the default of Linux",
        )
    };
    CheckResult::of(format!("kernel stacks of up to {limit} frames"), (limit < 64).then(limitation))
}

/// Opens our own memory-mapped files, in the way in which those of other processes are opened.
fn executables() -> CheckResult {
    let can_open = fs::read_dir("/proc/self/map_files").is_ok_and(|mut files| {
        files.any(|file| file.is_ok_and(|file| File::open(file.path()).is_ok()))
    });
    let limitation = || {
        Limitation::degraded(
            Reason::MapFiles,
            "cannot open /proc/PID/map_files: deleted files have no symbols",
            "give CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE",
        )
    };
    CheckResult::of("opened through /proc/PID/map_files", (!can_open).then(limitation))
}

fn check_pid_namespace() -> CheckResult {
    match pid_namespace() {
        Ok(None) => CheckResult::ok("the initial one"),
        Ok(Some(_)) => Limitation::degraded(
            Reason::PidNamespace,
            "not the initial one: only processes of this namespace are sampled",
            "start everytick in the host's pid namespace (hostPID) to see all processes",
        )
        .into(),
        Err(error) => Limitation::fatal(
            Reason::PidNamespace,
            error_chain(error.as_ref()),
            "mount the /proc of this pid namespace",
        )
        .into(),
    }
}

/// The option `hidepid` of /proc hides processes of other users from those without CAP_SYS_PTRACE.
fn processes() -> CheckResult {
    let mounts = read_text("/proc/self/mountinfo").unwrap_or_default();
    let proc_mount = parse_mounts(&mounts)
        .filter(|mount| mount.file_system == "proc" && mount.mount_point.as_os_str() == "/proc")
        .last();
    let options = proc_mount.map_or("", |mount| mount.options);
    let hidepid = options.split(',').find_map(|option| option.strip_prefix("hidepid="));
    let is_hidden = hidepid.is_some_and(|mode| !["0", "off"].contains(&mode))
        && !Capabilities::effective().has_ptrace();
    let limitation = || {
        Limitation::degraded(
            Reason::HidePid,
            "/proc is mounted with hidepid: processes of other users have no mappings and labels",
            "give CAP_SYS_PTRACE, or mount /proc without hidepid",
        )
    };
    CheckResult::of("those of all users are visible", is_hidden.then(limitation))
}

fn cgroups() -> CheckResult {
    let mounts = read_text("/proc/self/mountinfo").unwrap_or_default();
    let count = |kind| parse_mounts(&mounts).filter(|mount| mount.file_system == kind).count();
    match (count("cgroup2"), count("cgroup")) {
        (0, 0) => Limitation::degraded(
            Reason::Cgroups,
            "no cgroup hierarchy is mounted: --cgroup cannot filter",
            "mount /sys/fs/cgroup",
        )
        .into(),
        (0, v1) => CheckResult::ok(format!("{v1} hierarchies of cgroup v1")),
        (_, 0) => CheckResult::ok("cgroup v2"),
        (_, v1) => CheckResult::ok(format!("cgroup v2, and {v1} hierarchies of cgroup v1")),
    }
}
