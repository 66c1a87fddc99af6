//! A line of the log: time, level, message, fields.

use std::fmt::Write;

use profile::printable;
use serde_json::{Map, Value, json};
use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::event::{FieldValue, LogEvent};

/// Format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineStyle {
    /// For people.
    Text,
    /// For people, with the colors of a terminal.
    ColoredText,
    /// A JSON object.
    Json,
}

impl LineStyle {
    /// Formats an event as of now, with a newline at the end.
    pub(super) fn format(self, event: &LogEvent) -> String {
        match self {
            Self::Text => text(event, ("", ""), ("", "")),
            Self::ColoredText => text(event, ("\x1b[2m", "\x1b[0m"), color(event.level)),
            Self::Json => json(event),
        }
    }
}

/// Returns the escape sequences before and after a level.
fn color(level: Level) -> (&'static str, &'static str) {
    let start = match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    };
    (start, "\x1b[0m")
}

fn text(event: &LogEvent, dim: (&str, &str), level: (&str, &str)) -> String {
    let mut line =
        format!("{}{}{} {}{:>5}{} ", dim.0, now(), dim.1, level.0, event.level.as_str(), level.1);
    line.push_str(&printable(&event.message));
    for (name, value) in &event.fields {
        let _ = write!(line, " {name}=");
        match value {
            FieldValue::Plain(value) => line.push_str(&printable(&value.to_string())),
            FieldValue::Text(text) => line.push_str(&printable(&format!("{text:?}"))),
            FieldValue::Formatted(text) => line.push_str(&printable(text)),
        }
    }
    line.push('\n');
    line
}

fn json(event: &LogEvent) -> String {
    let mut fields = Map::new();
    fields.insert("message".into(), event.message.as_str().into());
    for (name, value) in &event.fields {
        let value = match value {
            FieldValue::Plain(value) => value.clone(),
            FieldValue::Text(text) | FieldValue::Formatted(text) => Value::from(text.as_str()),
        };
        fields.insert((*name).into(), value);
    }
    let line = json!({ "timestamp": now(), "level": event.level.as_str(), "fields": fields });
    format!("{line}\n")
}

/// Returns the time of day in UTC, with microseconds.
fn now() -> String {
    let mut time = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> LogEvent {
        let mut event = LogEvent::new(Level::WARN, "a\nb \x1b[31m ä\u{202e}".into());
        event.fields.push(("number", FieldValue::Plain(7.into())));
        event.fields.push(("text", FieldValue::Text("x\r\u{9b}".into())));
        event.fields.push(("shown", FieldValue::Formatted("1.2.3.4:5\t".into())));
        event
    }

    #[test]
    fn control_characters_are_escaped() {
        let line = LineStyle::Text.format(&event());
        let expected = "Z  WARN a\\nb \\u{1b}[31m ä\\u{202e} number=7 text=\"x\\r\\u{9b}\" \
                        shown=1.2.3.4:5\\t\n";
        assert!(line.ends_with(expected), "{line}");
    }

    #[test]
    fn only_our_own_colors_reach_a_terminal() {
        let line = LineStyle::ColoredText.format(&event());
        assert_eq!(line.matches('\x1b').count(), 4, "{line:?}");
    }

    #[test]
    fn json_lines_hold_the_fields_with_their_types() {
        let line = LineStyle::Json.format(&event());
        assert_eq!(line.matches('\n').count(), 1);
        let object: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(object["level"], "WARN");
        assert_eq!(object["fields"]["message"], event().message);
        assert_eq!(object["fields"]["number"], 7);
        assert_eq!(object["fields"]["shown"], "1.2.3.4:5\t");
    }
}
