//! The summary as JSON, for programs.

use std::fmt::Write;

use profile::{CaptureLedger, ClockScope, Loss, NotSampled, StackEnd, TickOutcome};
use serde_json::{Map, Value, json};

use super::Summary;
use super::top_functions::TopFunction;
use crate::debuginfod::DownloadOutcome;

impl Summary<'_> {
    /// Formats the summary as one JSON object in one line of ASCII. Shares are parts of 1, times
    /// are in seconds, and an unknown value is null.
    pub fn json(&self) -> String {
        let (profile, context) = (self.profile, self.context);
        let busy = profile.busy_share();
        let share = |count: u64| count as f64 / profile.ledger.aggregated.max(1) as f64;
        let function = |function: &TopFunction| {
            json!({
                "name": function.name,
                "module": function.module,
                "file": function.place.as_ref().map(|(file, _)| file),
                "line": function.place.as_ref().map(|(_, line)| line),
                "self": share(function.own),
                "total": share(function.total),
            })
        };
        let json = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "host": context.host,
            "kernel": context.kernel,
            "scope": context.scope,
            "cpus": context.cpus,
            "selects_cpus": context.selects_cpus,
            "frequency_hertz": context.frequency,
            "clocks": match context.clocks {
                ClockScope::Cpus => "cpus",
                ClockScope::Tasks => "tasks",
            },
            "start_unix_seconds": profile.start_unix_ns as f64 / 1e9,
            "duration_seconds": self.elapsed().as_secs_f64(),
            "busy_share": busy.map(|share| share.busy()),
            "idle_share": busy.map(|share| share.idle()),
            "samples": profile.ledger.aggregated,
            "complete_share": self.complete_share(),
            "overhead_cpu_seconds": self.overhead.cpu().as_secs_f64(),
            "overhead_share": self.overhead_percent() / 100.0,
            "functions": self.functions.iter().map(function).collect::<Vec<_>>(),
            "ledger": ledger(&profile.ledger),
            "user_stacks": counts(StackEnd::ALL, StackEnd::text, &profile.ledger.user_ends),
            "kernel_stacks": counts(StackEnd::ALL, StackEnd::text, &profile.ledger.kernel_ends),
            "debuginfod": self.downloads.map(|lookups| {
                counts(DownloadOutcome::ALL, DownloadOutcome::text, &lookups.outcomes)
            }),
            "files": self.files,
            "notes": self.notes,
            "hints": self.hints,
        });
        to_ascii(&json.to_string())
    }
}

/// Returns JSON in printable ASCII, where each other character is escaped: all of them are in
/// strings. A terminal that shows it does nothing else.
fn to_ascii(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            ' '..='~' => ascii.push(character),
            _ => character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _ = write!(ascii, "\\u{unit:04x}");
            }),
        }
    }
    ascii
}

/// Returns every tick, by what became of it.
fn ledger(ledger: &CaptureLedger) -> Value {
    let not_sampled: Vec<u64> =
        NotSampled::ALL.iter().map(|reason| ledger.not_sampled(*reason)).collect();
    json!({
        "due": ledger.due(),
        "ticks": ledger.ticks(),
        "missed": ledger.missed(),
        "not_sampled": counts(NotSampled::ALL, NotSampled::text, &not_sampled),
        "outcomes": counts(TickOutcome::ALL, TickOutcome::text, &ledger.outcomes),
        "aggregated": ledger.aggregated,
        "lost": counts(Loss::ALL, Loss::text, &ledger.lost),
    })
}

/// Returns the counts that are not 0, by name.
fn counts<T: Copy>(all: &[T], name: fn(T) -> &'static str, counts: &[u64]) -> Value {
    let present = all.iter().zip(counts).filter(|(_, count)| **count > 0);
    Value::Object(
        present.map(|(one, count)| (name(*one).into(), json!(count))).collect::<Map<_, _>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_unchanged() {
        for name in ["a\u{1b}\"\\\n\u{7f}", "\u{202e}\u{fffe}\u{1f980}gr\u{f6}\u{df}e"] {
            let text = to_ascii(&json!({ "name": name }).to_string());
            assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
            let read: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(read["name"], name);
        }
    }
}
