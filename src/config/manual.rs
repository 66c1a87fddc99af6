//! The page `docs/configuration.md`, generated from the declarations of keys.

use std::fmt::Write;

use upload::config::{Config, DefaultValue, Key};
use upload::transport::Connection;

use super::flags::Flags;
use super::resolve::SINKS_MAX;
use super::schema::{SECTIONS, SINK_TYPE, SINK_TYPES};

const INTRODUCTION: &str = "\
# Configuration

`everytick agent` runs without any configuration: it samples at 19 Hz and keeps profiles on this
machine. Settings come from three sources; a later one overrides an earlier one:

1. a file: `/etc/everytick/everytick.toml` if it exists, or the one named by `--config FILE`;
2. environment variables: `EVERYTICK_<SECTION>_<KEY>`;
3. flags.

`everytick agent --check-config` prints the effective configuration with the source of each value
and exits with 0. If anything is wrong, it prints every error with file, line, column and the next
step, and exits with 1. Unknown keys and variables are errors. On SIGHUP the agent reads the
configuration again; a configuration with an error changes nothing.

```toml
[agent]
frequency = 99
max_cpu = 0.5

[agent.labels]
team = \"core\"

[sinks.main]
type = \"parca\"
url = \"https://parca.example:7070\"
bearer_token_file = \"/etc/everytick/token\"
```

## Values

- **Durations** are an integer and one of the units ms, s, m, h, d: `\"10s\"`, `\"7d\"`.
- **Sizes** are an integer and one of the units B, KiB, MiB, GiB, TiB: `\"512MiB\"`.
- **Paths** are absolute.
- **Secrets** are never in the file, a variable or a flag: keys that end in `_file` name the file
  that holds a secret. It is read again when it changes, and only its name is ever shown.

The column \"reload\" says whether a change takes effect on SIGHUP or after a restart.

";

const ENVIRONMENT: &str = "\
## Environment

The variable of a key is `EVERYTICK_`, its section and its name, in upper case, with `_` for each
dot: `EVERYTICK_AGENT_MAX_CPU=0.5`, `EVERYTICK_STORE_MAX_AGE=1d`. The variable of a sink's key
contains the name of the sink: `EVERYTICK_SINKS_MAIN_URL`, `EVERYTICK_SINKS_MAIN_TLS_CA_FILE`.
Variables of a sink that the file does not have create it, with its name in lower case. Tables are
lists with commas: `EVERYTICK_AGENT_LABELS=team=core,zone=a`. A variable without text counts as not
set. Variables that Kubernetes sets for a service named `everytick`, such as
`EVERYTICK_SERVICE_HOST`, are ignored.

";

const TABLE: &str = "| key | type | default | meaning | reload |\n|---|---|---|---|---|\n";

/// Writes the page. A test compares it with the file.
pub fn manual() -> String {
    let mut text = INTRODUCTION.to_owned();
    for section in SECTIONS.iter() {
        let _ = writeln!(text, "## [{}]\n\n{}\n", section.name, wrap(&section.help));
        text.push_str(&table(&section.keys));
        text.push('\n');
    }
    text.push_str(&sinks());
    text.push_str(ENVIRONMENT);
    text.push_str(&flags());
    text
}

fn table<'a>(keys: impl IntoIterator<Item = &'a Key>) -> String {
    [TABLE.to_owned()].into_iter().chain(keys.into_iter().map(row)).collect()
}

fn row(key: &Key) -> String {
    let Key { path, help, .. } = key;
    let default = match &key.default {
        DefaultValue::Value(value) => format!("`{}`", key.key_type.show(value)),
        DefaultValue::Computed(text) => (*text).to_owned(),
        DefaultValue::None => "none".to_owned(),
        DefaultValue::Required(_) => "required".to_owned(),
    };
    let reload = if key.needs_restart { "restart" } else { "SIGHUP" };
    format!("| `{path}` | {} | {default} | {help} | {reload} |\n", key.describe())
}

fn sinks() -> String {
    let help = format!(
        "Destinations of profiles: up to {SINKS_MAX}, each with a unique name of the characters a-z, \
         0-9, `-` and `_`. Sinks are independent: a slow or unreachable one delays no other."
    );
    let mut text = format!("## [sinks.NAME]\n\n{}\n\n", wrap(&help));
    text.push_str(&table([&*SINK_TYPE]));
    let servers: Vec<String> = SINK_TYPES
        .iter()
        .filter(|sink| sink.is_server())
        .map(|sink| format!("`{}`", sink.name))
        .collect();
    for sink in SINK_TYPES.iter() {
        let _ = writeln!(text, "\n### type = \"{}\"\n\n{}\n", sink.name, wrap(&sink.help));
        text.push_str(&table(sink.own_keys()));
    }
    let _ = writeln!(text, "\n### Servers\n\nFurther keys of {}.\n", servers.join(", "));
    text.push_str(&table(&Connection::keys()));
    text.push('\n');
    text
}

/// Breaks a paragraph into lines of at most 100 characters.
fn wrap(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= 100 => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

fn flags() -> String {
    let rows = Flags::default().values().map(|(flag, key, _)| format!("| `{flag}` | `{key}` |\n"));
    format!("## Flags\n\n| flag | key |\n|---|---|\n{}", rows.concat())
}
