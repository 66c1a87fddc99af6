//! `everytick doctor`: what this host supports, what is missing, and what to do about it.
//!
//! The last check is `record` itself, in small: it loads the programs, lets them tick and
//! reads a sample. Only when that works is the exit status 0.

use std::fs::{self, File};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};

use super::OURSELVES;
use super::filters::pid_namespace;
use super::load_diagnostics::{Capabilities, explain};
use super::record::{kernel_frames_limit, max_sample_rate, ring_bytes};
use crate::kernel::{
    Filters, SamplerConfig, Unwinder, cpu_clock_opens, has_ring_buffer, online_cpus,
};
use crate::processes::proc::{read_text, start_ticks};
use crate::session::{ScanScope, Session, SessionLimits};

/// Samples a second of the trial, and how long it takes.
const TRIAL_HZ: u32 = 199;
const TRIAL: Duration = Duration::from_millis(200);

/// What a check found.
enum Finding {
    /// As it should be.
    Good(String),
    /// Profiles lack something: what, and what to do.
    Lacks(String, &'static str),
    /// `record` cannot run: what is wrong, and what to do.
    Stops(String, &'static str),
}

/// Prints every check. Gives success only if `record` can run here.
pub(super) fn run() -> Result<ExitCode> {
    let mut can_record = true;
    for (name, check) in CHECKS {
        let (mark, text, step) = match check() {
            Finding::Good(text) => ("ok", text, None),
            Finding::Lacks(text, step) => ("lacks", text, Some(step)),
            Finding::Stops(text, step) => {
                can_record = false;
                ("FAILS", text, Some(step))
            }
        };
        print(&format!("{mark:<6} {name:<16} {text}"));
        if let Some(step) = step {
            print(&format!("{:<23} -> {step}", ""));
        }
    }
    print("");
    print(if can_record {
        "`everytick record` works here."
    } else {
        "`everytick record` cannot run here."
    });
    Ok(if can_record { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The report is what was asked for, so it goes to standard output.
fn print(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

type Check = fn() -> Finding;

const CHECKS: [(&str, Check); 12] = [
    ("kernel", kernel),
    ("machine", machine),
    ("capabilities", capabilities),
    ("kernel types", kernel_types),
    ("sampling clock", sampling_clock),
    ("sampling rate", sampling_rate),
    ("kernel names", kernel_names),
    ("kernel depth", kernel_depth),
    ("executables", executables),
    ("pid namespace", namespace),
    ("cgroup filters", cgroups),
    ("trial", trial),
];

fn kernel() -> Finding {
    let release = read_text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    if !has_ring_buffer() {
        return Finding::Stops(
            format!("Linux {release} has no BPF ring buffer"),
            "use Linux 5.10 or newer",
        );
    }
    match version(release) {
        Some(version) if ((5, 19)..(6, 4)).contains(&version) && may_lock_up(release) => {
            Finding::Lacks(
                format!(
                    "Linux {release} may lock up when a sampler reads user memory (HARDENED_USERCOPY)"
                ),
                "use 6.1.36, 6.3.10 or newer, or a kernel with the fix",
            )
        }
        _ => {
            let frames = Unwinder::of_this_kernel().frames_max();
            Finding::Good(format!("Linux {release}: user stacks of up to {frames} frames"))
        }
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// Linux 5.19 to 6.3 with CONFIG_HARDENED_USERCOPY, before 6.1.36 and 6.3.10: copying
/// from user memory in an interrupt takes a lock that the interrupted code may hold.
fn may_lock_up(release: &str) -> bool {
    let version = read_text("/proc/version").unwrap_or_default();
    let stable = debian_version(&version).unwrap_or(release);
    let mut numbers = stable.split(['.', '-']).map_while(|part| part.parse::<u32>().ok()).skip(1);
    let (minor, patch) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let is_mended = (minor == 1 && patch >= 36) || (minor == 3 && patch >= 10);
    let config = fs::read_to_string(format!("/boot/config-{release}"));
    let is_hardened = config.map_or(true, |config| config.contains("CONFIG_HARDENED_USERCOPY=y"));
    !is_mended && is_hardened
}

/// Debian's releases (6.1.0-56-amd64) leave out the patch level, which the banner has: `... Debian 6.1.192-2 (2026-..`.
fn debian_version(banner: &str) -> Option<&str> {
    banner.split_once(" Debian ")?.1.split_whitespace().next()
}

fn machine() -> Finding {
    match online_cpus() {
        Ok(cpus) => Finding::Good(format!("{}, {} CPUs", std::env::consts::ARCH, cpus.len())),
        Err(error) => Finding::Stops(format!("the CPUs cannot be listed: {error}"), "mount /sys"),
    }
}

fn capabilities() -> Finding {
    let missing = Capabilities::own().missing();
    if missing.is_empty() {
        return Finding::Good("those that profiling needs".into());
    }
    Finding::Stops(
        format!("{} missing", missing.join(" and ")),
        "run as root (sudo), or give the service CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and CAP_SYSLOG",
    )
}

fn kernel_types() -> Finding {
    match File::open("/sys/kernel/btf/vmlinux") {
        Ok(_) => Finding::Good("/sys/kernel/btf/vmlinux".into()),
        Err(error) => Finding::Stops(
            format!("/sys/kernel/btf/vmlinux: {error}"),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, and mount /sys",
        ),
    }
}

fn sampling_clock() -> Finding {
    match cpu_clock_opens() {
        Ok(()) => Finding::Good("cpu-clock".into()),
        Err(error) => Finding::Stops(
            error.to_string(),
            "run as root, or lower kernel.perf_event_paranoid; in a container allow perf_event_open in seccomp",
        ),
    }
}

fn sampling_rate() -> Finding {
    let rate = max_sample_rate();
    let text = format!("at most {rate} Hz");
    if rate < 99 {
        return Finding::Lacks(
            text,
            "the default of 99 Hz is refused: raise kernel.perf_event_max_sample_rate",
        );
    }
    Finding::Good(text)
}

fn kernel_names() -> Finding {
    let text = read_text("/proc/kallsyms").unwrap_or_default();
    let is_hidden = |line: &str| line.bytes().take_while(|byte| *byte != b' ').all(|b| b == b'0');
    if text.lines().all(is_hidden) {
        return Finding::Lacks(
            "/proc/kallsyms hides addresses: kernel functions will have no names".into(),
            "sysctl kernel.kptr_restrict=0, or give CAP_SYSLOG",
        );
    }
    Finding::Good("/proc/kallsyms".into())
}

fn kernel_depth() -> Finding {
    let limit = kernel_frames_limit();
    let text = format!("kernel stacks of up to {limit} frames");
    if limit < 64 {
        return Finding::Lacks(text, "deeper ones are cut: raise kernel.perf_event_max_stack");
    }
    Finding::Good(text)
}

/// Tries our own memory as another process's would be opened.
fn executables() -> Finding {
    let can_open = fs::read_dir("/proc/self/map_files").is_ok_and(|mut files| {
        files.any(|file| file.is_ok_and(|file| File::open(file.path()).is_ok()))
    });
    if can_open {
        return Finding::Good("opened through /proc/PID/map_files".into());
    }
    Finding::Lacks(
        "/proc/PID/map_files cannot be opened: files that were deleted will have no names".into(),
        "give CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE",
    )
}

fn namespace() -> Finding {
    match pid_namespace() {
        Ok(None) => Finding::Good("the first: every process is seen".into()),
        Ok(Some(_)) => Finding::Lacks(
            "not the first: only processes of this namespace are sampled".into(),
            "start everytick in the host's pid namespace (hostPID) to see all",
        ),
        Err(error) => Finding::Stops(format!("{error:#}"), "mount the /proc of this pid namespace"),
    }
}

fn cgroups() -> Finding {
    let mounts = read_text("/proc/self/mountinfo").unwrap_or_default();
    let count =
        |kind: &str| mounts.lines().filter(|line| line.contains(&format!(" - {kind} "))).count();
    match (count("cgroup2"), count("cgroup")) {
        (0, 0) => Finding::Lacks(
            "no cgroup hierarchy is mounted: --cgroup cannot filter".into(),
            "mount one",
        ),
        (0, v1) => Finding::Good(format!("{v1} hierarchies of version 1")),
        (_, 0) => Finding::Good("cgroup v2".into()),
        (_, v1) => Finding::Good(format!("cgroup v2 and {v1} hierarchies of version 1")),
    }
}

fn trial() -> Finding {
    match try_record() {
        Ok((samples, sampler_us)) => Finding::Good(format!(
            "{samples} samples of ourselves in {} ms, {sampler_us:.1} us a tick",
            TRIAL.as_millis()
        )),
        Err(error) => Finding::Stops(format!("{error:#}"), "see the lines above"),
    }
}

fn try_record() -> Result<(u64, f64)> {
    let own_pid = std::process::id();
    let start = start_ticks(own_pid).context("/proc does not show ourselves")?;
    let settings = SamplerConfig {
        command: true,
        filters: Filters { processes: vec![(own_pid, start)], ..Filters::default() },
        pid_namespace: pid_namespace()?,
        kernel_frames_limit: kernel_frames_limit(),
        ring_bytes: ring_bytes(TRIAL_HZ),
        ..SamplerConfig::machine(TRIAL_HZ.min(max_sample_rate()))
    };
    let mut session = Session::start(
        OURSELVES,
        settings,
        ScanScope::Only(Vec::new()),
        SessionLimits::default(),
        None,
        None,
    )
    .map_err(explain)?;
    session.launch(spin).map_err(explain)?;
    let recording = session.finish()?;
    recording.last.ledger.check()?;
    ensure!(
        recording.last.ledger.aggregated > 0,
        "the programs load, but no sample of ourselves comes"
    );
    let each = recording.last.counts.sampler.per_tick();
    Ok((recording.last.ledger.aggregated, each.as_secs_f64() * 1e6))
}

/// Works for the time of the trial: a machine that sleeps may not tick.
fn spin() {
    let now = || {
        let time = clock_gettime(ClockId::Monotonic);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let start = now();
    while now() - start < TRIAL {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::{debian_version, version};

    #[test]
    fn a_debian_kernel_tells_its_patch_level_in_the_banner() {
        let banner = "Linux version 6.1.0-56-amd64 (gcc 12) #1 SMP Debian 6.1.192-2 (2026-10-01)";
        assert_eq!(debian_version(banner), Some("6.1.192-2"));
        assert_eq!(debian_version("Linux version 6.18.44 (gcc 12) #1 SMP"), None);
    }

    #[test]
    fn versions_are_two_numbers() {
        let check = |text, expected| assert_eq!(version(text), expected, "{text}");
        check("6.18.44-fc-v669", Some((6, 18)));
        check("5.10.0-32-cloud-amd64", Some((5, 10)));
        check("7.3-rc7", Some((7, 3)));
        check("odd", None);
    }
}
