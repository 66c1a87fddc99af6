//! The summary as JSON, for programs.

use profile::{CaptureLedger, Loss, NotSampled, StackEnd, TickOutcome};
use serde_json::{Map, Value, json};

use super::Summary;
use super::top_functions::TopFunction;

impl Summary<'_> {
    /// Formats the summary as one JSON object in one line. Shares are parts of 1, times seconds;
    /// an unknown value is null.
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
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "host": context.host,
            "kernel": context.kernel,
            "scope": context.scope,
            "cpus": context.cpus,
            "frequency_hertz": context.frequency,
            "start_unix_seconds": profile.start_unix_ns as f64 / 1e9,
            "selects_cpus": context.selects_cpus,
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
            "files": self.files,
            "notes": self.notes,
            "hints": self.hints,
        })
        .to_string()
    }
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
