//! Queries Parca through its HTTP gateway.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use profile::Date;
use profile::pprof::proto as pb;
use serde_json::Value;

use super::common::agent::text;
use super::servers::Server;
use super::window_builder::PERIOD;

/// The profile type of CPU profiles in Parca queries.
pub const CPU: &str = "parca_agent:samples:count:cpu:nanoseconds:delta";

/// Timeout for expected samples; Parca returns written samples with a short delay.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the merged samples of a selector such as `{comm="x"}`; waits until `count` are stored.
pub fn merged(server: &Server, selector: &str, count: i64) -> pb::Profile {
    merged_when(server, selector, |profile| total(profile) >= count * PERIOD)
}

/// Same as [`merged`], but waits for a condition.
pub fn merged_when(
    server: &Server,
    selector: &str,
    is_complete: impl Fn(&pb::Profile) -> bool,
) -> pb::Profile {
    let start = Instant::now();
    loop {
        let last = match try_merged(server, selector) {
            Ok(profile) if is_complete(&profile) => return profile,
            Ok(profile) => format!("{} ns, {profile:?}", total(&profile)),
            Err(error) => error,
        };
        assert!(start.elapsed() < TIMEOUT, "{selector}: {last}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn try_merged(server: &Server, selector: &str) -> Result<pb::Profile, String> {
    let path = format!(
        "/api/profiles/query?mode=MODE_MERGE&report_type=REPORT_TYPE_PPROF&merge.query={}&{}",
        escape(&format!("{CPU}{selector}")),
        time_range("merge.")
    );
    let answer = json(server, &path)?;
    let text = answer["pprof"].as_str().ok_or_else(|| format!("no pprof in {answer}"))?;
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| error.to_string())?;
    profile::pprof::decode(&bytes, 1 << 30).map_err(|error| error.to_string())
}

/// Returns all values of a label, sorted.
pub fn values(server: &Server, label: &str) -> Vec<String> {
    let path = format!("/api/profiles/labels/{label}/values?{}", time_range(""));
    let answer = json(server, &path).unwrap();
    let values = answer["labelValues"].as_array().cloned().unwrap_or_default();
    let mut values: Vec<String> = values.iter().map(|v| v.as_str().unwrap().to_owned()).collect();
    values.sort();
    values
}

/// Returns the series of a selector, grouped by `labels`: the label values, and the seconds in
/// which each series has samples.
pub fn series(
    server: &Server,
    selector: &str,
    labels: &[&str],
) -> Vec<(BTreeMap<String, String>, Vec<String>)> {
    let by: Vec<String> = labels.iter().map(|label| format!("&sum_by={label}")).collect();
    let path = format!(
        "/api/profiles/query_range?query={}&step=1s&{}{}",
        escape(&format!("{CPU}{selector}")),
        time_range(""),
        by.concat()
    );
    let answer = json(server, &path).unwrap();
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let one = |series: &Value| {
        let labels = items(&series["labelset"]["labels"]);
        let labels = labels.iter().map(|l| (string(&l["name"]), string(&l["value"]))).collect();
        let times = items(&series["samples"]).iter().map(|s| string(&s["timestamp"])).collect();
        (labels, times)
    };
    items(&answer["series"]).iter().map(one).collect()
}

fn json(server: &Server, path: &str) -> Result<Value, String> {
    serde_json::from_slice(&server.get(path)?).map_err(|error| error.to_string())
}

/// Returns the CPU nanoseconds in a profile from Parca, which multiplies counts by the period.
pub fn total(profile: &pb::Profile) -> i64 {
    profile.sample.iter().map(|sample| sample.value[0]).sum()
}

/// Returns the function names in a profile.
pub fn functions(profile: &pb::Profile) -> Vec<&str> {
    profile.function.iter().map(|function| text(profile, function.name)).collect()
}

/// Returns the query parameters for the range from one hour ago to one hour ahead.
fn time_range(prefix: &str) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let (start, end) = (rfc3339(now - 3600), rfc3339(now + 3600));
    format!("{prefix}start={}&{prefix}end={}", escape(&start), escape(&end))
}

/// Formats a time as the gateway does.
pub fn rfc3339(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let Date { year, month, day } = Date::from_days_since_1970(days as i64);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn escape(text: &str) -> String {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let one = |byte: u8| {
        if is_unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(one).collect()
}
