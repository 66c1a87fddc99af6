//! An event of `tracing` as owned values.

use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// Longest text of a message or a field, in bytes.
const TEXT_MAX: usize = 4096;

/// What one line of the log holds.
#[derive(Clone, Debug)]
pub(super) struct LogEvent {
    pub level: Level,
    pub message: String,
    pub fields: Vec<(&'static str, FieldValue)>,
}

/// The value of a field, as the macro formats it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FieldValue {
    /// `name`: a number or a boolean.
    Plain(Value),
    /// `name = "text"`.
    Text(String),
    /// `%name` or `?name`.
    Formatted(String),
}

impl LogEvent {
    pub fn new(level: Level, message: String) -> Self {
        Self { level, message, fields: Vec::new() }
    }

    /// Takes the message and the fields of `event`, each cut to 4 KiB.
    pub fn of(event: &Event<'_>) -> Self {
        let mut this = Self::new(*event.metadata().level(), String::new());
        event.record(&mut this);
        this
    }

    fn push(&mut self, field: &Field, value: FieldValue) {
        match value {
            FieldValue::Text(text) | FieldValue::Formatted(text) if field.name() == "message" => {
                self.message = text;
            }
            value => self.fields.push((field.name(), value)),
        }
    }
}

impl Visit for LogEvent {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, FieldValue::Plain(value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, FieldValue::Plain(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, FieldValue::Plain(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, FieldValue::Plain(value.into()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, FieldValue::Text(cut(value.to_owned())));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, FieldValue::Formatted(cut(format!("{value:?}"))));
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text.push('…');
    }
    text
}
