//! What a profile says about itself: how well it was taken, where, and by whom.

use profile::{CaptureLedger, Profile, StackEnd, thousands};

/// Says of user and kernel stacks how they ended, in per cent of those that there were.
pub fn quality(ledger: &CaptureLedger) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, ends) in [("user stacks", &ledger.user_ends), ("kernel stacks", &ledger.kernel_ends)]
    {
        let present = |end: &&StackEnd| **end != StackEnd::Absent;
        let all: u64 = StackEnd::ALL.iter().filter(present).map(|end| ends[*end as usize]).sum();
        if all == 0 {
            continue;
        }
        let mut parts: Vec<_> = StackEnd::ALL.iter().filter(present).collect();
        parts.retain(|end| ends[**end as usize] > 0);
        parts.sort_by_key(|end| u64::MAX - ends[**end as usize]);
        let texts: Vec<String> = parts
            .iter()
            .map(|end| {
                let cut = if end.is_cut() { "cut: " } else { "" };
                format!(
                    "{cut}{} {:.1} %",
                    end.text(),
                    100.0 * ends[**end as usize] as f64 / all as f64
                )
            })
            .collect();
        lines.push(format!("{name:<14}{} ({})", thousands(all), texts.join(", ")));
    }
    if ledger.guessed > 0 {
        let share = 100.0 * ledger.guessed as f64 / ledger.aggregated.max(1) as f64;
        lines.push(format!(
            "{:<14}{share:.1} % of samples have frames by frame pointer alone",
            "guessed"
        ));
    }
    lines
}

/// What this machine is called; in a container that has a name of its own, that name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The lines that a pprof file carries beside its ledger. `host`: the machine's name; `pace`: how it was sampled, in words.
pub fn comments(profile: &Profile, host: &str, pace: &str) -> Vec<String> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut lines = vec![
        format!("everytick {}", env!("CARGO_PKG_VERSION")),
        format!("host {host}, Linux {release}"),
        format!("cpu-clock at {pace} on {} CPUs", profile.ledger.cpus.len()),
    ];
    lines.extend(quality(&profile.ledger));
    lines
}
