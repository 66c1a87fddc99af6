//! Reads what a Collector wrote of the profiles that it received: OTLP as JSON, a request on each line.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::servers::Server;

/// Longest wait for something to be there: the exporter flushes each 100 ms.
const THERE: Duration = Duration::from_secs(30);

/// One sample, with all that is said of it anywhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Of the resource, the profile and the sample.
    pub attributes: BTreeMap<String, String>,
    /// Names of functions, the innermost first.
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

/// Everything that was received. Waits until it is `count` samples of the program.
pub fn received(server: &Server, count: i64) -> Vec<Sample> {
    let start = Instant::now();
    loop {
        let samples = read(server);
        let total: i64 = samples.iter().map(|sample| sample.value).sum();
        if total >= count {
            return samples;
        }
        assert!(start.elapsed() < THERE, "{total} samples of {count}:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn read(server: &Server) -> Vec<Sample> {
    let text = fs::read_to_string(server.path("received.json")).unwrap_or_default();
    // The last line may not be whole yet.
    let requests = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    requests.flat_map(|request| samples(&request)).collect()
}

fn samples(request: &Value) -> Vec<Sample> {
    let dictionary = Dictionary(&request["dictionary"]);
    let mut out = Vec::new();
    for resource in items(&request["resourceProfiles"]) {
        let of_resource = key_values(&resource["resource"]["attributes"]);
        for profile in items(&resource["scopeProfiles"]).flat_map(|scope| items(&scope["profiles"]))
        {
            let common = Sample {
                attributes: of_resource.clone(),
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

/// The tables that profiles point into.
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

fn key_values(attributes: &Value) -> BTreeMap<String, String> {
    let one =
        |attribute: &Value| (text(&attribute["key"]), text(&attribute["value"]["stringValue"]));
    items(attributes).map(one).collect()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Numbers of 64 bits are texts in the JSON of protobuf, and those that are 0 may be left out.
fn number(value: &Value) -> i64 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        Value::Number(number) => number.as_i64().unwrap(),
        _ => 0,
    }
}
