//! The page for people, `docs/configuration.md`, written from the tables of keys.

use std::fmt::Write;

use super::flags::Flags;
use super::schema::{Key, SECTIONS, Unset};
use super::sinks;

const OPENING: &str = "\
# Configuration

`everytick agent` needs none: without a file it samples at 19 Hz and keeps profiles on this machine. What is set comes
from three places, the stronger over the weaker:

1. a file, `/etc/everytick/everytick.toml` if it is there, or the one that `--config FILE` names;
2. variables of the environment, `EVERYTICK_<SECTION>_<KEY>`;
3. flags.

`everytick agent --check-config` shows what is in force and where each value comes from, and exits with 0; or it tells
everything that is wrong, each in one sentence with file, line, column and what to do, and exits with 1. A key or variable
that is not known is an error. On SIGHUP the agent reads all of it again; a configuration with a mistake changes nothing.

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

";

const VALUES: &str = "\
## Values

- **Durations** are a whole number and one of ms, s, m, h, d: `\"10s\"`, `\"7d\"`.
- **Sizes** are a whole number and one of B, KiB, MiB, GiB, TiB: `\"512MiB\"`.
- **Paths** are absolute.
- **Secrets** are never in the file, a variable or a flag: keys that end in `_file` name the file that a secret is in. It is
  read again when it changes, and only its name is ever shown.

";

const ENVIRONMENT: &str = "\
## Environment

The variable of a key is `EVERYTICK_`, its section and its name, in capital letters, with `_` for each dot:
`EVERYTICK_AGENT_MAX_CPU=0.5`, `EVERYTICK_STORE_MAX_AGE=1d`. That of a sink's key has the sink's name in it:
`EVERYTICK_SINKS_MAIN_URL`, `EVERYTICK_SINKS_MAIN_TLS_CA_FILE`. A sink that the file does not have is made by its variables,
under its name in small letters. Tables are written with commas: `EVERYTICK_AGENT_LABELS=team=core,zone=a`. A
variable without text counts as not set. Those that Kubernetes makes for a service named `everytick`, such as
`EVERYTICK_SERVICE_HOST`, are left alone.

";

const TABLE: &str = "| key | takes | default | what it does | changes |\n|---|---|---|---|---|\n";

fn row(key: &Key, name: &str) -> String {
    let default = match key.unset {
        Unset::Is(text) => format!("`{text}`"),
        Unset::Depends(text) => text.to_owned(),
        Unset::Nothing => "none".to_owned(),
        Unset::Missing(_) => "must be set".to_owned(),
    };
    let changes = if key.restart { "restart" } else { "SIGHUP" };
    let (takes, meaning) = (key.kind.words(), key.meaning);
    format!("| `{name}` | {takes} | {default} | {meaning} | {changes} |\n")
}

fn sections(text: &mut String) {
    for section in &SECTIONS {
        let _ = writeln!(text, "## [{}]\n\n{}\n", section.name, section.meaning);
        text.push_str(TABLE);
        section.keys.iter().for_each(|key| text.push_str(&row(key, key.name())));
        text.push('\n');
    }
}

fn all_sinks(text: &mut String) {
    let _ = writeln!(
        text,
        "## [sinks.NAME]\n\nWhere profiles go: any number up to {}, each with a name of its own, of a to z, 0 to 9, - and _. \
         Each delivers by itself: one that is slow or away holds up none of the others.\n",
        sinks::SINKS_MAX
    );
    text.push_str(TABLE);
    text.push_str(&row(&sinks::TYPE, sinks::TYPE.path));
    for of in &sinks::TYPES {
        let _ = writeln!(text, "\n### type = \"{}\"\n\n{}", of.name, of.meaning);
        if !of.own.is_empty() {
            text.push_str(&["\n", TABLE].concat());
            of.own.iter().for_each(|key| text.push_str(&row(key, key.path)));
        }
    }
    let servers = sinks::TYPES.iter().filter(|of| of.is_server);
    let servers: Vec<String> = servers.map(|of| format!("`{}`", of.name)).collect();
    let _ = writeln!(text, "\n### Servers\n\nWhat {} have too.\n", servers.join(", "));
    text.push_str(TABLE);
    sinks::CONNECTION.iter().for_each(|key| text.push_str(&row(key, key.path)));
    text.push('\n');
}

fn flags(text: &mut String) {
    text.push_str("## Flags\n\n| flag | key |\n|---|---|\n");
    for (flag, key, _) in Flags::default().given() {
        let _ = writeln!(text, "| `{flag}` | `{key}` |");
    }
}

/// Writes the page. A test compares it with the file.
pub fn manual() -> String {
    let mut text = [OPENING, VALUES].concat();
    sections(&mut text);
    all_sinks(&mut text);
    text.push_str(ENVIRONMENT);
    flags(&mut text);
    text
}
