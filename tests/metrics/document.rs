//! `docs/metrics.md` is generated from the table. After a change of the table,
//! `UPDATE_EXPECT=1 ./dev test metrics` updates it.

use std::fmt::Write;

use everytick::metrics::{Label, LabelValues, Metric, TABLE};
use expect_test::expect_file;

const OPENING: &str = "\
# Metrics

`everytick agent` serves these metrics at `/metrics`, in the Prometheus text format. Counters start
at 0 with the agent.

This page is generated from the table in `src/metrics/table.rs`. After a change there,
`UPDATE_EXPECT=1 ./dev test metrics` updates it.

The other pages:

| page | content |
|---|---|
| `/healthz` | 200 while all threads run and a window was closed within the last three window lengths (at least 10 s), else 503 and the reason |
| `/readyz` | 200 once a window has been accepted, or sampling and the sinks have started, while each online CPU has ticked in the last two minutes; else 503 and what is missing |
| `/` | a list of the pages |

`deploy/alerts.yaml` has alerts on these metrics.

Every tick, window and batch is accounted for. These equations hold for the sums over all labels
that they do not name:

```
ticks_due = ticks + ticks_missed + ticks_not_sampled
ticks{outcome=~\"delivered|ring full\"} = samples + samples_lost
windows_closed = windows_accepted + windows_empty + windows_lost + those in progress
batches_found + batches_closed = batches{result=~\"delivered|partly|lost\"} + batches_pending
```

The last one holds for each sink.
";

fn document() -> String {
    let mut text = OPENING.to_owned();
    text.push_str("\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for Metric { name, kind, help, labels, .. } in TABLE {
        let names: Vec<_> = labels.iter().map(|label| format!("`{}`", label.name)).collect();
        let names = names.join(", ");
        let _ = writeln!(text, "| `{name}` | {} | {names} | {} |", kind.text(), cell(help));
    }
    text.push_str("\n## Labels\n\n| label | values | metrics |\n|---|---|---|\n");
    for (name, values, metrics) in labels() {
        let metrics: Vec<_> = metrics.iter().map(|metric| format!("`{metric}`")).collect();
        let _ = writeln!(text, "| `{name}` | {} | {} |", cell(&values), metrics.join(", "));
    }
    text
}

/// Returns each label with its values, and the metrics that have it with these values.
fn labels() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let mut labels: Vec<(&str, String, Vec<&str>)> = Vec::new();
    for metric in TABLE {
        for Label { name, values } in metric.labels {
            let values = describe(*values);
            match labels.iter_mut().find(|label| label.0 == *name && label.1 == values) {
                Some((_, _, metrics)) => metrics.push(metric.name),
                None => labels.push((name, values, vec![metric.name])),
            }
        }
    }
    labels
}

fn describe(values: LabelValues) -> String {
    match values {
        LabelValues::Open(description) => description.to_owned(),
        LabelValues::Closed(values) => {
            let values: Vec<_> = values().iter().map(|value| format!("`{value}`")).collect();
            values.join(", ")
        }
    }
}

/// Escapes text for a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[test]
fn documentation_is_up_to_date() {
    expect_file!["../../docs/metrics.md"].assert_eq(&document());
}
