//! The comments of a profile: how complete its stacks are, where it was taken, and by what.

use profile::{CaptureContext, CaptureLedger, Profile, StackEnd, thousands};

/// Describes how user and kernel stacks ended, in percent of the stacks of each kind.
pub fn quality(ledger: &CaptureLedger) -> Vec<String> {
    let stacks = [("user stacks", &ledger.user_ends), ("kernel stacks", &ledger.kernel_ends)];
    let mut lines: Vec<String> =
        stacks.into_iter().filter_map(|(name, ends)| stack_ends(name, ends)).collect();
    if ledger.guessed > 0 {
        let share = 100.0 * ledger.guessed as f64 / ledger.aggregated.max(1) as f64;
        lines.push(format!(
            "{:<14}{share:.1} % of samples have frames by frame pointer alone",
            "guessed"
        ));
    }
    lines
}

/// Lists the ends of stacks, the most frequent first; `None` without stacks.
fn stack_ends(name: &str, ends: &[u64]) -> Option<String> {
    let count = |end: &StackEnd| ends[*end as usize];
    let mut found: Vec<StackEnd> = StackEnd::ALL.to_vec();
    found.retain(|end| *end != StackEnd::Absent && count(end) > 0);
    found.sort_by_key(|end| u64::MAX - count(end));
    let all: u64 = found.iter().map(count).sum();
    let describe = |end: &StackEnd| {
        let cut = if end.is_cut() { "cut: " } else { "" };
        format!("{cut}{} {:.1} %", end.text(), 100.0 * count(end) as f64 / all as f64)
    };
    let descriptions: Vec<String> = found.iter().map(describe).collect();
    (all > 0).then(|| format!("{name:<14}{} ({})", thousands(all), descriptions.join(", ")))
}

/// Returns the name of this machine; in a container with a host name of its own, that name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns the context of a profile that was taken on this machine.
///
/// `host`: name of the machine; `frequency`: as configured, in Hz; `selects_cpus`: whether the CPUs
/// of the ledger are a selection; `scope`: what was selected.
pub fn capture_context(
    profile: &Profile,
    host: &str,
    frequency: u32,
    selects_cpus: bool,
    scope: &str,
) -> CaptureContext {
    let uname = rustix::system::uname();
    CaptureContext {
        host: host.to_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        frequency,
        clocks: profile.ledger.clocks,
        cpus: profile.ledger.cpus.len() as u32,
        selects_cpus,
        scope: scope.to_owned(),
    }
}

/// Returns the lines that a pprof file carries beside its ledger.
pub fn comments(profile: &Profile, context: &CaptureContext) -> Vec<String> {
    let mut lines = vec![format!("everytick {}", env!("CARGO_PKG_VERSION")), context.to_string()];
    lines.extend(quality(&profile.ledger));
    lines
}
