//! What `verify` says in the end: for a person, and for a script.

use std::fmt::Write;

use profile::{ExecutableId, Frame, counted, thousands};
use serde_json::{Value, json};

use crate::processes::Executables;
use crate::verify::{Counts, Difference, End, Findings, Kind, Opinion, Place, Verdict};

/// Executables listed.
const EXECUTABLES: usize = 20;

/// Says it for a person, with at most so many places of difference.
pub(super) fn text(
    findings: &Findings,
    executables: &Executables,
    seconds: f64,
    places: usize,
) -> String {
    let mut text = String::new();
    let total = &findings.total;
    let ticks = counted(findings.seen, "tick", "ticks");
    let _ = writeln!(
        text,
        "everytick: {ticks} with a user stack in {seconds:.1} s, {} compared with framehop",
        thousands(total.judged())
    );
    for (name, count, meaning) in [
        ("equal", total.equal, "the same frames"),
        ("shorter", total.shorter, "ours stops earlier, and agrees as far as it goes"),
        ("longer", total.longer, "ours goes on where framehop stopped"),
        ("different", total.different, "they part at some frame"),
    ] {
        let share = share(count, total.judged());
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
    if total.judged() > total.equal {
        let _ = writeln!(text, "  DWARF itself  {}", opinions(total));
    }
    push_executables(&mut text, findings, executables);
    push_places(&mut text, findings, executables, places);
    text
}

/// With whom DWARF agrees where the two are not equal.
fn opinions(total: &Counts) -> String {
    let all = [
        (Opinion::Ours, total.dwarf_ours),
        (Opinion::Theirs, total.dwarf_theirs),
        (Opinion::Neither, total.dwarf_neither),
        (Opinion::Nothing, total.dwarf_nothing),
    ];
    let texts = all.map(|(opinion, count)| format!("{}: {}", opinion.text(), thousands(count)));
    texts.join(", ")
}

/// Says what was not compared to the end, and what not at all.
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
    let cut = line("cut", true, "not compared to the end; they agree as far as both go");
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
            executables.get(*id).name,
        );
    }
    if all.len() > EXECUTABLES {
        let _ = writeln!(text, "  and {} more", all.len() - EXECUTABLES);
    }
}

/// Those with most ticks first.
fn sorted_executables(findings: &Findings) -> Vec<(ExecutableId, Counts)> {
    let mut all: Vec<_> =
        findings.by_executable.iter().map(|(id, counts)| (*id, *counts)).collect();
    all.sort_by_key(|(id, counts)| (u64::MAX - counts.judged(), *id));
    all
}

/// What tells most first: where both are complete and differ, then frames that differ, then lengths.
fn sorted_places(findings: &Findings) -> Vec<(&Kind, &Place)> {
    let mut all: Vec<_> = findings.places.iter().collect();
    all.sort_by_key(|(kind, place)| {
        let different = kind.verdict == Verdict::Different;
        (!kind.both_complete, !different, u64::MAX - place.count, **kind)
    });
    all
}

fn push_places(text: &mut String, findings: &Findings, executables: &Executables, most: usize) {
    let all = sorted_places(findings);
    for (kind, place) in all.iter().take(most) {
        let Difference { comm, pid, depth, ours, theirs, rule } = &place.example;
        let at = Frame { executable: kind.executable, address: kind.address };
        let _ = writeln!(
            text,
            "  {} {}: {comm} ({pid}), after frame {depth} at {}",
            thousands(place.count),
            word(kind.verdict),
            written(at, executables),
        );
        let rule = rule.as_ref().map_or("not known".into(), ToString::to_string);
        let _ = writeln!(text, "      our rule  {rule}");
        let _ = writeln!(text, "      ours      {}", next(*ours, executables));
        let _ = writeln!(text, "      framehop  {}", next(*theirs, executables));
        let _ = writeln!(text, "      DWARF     {}", kind.opinion.text());
    }
    if all.len() > most {
        let _ = writeln!(text, "  and {} more places of difference", all.len() - most);
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Equal => "equal",
        Verdict::Shorter => "shorter",
        Verdict::Longer => "longer",
        Verdict::Different => "different",
    }
}

fn next(frame: Result<Frame, End>, executables: &Executables) -> String {
    frame.map_or_else(
        |end| format!("ends: {}", end.text()),
        |frame| format!("goes on at {}", written(frame, executables)),
    )
}

/// `file+0xaddress`, as `readelf` knows the address.
fn written(frame: Frame, executables: &Executables) -> String {
    format!("{}+{:#x}", executables.get(frame.executable).name, frame.address)
}

/// Says it for a script: all figures, all executables, all places.
pub(super) fn json(findings: &Findings, executables: &Executables, seconds: f64) -> String {
    let not_compared: serde_json::Map<String, Value> =
        findings.reasons().map(|(reason, count)| (reason.text().into(), count.into())).collect();
    let by_executable: Vec<Value> = sorted_executables(findings)
        .into_iter()
        .map(|(id, counts)| {
            let executable = executables.get(id);
            let build_id = executable.build_id.as_ref().map(ToString::to_string);
            json!({ "executable": executable.name, "build_id": build_id, "ticks": figures(&counts) })
        })
        .collect();
    let places: Vec<Value> = sorted_places(findings)
        .into_iter()
        .map(|(kind, place)| difference(kind, place, executables))
        .collect();
    let all = json!({
        "seconds": seconds,
        "seen": findings.seen,
        "perf_records_lost": findings.records_lost,
        "total": figures(&findings.total),
        "not_compared": not_compared,
        "by_executable_of_last_agreed_frame": by_executable,
        "differences": places,
    });
    format!("{all:#}\n")
}

fn figures(counts: &Counts) -> Value {
    json!({
        "judged": counts.judged(),
        "equal": counts.equal,
        "shorter": counts.shorter,
        "longer": counts.longer,
        "different": counts.different,
        "both_complete": counts.both_complete,
        "both_complete_equal": counts.both_complete_equal,
        "sure_complete": counts.sure_complete,
        "sure_complete_equal": counts.sure_complete_equal,
        "dwarf_agrees_with_ours": counts.dwarf_ours,
        "dwarf_agrees_with_framehop": counts.dwarf_theirs,
        "dwarf_agrees_with_neither": counts.dwarf_neither,
        "dwarf_says_nothing": counts.dwarf_nothing,
    })
}

fn difference(kind: &Kind, place: &Place, executables: &Executables) -> Value {
    let Difference { comm, pid, depth, ours, theirs, rule } = &place.example;
    let at = Frame { executable: kind.executable, address: kind.address };
    json!({
        "kind": word(kind.verdict),
        "both_complete": kind.both_complete,
        "ticks": place.count,
        "after": written(at, executables),
        "process": comm,
        "pid": pid.0,
        "frame": depth,
        "rule": rule.map(|rule| rule.to_string()),
        "ours": next(*ours, executables),
        "framehop": next(*theirs, executables),
        "dwarf": kind.opinion.text(),
    })
}
