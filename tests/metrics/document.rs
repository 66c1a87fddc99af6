//! `docs/metrics.md` is the table. When the table has changed, `UPDATE_EXPECT=1 cargo test --test metrics` renews it.

use std::fmt::Write;

use everytick::metrics::{Label, Metric, TABLE, Values};
use expect_test::expect_file;

const OPENING: &str = "\
# Metrics

What `everytick agent` tells at `/metrics`, in the Prometheus text format. Counters begin at 0 when the agent is started, and those of sampling again
when it begins anew, because CPUs have come online (`everytick_sampling_starts_total`).
This page is made from the table in `src/metrics/table.rs`; after a change there, `UPDATE_EXPECT=1 cargo test --test metrics` renews it.

Beside it:

| page | what |
|---|---|
| `/healthz` | 200 while all threads run and a window was closed within three periods (10 s at least), else 503 and one sentence |
| `/readyz` | 200 once a window has been accepted, or sampling and the sinks have begun; else 503 and what is missing |
| `/` | names the others |

`deploy/alerts.yaml` has alerts that go by these metrics.

Every tick, window and batch is accounted for, in sums over all labels that are not named here:

```
ticks_due = ticks + ticks_missed
ticks{outcome=~\"delivered|ring full\"} = samples + samples_lost
windows_closed = windows_accepted + windows_empty + windows_lost + those on their way
batches_found + batches_closed = batches{result=~\"delivered|partly|lost\"} + batches_pending      for each sink
```
";

fn document() -> String {
    let mut text = OPENING.to_owned();
    text.push_str("\n| metric | kind | labels | what |\n|---|---|---|---|\n");
    for Metric { name, kind, help, labels, .. } in TABLE {
        let names: Vec<_> = labels.iter().map(|label| format!("`{}`", label.name)).collect();
        let names = names.join(", ");
        let _ = writeln!(text, "| `{name}` | {} | {names} | {} |", kind.text(), cell(help));
    }
    text.push_str("\n## Labels\n\n| label | values | of |\n|---|---|---|\n");
    for (name, values, metrics) in labels() {
        let metrics: Vec<_> = metrics.iter().map(|metric| format!("`{metric}`")).collect();
        let _ = writeln!(text, "| `{name}` | {} | {} |", cell(&values), metrics.join(", "));
    }
    text
}

/// Labels with the same name and values, and the metrics that have them.
fn labels() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let mut labels: Vec<(&str, String, Vec<&str>)> = Vec::new();
    for metric in TABLE {
        for Label { name, values } in metric.labels {
            let values = said(*values);
            match labels.iter_mut().find(|label| label.0 == *name && label.1 == values) {
                Some((_, _, metrics)) => metrics.push(metric.name),
                None => labels.push((name, values, vec![metric.name])),
            }
        }
    }
    labels
}

fn said(values: Values) -> String {
    match values {
        Values::Open(what) => what.to_owned(),
        Values::Closed(values) => {
            let values: Vec<_> = values().iter().map(|value| format!("`{value}`")).collect();
            values.join(", ")
        }
    }
}

/// What may stand in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[test]
fn the_documentation_is_up_to_date() {
    expect_file!["../../docs/metrics.md"].assert_eq(&document());
}
