//! What is said at the end of `record`, and what the profile carries about itself.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::time::Duration;

use profile::{Profile, SymbolizedFrame, counted, thousands};
use symbolizer::Usage;

use super::meter::share_of_machine;
use crate::processes::Executables;
use crate::session::SessionCounts;
use crate::symbolization::{UnsymbolizedExecutable, is_kernel_unsymbolized, quality};

/// Functions listed at the end.
const TOP: usize = 5;

/// What a recording cost the machine.
pub(super) struct Cost {
    pub counts: SessionCounts,
    pub symbolizer: Usage,
}

/// What went less well than it could have.
pub(super) struct Trouble<'a> {
    pub unnamed: &'a [UnsymbolizedExecutable],
    pub executables: &'a Executables,
    /// Processes that /proc was asked about after the start.
    pub looked_up: u64,
}

/// Says what was recorded, how well, at what cost, and where the time went.
pub(super) fn summary(profile: &Profile, cost: &Cost, trouble: &Trouble<'_>) -> String {
    let mut text = String::new();
    let elapsed = Duration::from_nanos(profile.duration_ns);
    let processes: HashSet<_> = profile.tasks.iter().map(|task| task.pid).collect();
    let _ = writeln!(
        text,
        "everytick: {} of {} in {:.1} s",
        counted(profile.ledger.aggregated, "sample", "samples"),
        counted(processes.len() as u64, "process", "processes"),
        elapsed.as_secs_f64()
    );
    for line in quality(&profile.ledger) {
        let _ = writeln!(text, "  {line}");
    }
    for line in profile.ledger.to_string().lines() {
        let _ = writeln!(text, "  ticks         {line}");
    }
    text.push_str(&unwinding(&cost.counts));
    for line in troubles(profile, trouble, &cost.counts) {
        let _ = writeln!(text, "  note          {line}");
    }
    text.push_str(&cost_lines(cost, elapsed));
    text.push_str(&top_functions(profile));
    text
}

fn troubles(profile: &Profile, trouble: &Trouble<'_>, session: &SessionCounts) -> Vec<String> {
    let mut lines = Vec::new();
    if is_kernel_unsymbolized(profile) {
        lines.push(
            "kernel functions have no names: `sysctl kernel.kptr_restrict=0`, or add CAP_SYSLOG"
                .into(),
        );
    }
    for UnsymbolizedExecutable { executable, reason } in trouble.unnamed.iter().take(TOP) {
        lines.push(format!("no names in {executable}: {reason}"));
    }
    let more = trouble.unnamed.len().saturating_sub(TOP);
    if more > 0 {
        lines.push(format!("no names in {more} more executables"));
    }
    let counts = [
        (session.not_followed, "child processes were too many to follow and are missing"),
        (trouble.executables.unopened(), "executables could not be opened in time"),
        (trouble.executables.unanswered(), "of these are on a file system that did not answer"),
    ];
    if session.side_band_lost > 0 {
        lines.push(format!(
            "{} process events lost; {} looked up in /proc again, stacks from in between may lack frames",
            thousands(session.side_band_lost),
            counted(trouble.looked_up, "process", "processes"),
        ));
    }
    let present = counts.into_iter().filter(|(count, _)| *count > 0);
    lines.extend(present.map(|(count, what)| format!("{} {what}", thousands(count))));
    lines
}

/// Says what unwinding went by, and what there was no room for.
fn unwinding(session: &SessionCounts) -> String {
    let SessionCounts { tables, finished, .. } = session;
    let taken = match tables.cache.taken {
        0 => String::new(),
        taken => format!(", {} from the cache", thousands(taken)),
    };
    let mut text = format!(
        "  unwinding     {} with {}{taken}; {} finished by the agent\n",
        counted(tables.tables, "table", "tables"),
        counted(tables.rows, "row", "rows"),
        counted(*finished, "stack", "stacks"),
    );
    let unkept = format!("tables could not be kept in the cache: {}", tables.cache.error());
    let notes = [
        (tables.evicted, "tables made room for others: see --unwind-memory"),
        (tables.refused, "tables found no room in --unwind-memory: their stacks are cut"),
        (tables.unreadable, "executables have call frames that could not be read"),
        (
            tables.cache.damaged,
            "damaged files in the cache were removed, and their tables made anew",
        ),
        (tables.cache.unkept, &unkept),
    ];
    for (count, what) in notes.into_iter().filter(|(count, _)| *count > 0) {
        let _ = writeln!(text, "  note          {} {what}", thousands(count));
    }
    text
}

fn cost_lines(cost: &Cost, elapsed: Duration) -> String {
    let Cost { counts: SessionCounts { sampler, file_helper, map_bytes, .. }, symbolizer } = cost;
    let agent = Usage::own();
    let cpu = agent.cpu + file_helper.cpu + sampler.total + symbolizer.cpu;
    let mib = |kib: u64| kib as f64 / 1024.0;
    format!(
        "  own CPU       {:.0} ms, {:.2} % of the machine (agent {:.0}, file helper {:.0}, symbolizer {:.0}, sampler {:.1})\n  \
         sampler       {:.1} us a tick, 99.9 % up to {:.0} us, at most {:.0} us\n  \
         own memory    {:.1} MiB agent, {:.1} MiB file helper, {:.1} MiB symbolizer, {:.1} MiB kernel maps\n",
        millis(cpu),
        share_of_machine(cpu, elapsed),
        millis(agent.cpu),
        millis(file_helper.cpu),
        millis(symbolizer.cpu),
        millis(sampler.total),
        micros(sampler.per_tick()),
        micros(sampler.p999),
        micros(sampler.max),
        mib(agent.peak_rss_kib),
        mib(file_helper.peak_rss_kib),
        mib(symbolizer.peak_rss_kib),
        mib(map_bytes >> 10),
    )
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn top_functions(profile: &Profile) -> String {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for sample in &profile.samples {
        if let Some(leaf) = profile.frames_of(sample).next() {
            *counts.entry(leaf_name(profile, leaf)).or_default() += sample.count;
        }
    }
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let all = profile.ledger.aggregated.max(1) as f64;
    let mut text = String::new();
    for (at, (name, count)) in counts.iter().take(TOP).enumerate() {
        let title = if at == 0 { "top functions" } else { "" };
        let _ = writeln!(text, "  {title:<13} {:5.1} %  {name}", 100.0 * *count as f64 / all);
    }
    text
}

fn leaf_name(profile: &Profile, leaf: &SymbolizedFrame) -> String {
    let file = profile.mapping_of(leaf).name.rsplit('/').next().unwrap_or_default();
    match leaf.lines.first() {
        Some(line) => format!("{} ({file})", profile.functions[line.function as usize].name),
        None => format!("{file}+{:#x}", leaf.address),
    }
}
