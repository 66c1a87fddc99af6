//! Sections as plain structs, and what of them must fit together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use tracing::level_filters::LevelFilter;

use super::error::{Origin, Problem, Problems};
use super::kind::OFF;
use super::settle::{Setting, Settled};
use super::units;

/// `[agent]`: what is sampled, and what that may cost.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Samples a second on each CPU.
    pub frequency: u32,
    /// Time that one profile covers.
    #[serde(deserialize_with = "duration")]
    pub window: Duration,
    /// Name of this machine.
    pub node: String,
    /// Labels that each profile gets, by name; none of them is one that everytick writes.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Label sets in one window.
    pub series_max: usize,
    /// Per cent of the machine's CPU time.
    pub max_cpu: f64,
    /// Bytes, those in the kernel included.
    pub max_memory: u64,
    /// Whether stacks have kernel frames.
    pub kernel_stacks: bool,
    /// Whether stacks have user frames; one of the two is true.
    pub user_stacks: bool,
    /// Where health and metrics are served.
    #[serde(deserialize_with = "address")]
    pub listen: Option<SocketAddr>,
    /// Where unwind tables are kept for the next start.
    #[serde(deserialize_with = "directory")]
    pub cache_dir: Option<PathBuf>,
}

/// `[log]`: what is told on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The least important lines that are told.
    #[serde(deserialize_with = "level")]
    pub level: LevelFilter,
    /// What lines look like.
    pub format: LogFormat,
}

/// What lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object each.
    Json,
}

/// `[store]`: the local store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// Whether windows are written to it. It can be read in any case.
    pub enabled: bool,
    /// Where it is.
    pub directory: PathBuf,
    /// Bytes at most.
    pub max_bytes: u64,
    /// Windows that are older go, ten with each new one.
    #[serde(deserialize_with = "duration")]
    pub max_age: Duration,
}

/// `[spool]`: where profiles wait for their sinks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spool {
    /// Where it is.
    pub directory: PathBuf,
    /// Bytes at most.
    pub max_bytes: u64,
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    units::duration(&String::deserialize(from)?).map_err(D::Error::custom)
}

fn level<'de, D: Deserializer<'de>>(from: D) -> Result<LevelFilter, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = Some(String::deserialize(from)?).filter(|text| text != OFF);
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

fn directory<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let text = Some(String::deserialize(from)?).filter(|text| text != OFF);
    Ok(text.map(PathBuf::from))
}

/// Looks whether sections fit together.
pub(super) fn check(settled: &[Settled], problems: &mut Problems) {
    let find = |section: &str, name: &str| {
        settled.iter().find(|settled| settled.name == section)?.get(name)
    };
    let is_off = |setting: &&Setting| setting.value.as_bool() == Some(false);
    let kernel = find("agent", "kernel_stacks").filter(is_off);
    let user = find("agent", "user_stacks").filter(is_off);
    if let (Some(_), Some(user)) = (kernel, user) {
        let text =
            "neither `agent.kernel_stacks` nor `agent.user_stacks` is true; leave one of them on";
        problems.push(Problem::Refused { at: user.origin.clone(), text: text.into() });
    }
    one_directory_each(settled, problems);
}

/// Each bounded directory is tidied by its owner, who would delete what is another's.
fn one_directory_each(settled: &[Settled], problems: &mut Problems) {
    let mut seen: Vec<(String, &Setting)> = Vec::new();
    let is_off = |section: &Settled| {
        section.get("enabled").is_some_and(|enabled| enabled.value.as_bool() == Some(false))
    };
    for section in settled.iter().filter(|section| !is_off(section)) {
        for name in ["directory", "cache_dir"] {
            let Some(setting) = section.get(name).filter(|setting| place(setting) != Some(OFF))
            else {
                continue;
            };
            let path = format!("{}.{name}", section.name);
            let same = seen.iter().find(|(_, other)| place(other) == place(setting));
            if let Some((other, earlier)) = same {
                let set = [setting, earlier].into_iter().find(|s| s.origin != Origin::Default);
                let at = set.map_or(Origin::Default, |setting| setting.origin.clone());
                let text = format!("`{path}` and `{other}` are one directory; give each its own");
                problems.push(Problem::Refused { at, text });
            }
            seen.push((path, setting));
        }
    }
}

fn place(setting: &Setting) -> Option<&str> {
    setting.value.as_str().map(|path| path.trim_end_matches('/'))
}
