//! Checks of the kernel, its settings and our permissions.

use std::fs::{self, File};

use super::check_result::CheckResult;
use super::kernel_release::may_lock_up;
use crate::commands::filters;
use crate::commands::kernel_limits::{kernel_frames_limit, max_sample_rate};
use crate::commands::load_diagnostics::Capabilities;
use crate::kernel::{Unwinder, cpu_clock_opens, has_ring_buffer, online_cpus};
use crate::procfs::{parse_mounts, read_text};

pub(super) fn kernel() -> CheckResult {
    let release = read_text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    if !has_ring_buffer() {
        return CheckResult::Failed(
            format!("Linux {release} has no BPF ring buffer"),
            "use Linux 5.10 or newer",
        );
    }
    if may_lock_up(release) {
        return CheckResult::Degraded(
            format!(
                "Linux {release} may lock up when a sampler reads user memory (HARDENED_USERCOPY)"
            ),
            "use 6.1.36, 6.3.10 or newer, or a kernel with the fix",
        );
    }
    let frames = Unwinder::of_this_kernel().frames_max();
    CheckResult::Ok(format!("Linux {release}: user stacks of up to {frames} frames"))
}

pub(super) fn machine() -> CheckResult {
    match online_cpus() {
        Ok(cpus) => CheckResult::Ok(format!("{}, {} CPUs", std::env::consts::ARCH, cpus.len())),
        Err(error) => CheckResult::Failed(format!("cannot list the CPUs: {error}"), "mount /sys"),
    }
}

pub(super) fn capabilities() -> CheckResult {
    let missing = Capabilities::effective().missing();
    if missing.is_empty() {
        return CheckResult::Ok("CAP_BPF and CAP_PERFMON".into());
    }
    CheckResult::Failed(
        format!("{} missing", missing.join(" and ")),
        "run as root (sudo), or give the service CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and \
         CAP_SYSLOG",
    )
}

pub(super) fn kernel_types() -> CheckResult {
    match File::open("/sys/kernel/btf/vmlinux") {
        Ok(_) => CheckResult::Ok("/sys/kernel/btf/vmlinux".into()),
        Err(error) => CheckResult::Failed(
            format!("/sys/kernel/btf/vmlinux: {error}"),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, and mount /sys",
        ),
    }
}

pub(super) fn sampling_clock() -> CheckResult {
    match cpu_clock_opens() {
        Ok(()) => CheckResult::Ok("cpu-clock".into()),
        Err(error) => CheckResult::Failed(
            error.to_string(),
            "run as root, or lower kernel.perf_event_paranoid; in a container, allow \
             perf_event_open in seccomp",
        ),
    }
}

pub(super) fn sampling_rate() -> CheckResult {
    let rate = max_sample_rate();
    let text = format!("at most {rate} Hz");
    if rate < 99 {
        return CheckResult::Degraded(
            text,
            "the default of 99 Hz is too high: raise kernel.perf_event_max_sample_rate",
        );
    }
    CheckResult::Ok(text)
}

pub(super) fn kernel_symbols() -> CheckResult {
    let text = read_text("/proc/kallsyms").unwrap_or_default();
    let is_hidden = |line: &str| line.bytes().take_while(|byte| *byte != b' ').all(|b| b == b'0');
    if text.lines().all(is_hidden) {
        return CheckResult::Degraded(
            "/proc/kallsyms hides addresses: kernel frames will have no symbols".into(),
            "run `sysctl kernel.kptr_restrict=0`, or give CAP_SYSLOG",
        );
    }
    CheckResult::Ok("/proc/kallsyms".into())
}

pub(super) fn kernel_depth() -> CheckResult {
    let limit = kernel_frames_limit();
    let text = format!("kernel stacks of up to {limit} frames");
    if limit < 64 {
        return CheckResult::Degraded(
            text,
            "deeper stacks are cut: raise kernel.perf_event_max_stack",
        );
    }
    CheckResult::Ok(text)
}

/// Opens our own memory-mapped files, in the way in which those of other processes are opened.
pub(super) fn executables() -> CheckResult {
    let can_open = fs::read_dir("/proc/self/map_files").is_ok_and(|mut files| {
        files.any(|file| file.is_ok_and(|file| File::open(file.path()).is_ok()))
    });
    if can_open {
        return CheckResult::Ok("opened through /proc/PID/map_files".into());
    }
    CheckResult::Degraded(
        "cannot open /proc/PID/map_files: deleted files will have no symbols".into(),
        "give CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE",
    )
}

pub(super) fn pid_namespace() -> CheckResult {
    match filters::pid_namespace() {
        Ok(None) => CheckResult::Ok("the initial one: all processes are visible".into()),
        Ok(Some(_)) => CheckResult::Degraded(
            "not the initial one: only processes of this namespace are sampled".into(),
            "start everytick in the host's pid namespace (hostPID) to see all processes",
        ),
        Err(error) => CheckResult::Failed(
            profile::error_chain(error.as_ref()),
            "mount the /proc of this pid namespace",
        ),
    }
}

pub(super) fn cgroups() -> CheckResult {
    let mounts = read_text("/proc/self/mountinfo").unwrap_or_default();
    let count = |kind| parse_mounts(&mounts).filter(|mount| mount.file_system == kind).count();
    match (count("cgroup2"), count("cgroup")) {
        (0, 0) => CheckResult::Degraded(
            "no cgroup hierarchy is mounted: --cgroup cannot filter".into(),
            "mount one",
        ),
        (0, v1) => CheckResult::Ok(format!("{v1} hierarchies of cgroup v1")),
        (_, 0) => CheckResult::Ok("cgroup v2".into()),
        (_, v1) => CheckResult::Ok(format!("cgroup v2, and {v1} hierarchies of cgroup v1")),
    }
}
