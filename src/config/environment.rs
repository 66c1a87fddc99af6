//! Settings by variables: `EVERYTICK_<SECTION>_<KEY>`, `EVERYTICK_SINKS_<NAME>_<KEY>`.

use std::ffi::OsString;

use super::error::{Origin, Problem, Problems};
use super::given::{Raw, cut};
use super::layers::{Entry, Layers};
use super::otel;
use super::schema::{self, Key};
use super::sinks;
use super::suggest::closest;

/// What all of them begin with.
const PREFIX: &str = "EVERYTICK_";
/// What those of sinks begin with.
const SINKS: &str = "SINKS_";
/// Between the agent and the workers that it starts.
const WORKERS: &str = "WORKER_";

/// The variables that concern us.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// By name without [`PREFIX`], in order.
    settings: Vec<(String, String)>,
    /// The machine's name as Kubernetes tells it.
    pub node: Option<String>,
    /// Those of OpenTelemetry's exporter, by their whole names.
    pub otel: Vec<(String, String)>,
}

impl Variables {
    /// Picks ours. A variable without text is one that is not set.
    pub fn of(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        problems: &mut Problems,
    ) -> Self {
        let mut variables = Self::default();
        for (name, value) in environment {
            let Ok(name) = name.into_string() else { continue };
            match (name.strip_prefix(PREFIX), value.into_string()) {
                (Some(rest), Ok(value)) if !value.is_empty() && !is_others(rest, &value) => {
                    variables.settings.push((rest.to_owned(), value));
                }
                (Some(_), Err(_)) => problems.push(Problem::VariableNotUtf8 { name }),
                (None, Ok(value)) if name == "NODE_NAME" && !value.is_empty() => {
                    variables.node = Some(value);
                }
                (None, Ok(value)) if name.starts_with(otel::PREFIX) && !value.trim().is_empty() => {
                    variables.otel.push((name, value));
                }
                _ => {}
            }
        }
        variables.settings.sort();
        variables
    }

    /// Sets what they say.
    pub fn collect<'a>(&'a self, layers: &mut Layers<'a>, problems: &mut Problems) {
        for (name, value) in &self.settings {
            let entry = Entry {
                raw: Raw::Text(value),
                origin: Origin::Environment(format!("{PREFIX}{name}")),
            };
            if let Some(key) = fixed(name) {
                layers.set(key, entry);
            } else if let Some((sink, path)) = of_sink(name, layers) {
                layers.set_of_sink(&sink, path.to_owned(), entry);
            } else {
                problems.push(unknown(name, layers));
            }
        }
    }
}

/// Says whether others set it: for workers, or Kubernetes for a service whose name begins with `everytick`.
fn is_others(name: &str, value: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    let is_port = |(at, word): (usize, &&str)| {
        let after_service = at > 0 && words[at - 1] == "SERVICE";
        *word == "PORT"
            && match words.get(at + 1) {
                None => after_service || value.contains("://"),
                Some(next) => after_service || is_number(next),
            }
    };
    name.starts_with(WORKERS)
        || words.ends_with(&["SERVICE", "HOST"])
        || words.iter().enumerate().any(is_port)
}

/// Gives the name of a variable without [`PREFIX`].
fn variable(path: &str) -> String {
    path.to_uppercase().replace(['.', '-'], "_")
}

/// Gives the whole name of the variable of a sink's key.
pub(super) fn variable_of_sink(sink: &str, path: &str) -> String {
    format!("{PREFIX}{SINKS}{}_{}", variable(sink), variable(path))
}

fn fixed(name: &str) -> Option<&'static Key> {
    schema::keys().find(|key| variable(key.path) == name)
}

/// Finds out which sink and key are meant: a sink that the file has, else the one of the longest key.
fn of_sink(name: &str, layers: &Layers<'_>) -> Option<(String, &'static str)> {
    let name = name.strip_prefix(SINKS)?;
    let split = |path: &'static str| {
        let sink = name.strip_suffix(&variable(path))?.strip_suffix('_')?;
        (!sink.is_empty()).then_some((sink, path))
    };
    let readings: Vec<(&str, &str)> = sinks::all_paths().filter_map(split).collect();
    let of_file = readings.iter().find_map(|(sink, path)| {
        let name = layers.sinks.keys().find(|name| variable(name) == *sink)?;
        Some((name.clone(), *path))
    });
    let longest = || readings.iter().max_by_key(|(_, path)| path.len());
    of_file.or_else(|| longest().map(|(sink, path)| (sink.to_lowercase(), *path)))
}

fn unknown(name: &str, layers: &Layers<'_>) -> Problem {
    let help = match name.strip_prefix(SINKS) {
        Some(rest) => sink_help(rest, layers),
        None => {
            let names: Vec<String> = schema::keys().map(|key| variable(key.path)).collect();
            closest(name, names.iter().map(String::as_str))
                .map(|near| format!("did you mean {PREFIX}{near}?"))
        }
    };
    let help = help.unwrap_or_else(|| {
        format!("unset it, or name it {PREFIX}<SECTION>_<KEY> after a key of the file, as in {PREFIX}AGENT_WINDOW")
    });
    Problem::UnknownVariable { name: format!("{PREFIX}{}", cut(name)), help }
}

fn sink_help(rest: &str, layers: &Layers<'_>) -> Option<String> {
    let with_name = |name: &String| {
        let prefix = format!("{}_", variable(name));
        rest.strip_prefix(&prefix).map(|key| (prefix.clone(), key.to_owned()))
    };
    let (prefix, key) =
        layers.sinks.keys().find_map(with_name).or_else(|| {
            rest.split_once('_').map(|(name, key)| (format!("{name}_"), key.to_owned()))
        })?;
    let names: Vec<String> = sinks::all_paths().map(variable).collect();
    let near = closest(&key, names.iter().map(String::as_str))?;
    Some(format!("did you mean {PREFIX}{SINKS}{}{near}?", cut(&prefix)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        let of_sinks: BTreeSet<&str> = sinks::all_paths().collect();
        let mut names: Vec<String> = schema::keys().map(|key| variable(key.path)).collect();
        names.extend(of_sinks.into_iter().map(|path| format!("SINKS_X_{}", variable(path))));
        assert!(names.iter().all(|name| !is_others(name, "http://localhost")));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn what_kubernetes_makes_of_services_is_left_alone() {
        for (name, value) in [
            ("SERVICE_HOST", "10.0.0.1"),
            ("SERVICE_PORT", "7171"),
            ("SERVICE_PORT_HTTP", "7171"),
            ("PORT", "tcp://10.0.0.1:7171"),
            ("PORT_7171_TCP", "tcp://10.0.0.1:7171"),
            ("PORT_7171_TCP_ADDR", "10.0.0.1"),
            ("METRICS_SERVICE_HOST", "10.0.0.1"),
            ("METRICS_PORT_80_UDP_PROTO", "udp"),
        ] {
            assert!(is_others(name, value), "{name}");
        }
        for name in ["AGENT_FREQUENCY", "AGENT_PORT", "PORT", "SUPPORT_80", "AGENT_PORT_NUMBER"] {
            assert!(!is_others(name, "80"), "{name}");
        }
    }
}
