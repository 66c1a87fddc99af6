//! Resolution of one sink, whose type decides on its keys.

use upload::config::{DefaultValue, Input, Key, Value, shorten};
use upload::sinks::{SinkConfig, SinkType, otlp};

use super::environment::sink_variable;
use super::error::{Origin, Problem, Problems};
use super::layers::SectionLayers;
use super::resolved::{self, ResolvedSection, ResolvedValue};
use super::schema::{self, SINK_PREFIX, SINK_TYPE, SINK_TYPES};
use super::text::SourceText;

/// The local store is a sink of this name.
const STORE: &str = "store";
/// Longest name: it is a directory, and a label of metrics.
const NAME_BYTES_MAX: usize = 32;

/// A sink and the sources of its values.
pub(super) struct SinkResolver<'a> {
    pub name: &'a str,
    pub layers: &'a SectionLayers<'a>,
    /// The file.
    pub text: Option<&'a SourceText>,
    /// Variables of OpenTelemetry.
    pub otel: &'a [(String, String)],
}

impl SinkResolver<'_> {
    /// Resolves the section, if its name and type are valid.
    pub fn resolve(&self, problems: &mut Problems) -> Option<ResolvedSection> {
        if let Some(text) = check_name(self.name) {
            problems.push(Problem::at(self.at(), text));
            return None;
        }
        let section = ResolvedSection { name: self.section(), values: self.values(problems)? };
        section.report(config(&section)?.conflicts(), problems);
        Some(section)
    }

    fn at(&self) -> Origin {
        self.layers.at.clone().unwrap_or(Origin::Default)
    }

    fn section(&self) -> String {
        format!("{SINK_PREFIX}{}", self.name)
    }

    fn strongest(&self, key: &'static Key, problems: &mut Problems) -> Option<ResolvedValue> {
        let values = self.layers.get(&key.path);
        resolved::strongest(key, &self.section(), values, self.text, problems)
    }

    fn values(&self, problems: &mut Problems) -> Option<Vec<ResolvedValue>> {
        let Some(type_value) = self.strongest(&SINK_TYPE, problems) else {
            if self.layers.get(&SINK_TYPE.path).is_empty() {
                problems.push(self.missing(&SINK_TYPE));
            }
            return None;
        };
        let sink_type = schema::sink_type(&type_value.value)?;
        self.report_unknown_keys(sink_type, problems);
        let otel = self.otel_values(sink_type, problems);
        let mut values = vec![type_value];
        for key in &sink_type.keys {
            let is_set = !self.layers.get(&key.path).is_empty();
            let value = match is_set {
                true => self.strongest(key, problems),
                false => from_otel(key, &otel, &values, problems),
            };
            let value = value.or_else(|| resolved::default(key));
            if value.is_none() && !is_set && matches!(key.default, DefaultValue::Required(_)) {
                problems.push(self.missing(key));
            }
            values.extend(value);
        }
        Some(values)
    }

    /// Reads the variables of OpenTelemetry for sinks of type `otlp`.
    fn otel_values(
        &self,
        sink_type: &SinkType,
        problems: &mut Problems,
    ) -> Vec<otlp::EnvironmentValue> {
        if sink_type.name != "otlp" {
            return Vec::new();
        }
        let variable = |name: &str| {
            self.otel.iter().find(|(found, _)| found == name).map(|(_, text)| text.clone())
        };
        otlp::from_environment(variable).unwrap_or_else(|error| {
            problems.push(Problem::new(error.to_string()));
            Vec::new()
        })
    }

    /// Reports a required key that is not set.
    fn missing(&self, key: &Key) -> Problem {
        let example = match &key.default {
            // A sink that is named after a type is probably of this type.
            _ if key.path == SINK_TYPE.path && SinkType::NAMES.contains(&self.name) => {
                format!("\"{}\"", self.name)
            }
            DefaultValue::Required(example) => example.clone(),
            _ => "...".to_owned(),
        };
        let step = match self.at() {
            Origin::File { .. } => format!("write {} = {example}", key.path),
            _ => {
                let name = sink_variable(self.name, &key.path);
                format!("set {name} to {}", example.replace('"', ""))
            }
        };
        let text = format!("[{}] has no `{}`; {step}", self.section(), key.path);
        Problem::at(self.at(), text)
    }

    fn report_unknown_keys(&self, sink_type: &'static SinkType, problems: &mut Problems) {
        for (path, origin) in self.layers.paths() {
            if schema::find(&sink_type.keys, path).is_none() && path != SINK_TYPE.path {
                problems.push(self.unknown_key(path, origin, sink_type));
            }
            if problems.is_full() {
                return;
            }
        }
    }

    fn unknown_key(&self, path: &str, origin: &Origin, sink_type: &'static SinkType) -> Problem {
        let section = self.section();
        if let Origin::Environment(name) = origin {
            let help = format!(
                "[{section}] is of type {}, which has no `{path}`, so unset it",
                sink_type.name
            );
            return Problem::unknown_variable(name, &help);
        }
        let help = suggest_key(&section, path, sink_type);
        let text = format!("unknown key `{}` in [{section}]; {help}", shorten(path));
        Problem::at(origin.clone(), text)
    }
}

/// Builds the configuration of a resolved sink.
pub(super) fn config(section: &ResolvedSection) -> Option<SinkConfig> {
    let sink_type = schema::sink_type(&section.get(&SINK_TYPE.path)?.value)?;
    Some((sink_type.build)(&section.values()))
}

/// Returns what is wrong with the name of a sink, and the next step.
fn check_name(name: &str) -> Option<String> {
    let is_first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_name = name.bytes().next().is_some_and(is_first)
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| is_first(b) || b == b'-' || b == b'_');
    if name == STORE {
        return Some(format!("the local store is named {STORE}; give the sink another name"));
    }
    (!is_name).then(|| {
        format!(
            "a sink cannot be named {:?}; use a to z, 0 to 9, - and _, at most {NAME_BYTES_MAX} of \
             them",
            shorten(name)
        )
    })
}

/// Returns the value of a key that no layer sets from the variables of OpenTelemetry, the weakest
/// layer.
///
/// `earlier`: values of the sink's earlier keys, the address among them.
fn from_otel(
    key: &'static Key,
    otel: &[otlp::EnvironmentValue],
    earlier: &[ResolvedValue],
    problems: &mut Problems,
) -> Option<ResolvedValue> {
    let found = otel.iter().find(|value| value.key == key.path)?;
    let url = earlier.iter().find(|value| value.key.path == "url");
    // A path belongs to the address of the same source, and certificates to an encrypted one.
    let applies = match key.path.as_str() {
        "path" => url.is_some_and(|url| is_from_otel(&url.origin)),
        path if path.starts_with("tls.") => url.is_some_and(|url| is_encrypted(&url.value)),
        _ => true,
    };
    if !applies {
        return None;
    }
    let origin = Origin::Environment(found.variable.clone());
    // Headers are not checked by the rules of the file, as OpenTelemetry has no other place for
    // secrets.
    if let Value::Text(text) = &found.value
        && let Err(invalid) = key.parse(&Input::Unquoted(text))
    {
        problems.push(resolved::invalid_value(&key.path, &origin, None, &invalid));
    }
    Some(ResolvedValue { key, value: found.value.clone(), origin })
}

fn is_from_otel(origin: &Origin) -> bool {
    matches!(origin, Origin::Environment(name) if name.starts_with(otlp::VARIABLE_PREFIX))
}

fn is_encrypted(url: &Value) -> bool {
    matches!(url, Value::Text(text) if text.starts_with("https://"))
}

/// Suggests what a key that a type of sinks does not have may have meant.
fn suggest_key(section: &str, path: &str, sink_type: &'static SinkType) -> String {
    let known: Vec<&str> =
        schema::paths(&sink_type.keys).chain([SINK_TYPE.path.as_str()]).collect();
    let below = format!("{path}.");
    if let Some(key) = known.iter().find(|key| key.starts_with(&below)) {
        return format!("it is a table, so write {key} = ...");
    }
    let others = SINK_TYPES.iter().filter(|other| schema::find(&other.keys, path).is_some());
    let others: Vec<&str> = others.map(|other| other.name).collect();
    if !others.is_empty() {
        return format!(
            "sinks of type {} have it, not those of {}",
            others.join(", "),
            sink_type.name
        );
    }
    schema::suggest_key(Some(section), path, &known)
}
