//! `docs/metrics.md` is the table. When the table has changed, `UPDATE_EXPECT=1 cargo test --test metrics` renews it.

use std::fmt::Write;

use everytick::metrics::{Label, Metric, TABLE, Values};
use expect_test::expect_file;

const OPENING: &str = "\
# Metrics

What `everytick agent` tells at `/metrics`, in the Prometheus text format. Counters begin at 0 when the agent is started.
This page is made from the table in `src/metrics/table.rs`; after a change there, `UPDATE_EXPECT=1 cargo test --test metrics` renews it.

Beside it:

| page | what |
|---|---|
| `/healthz` | 200 while all threads run and a window was closed within three periods (10 s at least), else 503 and one sentence |
| `/readyz` | 200 once a window has been accepted, or sampling and the sinks have begun; else 503 and what is missing |
| `/` | names the others |

`deploy/alerts.yaml` has alerts that go by these metrics.

Each tick and each window is in one of its equations, as sums over all labels:

```
ticks_due        = ticks + ticks_missed
ticks{outcome=~\"delivered|ring full\"} = samples + samples_lost
windows_closed   = windows_accepted + windows_empty + windows_lost + those on their way
windows_accepted = parcels{result=~\"delivered|partly|lost\"} + parcels_pending     of each sink, but for parcels of earlier runs
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
    text.push_str("\n## Labels\n\n| label | of | values |\n|---|---|---|\n");
    for Metric { name, labels, .. } in TABLE {
        for Label { name: label, values } in *labels {
            let _ = writeln!(text, "| `{label}` | `{name}` | {} |", cell(&said(*values)));
        }
    }
    text
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
