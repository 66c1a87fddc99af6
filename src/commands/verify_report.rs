//! The report of `verify`: as text for people, and as JSON for scripts.

use std::fmt::Write;

use profile::{ExecutableId, Frame, pluralize, printable, thousands};
use serde_json::{Value, json};

use crate::processes::Executables;
use crate::verify::{
    Comparison, ComparisonCounts, Difference, DifferenceKind, DifferenceSite, DwarfAgreement,
    Findings, WalkEnd,
};

/// Executables listed in the text.
const EXECUTABLES: usize = 20;

/// Returns the report as text, with at most `sites_max` sites of difference.
pub(super) fn text(
    findings: &Findings,
    executables: &Executables,
    seconds: f64,
    sites_max: usize,
) -> String {
    let mut text = String::new();
    let total = &findings.total;
    let ticks = pluralize(findings.seen, "tick", "ticks");
    let _ = writeln!(
        text,
        "everytick: {ticks} with a user stack in {seconds:.1} s, {} compared with framehop",
        thousands(total.compared())
    );
    for (name, count, meaning) in [
        ("equal", total.equal, "the same frames"),
        ("shorter", total.shorter, "ours stops earlier and agrees up to there"),
        ("longer", total.longer, "ours continues where framehop stops"),
        ("different", total.different, "the two differ at some frame"),
    ] {
        let share = share(count, total.compared());
        let _ = writeln!(text, "  {name:<13} {:>9}  {share:>9}  {meaning}", thousands(count));
    }
    let _ = writeln!(text, "{}", not_compared(findings));
    for (name, all, equal, meaning) in [
        ("both complete", total.both_complete, total.both_complete_equal, "of them equal"),
        ("  and sure", total.sure_complete, total.sure_complete_equal, "without guessed frames"),
    ] {
        let share = share(equal, all);
        let _ = writeln!(text, "  {name:<13} {:>9}  {share:>9}  {meaning}", thousands(all));
    }
    if total.compared() > total.equal {
        let _ = writeln!(text, "  DWARF itself  {}", dwarf_agreements(total));
    }
    push_executables(&mut text, findings, executables);
    push_sites(&mut text, findings, executables, sites_max);
    text
}

/// Returns which of the two DWARF agrees with where they are not equal.
fn dwarf_agreements(total: &ComparisonCounts) -> String {
    let all = [
        (DwarfAgreement::Ours, total.dwarf_ours),
        (DwarfAgreement::Framehop, total.dwarf_framehop),
        (DwarfAgreement::Neither, total.dwarf_neither),
        (DwarfAgreement::Unknown, total.dwarf_unknown),
    ];
    let texts = all.map(|(agreement, count)| format!("{}: {}", agreement.text(), thousands(count)));
    texts.join(", ")
}

/// Returns a line on ticks compared in part, and one on ticks not compared at all.
fn not_compared(findings: &Findings) -> String {
    let line = |name: &str, is_cut: bool, meaning: &str| {
        let of_kind = findings.reasons().filter(|(reason, _)| reason.is_cut() == is_cut);
        let present: Vec<_> = of_kind.filter(|(_, count)| *count > 0).collect();
        let all = thousands(present.iter().map(|(_, count)| count).sum());
        let texts: Vec<String> = present
            .iter()
            .map(|(reason, count)| format!("{}: {}", reason.text(), thousands(*count)))
            .collect();
        let reasons = if texts.is_empty() { "" } else { &format!(" ({})", texts.join(", ")) };
        format!("  {name:<13} {all:>9}             {meaning}{reasons}")
    };
    let cut = line("cut", true, "compared in part: equal up to a limit");
    let without = line("not compared", false, "");
    format!("{cut}\n{}", without.trim_end())
}

fn share(part: u64, all: u64) -> String {
    match all {
        0 => "-".into(),
        _ => format!("{:.3} %", 100.0 * part as f64 / all as f64),
    }
}

fn push_executables(text: &mut String, findings: &Findings, executables: &Executables) {
    let all = sorted_executables(findings);
    if all.is_empty() {
        return;
    }
    let _ = writeln!(text, "  by the executable of the last frame on which both agree:");
    let _ = writeln!(
        text,
        "      equal  shorter  longer  different  both complete      equal  executable"
    );
    for (id, counts) in all.iter().take(EXECUTABLES) {
        let _ = writeln!(
            text,
            "  {:>9}  {:>7}  {:>6}  {:>9}  {:>13}  {:>9}  {}",
            thousands(counts.equal),
            thousands(counts.shorter),
            thousands(counts.longer),
            thousands(counts.different),
            thousands(counts.both_complete),
            share(counts.both_complete_equal, counts.both_complete),
            printable(&executables.get(*id).name),
        );
    }
    if all.len() > EXECUTABLES {
        let _ = writeln!(text, "  and {} more", all.len() - EXECUTABLES);
    }
}

/// Returns the counts of executables, those with most ticks first.
fn sorted_executables(findings: &Findings) -> Vec<(ExecutableId, ComparisonCounts)> {
    let mut all: Vec<_> =
        findings.by_executable.iter().map(|(id, counts)| (*id, *counts)).collect();
    all.sort_by_key(|(id, counts)| (u64::MAX - counts.compared(), *id));
    all
}

/// Returns the sites, most telling first: both stacks complete but not equal, then different
/// frames, then different lengths.
fn sorted_sites(findings: &Findings) -> Vec<(&DifferenceKind, &DifferenceSite)> {
    let mut all: Vec<_> = findings.sites.iter().collect();
    all.sort_by_key(|(kind, site)| {
        let different = kind.comparison == Comparison::Different;
        (!kind.both_complete, !different, u64::MAX - site.count, **kind)
    });
    all
}

fn push_sites(text: &mut String, findings: &Findings, executables: &Executables, sites_max: usize) {
    let all = sorted_sites(findings);
    for (kind, site) in all.iter().take(sites_max) {
        let Difference { comm, pid, depth, ours, theirs, rule } = &site.example;
        let at = Frame::new(kind.executable, kind.address);
        let _ = writeln!(
            text,
            "  {} {}: {} ({pid}), after frame {depth} at {}",
            thousands(site.count),
            name(kind.comparison),
            printable(comm),
            printable(&location(at, executables)),
        );
        let rule = rule.as_ref().map_or("not known".into(), ToString::to_string);
        let _ = writeln!(text, "      our rule  {rule}");
        let _ = writeln!(text, "      ours      {}", printable(&next(*ours, executables)));
        let _ = writeln!(text, "      framehop  {}", printable(&next(*theirs, executables)));
        let _ = writeln!(text, "      DWARF     {}", kind.dwarf.text());
    }
    if all.len() > sites_max {
        let _ = writeln!(text, "  and {} more sites of difference", all.len() - sites_max);
    }
}

fn name(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "equal",
        Comparison::Shorter => "shorter",
        Comparison::Longer => "longer",
        Comparison::Different => "different",
    }
}

fn next(frame: Result<Frame, WalkEnd>, executables: &Executables) -> String {
    frame.map_or_else(
        |end| format!("ends: {}", end.text()),
        |frame| format!("continues at {}", location(frame, executables)),
    )
}

/// Returns `file+0xaddress`, with the address that `readelf` shows.
fn location(frame: Frame, executables: &Executables) -> String {
    format!("{}+{:#x}", executables.get(frame.executable).name, frame.address)
}

/// Returns the report as JSON: all figures, executables and sites.
pub(super) fn json(findings: &Findings, executables: &Executables, seconds: f64) -> String {
    let not_compared: serde_json::Map<String, Value> =
        findings.reasons().map(|(reason, count)| (reason.text().into(), count.into())).collect();
    let by_executable: Vec<Value> = sorted_executables(findings)
        .into_iter()
        .map(|(id, counts)| {
            let executable = executables.get(id);
            let build_id = executable.build_id.as_ref().map(ToString::to_string);
            json!({
                "executable": executable.name,
                "build_id": build_id,
                "ticks": figures(&counts),
            })
        })
        .collect();
    let sites: Vec<Value> = sorted_sites(findings)
        .into_iter()
        .map(|(kind, site)| difference(kind, site, executables))
        .collect();
    let all = json!({
        "seconds": seconds,
        "seen": findings.seen,
        "perf_records_lost": findings.records_lost,
        "total": figures(&findings.total),
        "not_compared": not_compared,
        "by_executable_of_last_agreed_frame": by_executable,
        "differences": sites,
    });
    format!("{all:#}\n")
}

fn figures(counts: &ComparisonCounts) -> Value {
    json!({
        "judged": counts.compared(),
        "equal": counts.equal,
        "shorter": counts.shorter,
        "longer": counts.longer,
        "different": counts.different,
        "both_complete": counts.both_complete,
        "both_complete_equal": counts.both_complete_equal,
        "sure_complete": counts.sure_complete,
        "sure_complete_equal": counts.sure_complete_equal,
        "dwarf_agrees_with_ours": counts.dwarf_ours,
        "dwarf_agrees_with_framehop": counts.dwarf_framehop,
        "dwarf_agrees_with_neither": counts.dwarf_neither,
        "dwarf_says_nothing": counts.dwarf_unknown,
    })
}

fn difference(kind: &DifferenceKind, site: &DifferenceSite, executables: &Executables) -> Value {
    let Difference { comm, pid, depth, ours, theirs, rule } = &site.example;
    let at = Frame::new(kind.executable, kind.address);
    json!({
        "kind": name(kind.comparison),
        "both_complete": kind.both_complete,
        "ticks": site.count,
        "after": location(at, executables),
        "process": comm,
        "pid": pid.0,
        "frame": depth,
        "rule": rule.map(|rule| rule.to_string()),
        "ours": next(*ours, executables),
        "framehop": next(*theirs, executables),
        "dwarf": kind.dwarf.text(),
    })
}
