//! Settings in variables: `EVERYTICK_<SECTION>_<KEY>`, `EVERYTICK_SINKS_<NAME>_<KEY>`.

use std::ffi::OsString;

use upload::config::{Input, shorten};
use upload::sinks::otlp;

use super::error::{Origin, Problem, Problems};
use super::layers::{LayerValue, Layers};
use super::schema;
use super::suggest::closest;

/// Prefix of all settings.
const PREFIX: &str = "EVERYTICK_";
/// Then follows the name of a sink.
const SINKS: &str = "SINKS_";
/// Variables by which the agent passes file descriptors and the like to its worker processes.
const WORKERS: &str = "WORKER_";

/// The variables of the environment that are used.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// Settings by name without [`PREFIX`], sorted.
    settings: Vec<(String, String)>,
    /// Name of the machine in Kubernetes.
    pub node: Option<String>,
    /// Variables of OpenTelemetry's exporter, by their full names.
    pub otel: Vec<(String, String)>,
}

impl Variables {
    /// Selects the variables in use. A variable without text counts as not set.
    pub fn new(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        problems: &mut Problems,
    ) -> Self {
        let mut variables = Self::default();
        for (name, value) in environment {
            let Ok(name) = name.into_string() else { continue };
            match (name.strip_prefix(PREFIX), value.into_string()) {
                (Some(rest), Ok(value)) if !value.is_empty() && !is_foreign(rest, &value) => {
                    variables.settings.push((rest.to_owned(), value));
                }
                (Some(_), Err(_)) => {
                    problems.push(Problem::new(format!("{name} is not UTF-8; set it again")));
                }
                (None, Ok(value)) if name == "NODE_NAME" && !value.is_empty() => {
                    variables.node = Some(value);
                }
                (None, Ok(value))
                    if name.starts_with(otlp::VARIABLE_PREFIX) && !value.trim().is_empty() =>
                {
                    variables.otel.push((name, value));
                }
                _ => {}
            }
        }
        variables.settings.sort();
        variables
    }

    /// Collects the settings.
    pub fn collect<'a>(&'a self, layers: &mut Layers<'a>, problems: &mut Problems) {
        for (name, value) in &self.settings {
            let origin = Origin::Environment(format!("{PREFIX}{name}"));
            let value = LayerValue { input: Input::Unquoted(value), origin: origin.clone() };
            let mut keys = schema::agent_keys();
            if let Some((section, key)) = keys.find(|(s, key)| variable(&s.path(key)) == *name) {
                layers.section(section.name).push(&key.path, value);
            } else if let Some((sink, path)) = split_sink(name, layers) {
                layers.sink(&sink, &origin).push(path, value);
            } else {
                problems.push(unknown_variable(name, layers));
            }
        }
    }
}

/// Whether a variable with our prefix is not a setting: set for worker processes, or by Kubernetes
/// for a service whose name begins with `everytick`.
fn is_foreign(name: &str, value: &str) -> bool {
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

/// Returns the name of a key's variable without [`PREFIX`].
fn variable(path: &str) -> String {
    path.to_uppercase().replace(['.', '-'], "_")
}

/// Returns the full name of the variable of a sink's key.
pub(super) fn sink_variable(sink: &str, path: &str) -> String {
    format!("{PREFIX}{SINKS}{}_{}", variable(sink), variable(path))
}

/// Splits the name of a variable into sink and key: a sink of the file if one fits, else the
/// longest key.
fn split_sink(name: &str, layers: &Layers<'_>) -> Option<(String, &'static str)> {
    let name = name.strip_prefix(SINKS)?;
    let split = |path: &'static str| {
        let sink = name.strip_suffix(&variable(path))?.strip_suffix('_')?;
        (!sink.is_empty()).then_some((sink, path))
    };
    let splits: Vec<(&str, &str)> = schema::sink_paths().filter_map(split).collect();
    let in_file = splits.iter().find_map(|(sink, path)| {
        let name = layers.sinks.keys().find(|name| variable(name) == *sink)?;
        Some((name.clone(), *path))
    });
    let longest = || splits.iter().max_by_key(|(_, path)| path.len());
    in_file.or_else(|| longest().map(|(sink, path)| (sink.to_lowercase(), *path)))
}

fn unknown_variable(name: &str, layers: &Layers<'_>) -> Problem {
    let help = match name.strip_prefix(SINKS) {
        Some(rest) => suggest_sink_variable(rest, layers),
        None => {
            let keys = schema::agent_keys();
            let names: Vec<String> = keys.map(|(s, key)| variable(&s.path(key))).collect();
            closest(name, names.iter().map(String::as_str))
                .map(|near| format!("did you mean {PREFIX}{near}?"))
        }
    };
    let help = help.unwrap_or_else(|| {
        format!(
            "unset it, or name it {PREFIX}<SECTION>_<KEY> after a key of the file, as in \
             {PREFIX}AGENT_WINDOW"
        )
    });
    Problem::unknown_variable(&format!("{PREFIX}{}", shorten(name)), &help)
}

fn suggest_sink_variable(rest: &str, layers: &Layers<'_>) -> Option<String> {
    let after_sink = |name: &String| {
        let prefix = format!("{}_", variable(name));
        rest.strip_prefix(&prefix).map(|key| (prefix.clone(), key.to_owned()))
    };
    let (prefix, key) =
        layers.sinks.keys().find_map(after_sink).or_else(|| {
            rest.split_once('_').map(|(name, key)| (format!("{name}_"), key.to_owned()))
        })?;
    let names: Vec<String> = schema::sink_paths().map(variable).collect();
    let near = closest(&key, names.iter().map(String::as_str))?;
    Some(format!("did you mean {PREFIX}{SINKS}{}{near}?", shorten(&prefix)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_has_a_unique_variable() {
        let of_sinks: BTreeSet<&str> = schema::sink_paths().collect();
        let of_agent = schema::agent_keys();
        let mut names: Vec<String> = of_agent.map(|(s, key)| variable(&s.path(key))).collect();
        names.extend(of_sinks.into_iter().map(|path| format!("SINKS_X_{}", variable(path))));
        assert!(names.iter().all(|name| !is_foreign(name, "http://localhost")));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn service_variables_of_kubernetes_are_ignored() {
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
            assert!(is_foreign(name, value), "{name}");
        }
        for name in ["AGENT_FREQUENCY", "AGENT_PORT", "PORT", "SUPPORT_80", "AGENT_PORT_NUMBER"] {
            assert!(!is_foreign(name, "80"), "{name}");
        }
    }
}
