//! A strict reader of the Prometheus text format 0.0.4, which shares no line with the writer.
//!
//! It knows what the format demands and what Prometheus's own linter asks for: HELP, TYPE and then
//! all series of a metric, each metric and each series once, names and escapes as they may be,
//! `_total` on counters and on nothing else, buckets that rise. Source: prometheus.io, "Exposition
//! formats" and "Metric and label naming".

use std::collections::HashSet;

/// Names and values.
type Labels = Vec<(String, String)>;

/// A metric with all of its series.
#[derive(Debug)]
pub struct Family {
    pub name: String,
    pub kind: String,
    pub help: String,
    pub series: Vec<Series>,
}

/// One line with a value.
#[derive(Debug)]
pub struct Series {
    /// With the suffix of a histogram's.
    pub name: String,
    /// In the order in which they were written.
    pub labels: Labels,
    pub value: f64,
}

impl Family {
    /// The value of the series with these labels.
    pub fn value(&self, labels: &[(&str, &str)]) -> Option<f64> {
        let is_it = |series: &&Series| {
            let theirs = series.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            series.name == self.name && theirs.eq(labels.iter().copied())
        };
        self.series.iter().find(is_it).map(|series| series.value)
    }
}

/// Reads a whole page.
pub fn parse(text: &str) -> Result<Vec<Family>, String> {
    let lines = text.strip_suffix('\n').ok_or("the last line does not end")?;
    let mut families: Vec<Family> = Vec::new();
    let mut lines = lines.split('\n').peekable();
    while let Some(line) = lines.next() {
        let (name, help) = comment(line, "HELP")?;
        let kind_line = lines.next().ok_or("HELP without TYPE")?;
        let (again, kind) = comment(kind_line, "TYPE")?;
        if again != name {
            return Err(format!("TYPE of {again} after HELP of {name}"));
        }
        if families.iter().any(|family| family.name == name) {
            return Err(format!("{name} comes twice"));
        }
        let mut series = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            series.push(value_line(line).map_err(|error| format!("{error}: {line}"))?);
        }
        let help = unescaped(help, false)?;
        let family = Family { name: name.into(), kind: kind.into(), help, series };
        check(&family)?;
        families.push(family);
    }
    Ok(families)
}

/// The name and the rest of `# WORD name rest`.
fn comment<'a>(line: &'a str, word: &str) -> Result<(&'a str, &'a str), String> {
    let rest = line.strip_prefix("# ").and_then(|rest| rest.strip_prefix(word)?.strip_prefix(' '));
    let rest = rest.ok_or_else(|| format!("this is no {word}: {line}"))?;
    let (name, rest) =
        rest.split_once(' ').ok_or_else(|| format!("{word} says nothing: {line}"))?;
    match is_name(name, true) && !rest.is_empty() && rest.trim() == rest {
        true => Ok((name, rest)),
        false => Err(format!("{word} is odd: {line}")),
    }
}

/// Whether this is a name of a metric, or of a label, which has no colons.
fn is_name(name: &str, is_metric: bool) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || (is_metric && c == ':');
    let mut characters = name.chars();
    characters.next().is_some_and(is_first) && characters.all(|c| is_first(c) || c.is_ascii_digit())
}

fn value_line(line: &str) -> Result<Series, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err(format!("`{name}` is no name"));
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    Ok(Series { name: name.into(), labels, value: number(value)? })
}

/// Reads labels up to the closing brace; gives what follows it.
fn labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("a label without a value")?;
        if !is_name(name, false) || name.starts_with("__") {
            return Err(format!("`{name}` is no name of a label"));
        }
        if labels.iter().any(|(other, _)| other == name) {
            return Err(format!("the label {name} comes twice"));
        }
        let end = closing_quote(after).ok_or("a value does not end")?;
        labels.push((name.into(), unescaped(&after[..end], true)?));
        rest = &after[end + 1..];
        match rest.split_at_checked(1) {
            Some((",", after)) => rest = after,
            Some(("}", after)) => return Ok((labels, after)),
            _ => return Err("neither , nor } after a label".into()),
        }
    }
}

/// Where the first quote is that no backslash stands before.
fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().find_map(|(at, character)| {
        if character == '"' && !is_escaped {
            return Some(at);
        }
        is_escaped = character == '\\' && !is_escaped;
        None
    })
}

fn unescaped(text: &str, has_quotes: bool) -> Result<String, String> {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('\\') => plain.push('\\'),
            Some('n') => plain.push('\n'),
            Some('"') if has_quotes => plain.push('"'),
            other => return Err(format!("there is no escape \\{other:?}")),
        }
    }
    Ok(plain)
}

/// A number as Go reads it, without the forms that no exporter writes; no timestamp follows it.
fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => return Ok(f64::INFINITY),
        "-Inf" => return Ok(f64::NEG_INFINITY),
        "NaN" => return Ok(f64::NAN),
        _ => {}
    }
    let is_plain = |c: char| c.is_ascii_digit() || ".e+-".contains(c);
    match text.parse() {
        Ok(value) if text.chars().all(is_plain) => Ok(value),
        _ => Err(format!("`{text}` is no number")),
    }
}

fn check(family: &Family) -> Result<(), String> {
    let Family { name, kind, series, .. } = family;
    let mut seen = HashSet::new();
    for Series { name: found, labels, value } in series {
        let mut key = labels.clone();
        key.sort();
        if !seen.insert((found, key)) {
            return Err(format!("{found} with {labels:?} comes twice"));
        }
        let is_part = ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}"));
        let is_ours = if kind == "histogram" { is_part.contains(found) } else { found == name };
        if !is_ours {
            return Err(format!("{found} below {name}"));
        }
        if kind != "gauge" && !(0.0..f64::INFINITY).contains(value) {
            return Err(format!("{found} is a {kind} and has the value {value}"));
        }
    }
    match kind.as_str() {
        "counter" if !name.ends_with("_total") => Err(format!("the counter {name} lacks _total")),
        "gauge" | "histogram" if name.ends_with("_total") => {
            Err(format!("{name} is no counter, but has _total"))
        }
        "counter" | "gauge" => Ok(()),
        "histogram" => check_histogram(name, series),
        _ => Err(format!("{name} is of the kind {kind}")),
    }
}

/// One histogram, whose series have no other label than `le`.
fn check_histogram(name: &str, series: &[Series]) -> Result<(), String> {
    let only = |suffix: &str| {
        let found: Vec<_> = series.iter().filter(|s| s.name == format!("{name}{suffix}")).collect();
        match found.as_slice() {
            [one] if one.labels.is_empty() => Ok(one.value),
            _ => Err(format!("{name} has not one {suffix}")),
        }
    };
    let (count, _) = (only("_count")?, only("_sum")?);
    let mut before = (f64::NEG_INFINITY, 0.0);
    for bucket in series.iter().filter(|s| s.name.ends_with("_bucket")) {
        let [(label, bound)] = bucket.labels.as_slice() else {
            return Err(format!("labels of a bucket of {name}"));
        };
        let bound = number(bound)?;
        if label != "le" || bound <= before.0 || bucket.value < before.1 {
            return Err(format!("the bucket {bound} of {name} does not rise"));
        }
        before = (bound, bucket.value);
    }
    match before == (f64::INFINITY, count) {
        true => Ok(()),
        false => Err(format!("the last bucket of {name} is not all of it")),
    }
}

/// What it must not let through, and a little that it must.
mod tests {
    use super::parse;

    const HEAD: &str = "# HELP a_total Help.\n# TYPE a_total counter\n";
    const HISTOGRAM: &str = "# HELP h Help.\n# TYPE h histogram\n";

    #[test]
    fn good_pages_are_read() {
        let series = "a_total{x=\"\\\"\\\\\\n,}= \"} 1e3\na_total{x=\"\",y=\"é\"} 0.5\n";
        let all = parse(&format!("{HEAD}{series}")).unwrap();
        assert_eq!(all[0].value(&[("x", "\"\\\n,}= ")]), Some(1000.0));
        assert_eq!(all[0].value(&[("x", ""), ("y", "é")]), Some(0.5));
        let buckets = "h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 4\nh_count 3\n";
        assert_eq!(parse(&format!("{HISTOGRAM}{buckets}")).unwrap()[0].series.len(), 4);
    }

    #[test]
    fn bad_lines_are_refused() {
        let all = [
            "a_total 1", // does not end
            "a_total\n",
            "a_total  1\n",
            "a_total 1 \n",
            "a_total 1 1700000000\n", // a time
            "a_total 0x10\n",
            "a_total inf\n",
            "a_total -1\n",
            "a_total NaN\n",
            "\na_total 1\n",
            "a_total{} 1\n",
            "a_total{x=\"1\",} 1\n",
            "a_total{x=\"1\"}1\n",
            "a_total{x=\"1\" ,y=\"2\"} 1\n",
            "a_total{x='1'} 1\n",
            "a_total{x=\"1} 1\n",
            "a_total{x=\"\\t\"} 1\n",
            "a_total{x=\"a\"b\"} 1\n",
            "a_total{x=\"1\",x=\"2\"} 1\n",
            "a_total{1x=\"1\"} 1\n",
            "a_total{__x=\"1\"} 1\n",
            "a_total{x:y=\"1\"} 1\n",
            "b_total 1\n",
            "a_total 1\na_total 1\n",
            "a_total{x=\"1\",y=\"2\"} 1\na_total{y=\"2\",x=\"1\"} 1\n",
            "a_total 1\n# HELP a_total Help.\n# TYPE a_total counter\n",
        ];
        for bad in all {
            assert!(parse(&format!("{HEAD}{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_heads_are_refused() {
        let all = [
            "a_total 1\n",
            "# TYPE a_total counter\na_total 1\n",
            "# HELP a_total Help.\na_total 1\n",
            "# HELP a_total Help.\n# TYPE b_total counter\n",
            "# HELP a_total \n# TYPE a_total counter\n",
            "# HELP a_total A \\\"b\\\".\n# TYPE a_total counter\n",
            "# HELP a Help.\n# TYPE a counter\n",
            "# HELP a_total Help.\n# TYPE a_total gauge\n",
            "# HELP a_total Help.\n# TYPE a_total number\n",
            "# EOF\n",
        ];
        for bad in all {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_histograms_are_refused() {
        let all = [
            "h_bucket{le=\"+Inf\"} 3\nh_sum 4\n",
            "h_bucket{le=\"+Inf\"} 3\nh_count 3\n",
            "h_bucket{le=\"1\"} 3\nh_sum 4\nh_count 3\n",
            "h_bucket{le=\"+Inf\"} 2\nh_sum 4\nh_count 3\n",
            "h_bucket{le=\"1\"} 4\nh_bucket{le=\"+Inf\"} 3\nh_sum 4\nh_count 3\n",
            "h_bucket{le=\"2\"} 1\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 4\nh_count 3\n",
            "h_bucket 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 4\nh_count 3\n",
        ];
        for bad in all {
            assert!(parse(&format!("{HISTOGRAM}{bad}")).is_err(), "{bad}");
        }
    }
}
