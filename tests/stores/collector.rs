//! Reads the profiles that a Collector received and wrote to a file: OTLP as JSON, one request per
//! line.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::servers::Server;

/// Timeout for the expected samples; the exporter flushes every 100 ms.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A sample with its dictionary references resolved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Attributes of the resource, the profile and the sample.
    pub attributes: BTreeMap<String, String>,
    /// Function names, innermost first.
    pub stack: Vec<String>,
    pub value: i64,
    /// Quantity and unit of the value.
    pub sample_type: (String, String),
    /// Quantity and unit of the period.
    pub period_type: (String, String),
    pub period: i64,
    pub time_unix_ns: i64,
    pub duration_ns: i64,
}

/// Returns all received samples, after waiting for at least `count` of them.
pub fn received(server: &Server, count: i64) -> Vec<Sample> {
    let start = Instant::now();
    loop {
        let samples = read(server);
        let total: i64 = samples.iter().map(|sample| sample.value).sum();
        if total >= count {
            return samples;
        }
        assert!(start.elapsed() < TIMEOUT, "{total} samples of {count}:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn read(server: &Server) -> Vec<Sample> {
    let text = fs::read_to_string(server.path("received.json")).unwrap_or_default();
    // The last line may still be incomplete.
    let requests = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    requests.flat_map(|request| samples(&request)).collect()
}

fn samples(request: &Value) -> Vec<Sample> {
    let dictionary = Dictionary(&request["dictionary"]);
    let mut out = Vec::new();
    for resource in items(&request["resourceProfiles"]) {
        let resource_attributes = dictionary.key_values(&resource["resource"]["attributes"]);
        for profile in items(&resource["scopeProfiles"]).flat_map(|scope| items(&scope["profiles"]))
        {
            let common = Sample {
                attributes: resource_attributes.clone(),
                sample_type: dictionary.value_type(&profile["sampleType"]),
                period_type: dictionary.value_type(&profile["periodType"]),
                period: number(&profile["period"]),
                time_unix_ns: number(&profile["timeUnixNano"]),
                duration_ns: number(&profile["durationNano"]),
                ..Sample::default()
            };
            out.extend(items(&profile["samples"]).map(|sample| dictionary.sample(&common, sample)));
        }
    }
    out
}

/// The tables that profiles refer to by index.
struct Dictionary<'a>(&'a Value);

impl Dictionary<'_> {
    fn sample(&self, common: &Sample, sample: &Value) -> Sample {
        let mut out = common.clone();
        for index in items(&sample["attributeIndices"]) {
            let attribute = self.row("attributeTable", index);
            let value = text(&attribute["value"]["stringValue"]);
            out.attributes.insert(self.text(&attribute["keyStrindex"]), value);
        }
        let stack = self.row("stackTable", &sample["stackIndex"]);
        out.stack =
            items(&stack["locationIndices"]).flat_map(|index| self.functions(index)).collect();
        out.value = items(&sample["values"]).map(number).sum();
        out
    }

    /// Returns the attributes of a resource. The Collector moves their strings into the dictionary.
    fn key_values(&self, attributes: &Value) -> BTreeMap<String, String> {
        let inline_or_indexed = |inline: &Value, index: &Value| match inline.as_str() {
            Some(inline) => inline.to_owned(),
            None => self.text(index),
        };
        let one = |attribute: &Value| {
            let value = &attribute["value"];
            (
                inline_or_indexed(&attribute["key"], &attribute["keyStrindex"]),
                inline_or_indexed(&value["stringValue"], &value["stringValueStrindex"]),
            )
        };
        items(attributes).map(one).collect()
    }

    fn functions(&self, location: &Value) -> Vec<String> {
        let location = self.row("locationTable", location);
        let name = |line: &Value| {
            self.text(&self.row("functionTable", &line["functionIndex"])["nameStrindex"])
        };
        items(&location["lines"]).map(name).collect()
    }

    fn value_type(&self, value_type: &Value) -> (String, String) {
        (self.text(&value_type["typeStrindex"]), self.text(&value_type["unitStrindex"]))
    }

    fn text(&self, index: &Value) -> String {
        text(self.row("stringTable", index))
    }

    fn row(&self, table: &str, index: &Value) -> &Value {
        &self.0[table][usize::try_from(number(index)).unwrap()]
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Reads a number. In protobuf JSON, 64-bit numbers are strings, and zeros may be omitted.
fn number(value: &Value) -> i64 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        Value::Number(number) => number.as_i64().unwrap(),
        _ => 0,
    }
}
