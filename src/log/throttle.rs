//! Repeats: the same text is logged once a minute, with the count of those left out.
//!
//! Two events have the same text if they come from the same place in the code and differ in
//! numbers only. A place whose text comes from outside cannot fill the log either: each place has a
//! bound of distinct texts a minute, and so have all together.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;

use super::event::{FieldValue, LogEvent};

/// Time between two lines of the same text.
const INTERVAL: Duration = Duration::from_secs(60);
/// Distinct texts of one place in [`INTERVAL`]. Beyond it all texts of the place count as the same.
const TEXTS_PER_SITE: usize = 64;
/// Distinct texts of all places in [`INTERVAL`].
const TEXTS_MAX: usize = 512;

/// The texts of the last minute.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    texts: Mutex<HashMap<TextKey, RecentText>>,
}

/// A place in the code, and the hash of a text; no hash stands for all texts beyond the bounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TextKey {
    site: Identifier,
    text: Option<u64>,
}

#[derive(Debug)]
struct RecentText {
    logged: Instant,
    /// Events left out since then, and the last of them.
    suppressed: u64,
    last: Option<LogEvent>,
}

impl Throttle {
    /// Returns the event if it is to be logged now, with the count of repeats left out before it.
    pub fn admit(&self, site: Identifier, mut event: LogEvent, now: Instant) -> Option<LogEvent> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(site, &event, &mut texts, now);
        let Some(text) = texts.get_mut(&key) else {
            texts.insert(key, RecentText { logged: now, suppressed: 0, last: None });
            return Some(event);
        };
        if now.saturating_duration_since(text.logged) < INTERVAL {
            text.suppressed += 1;
            text.last = Some(event);
            return None;
        }
        text.logged = now;
        text.last = None;
        add_repeats(&mut event, std::mem::take(&mut text.suppressed));
        Some(event)
    }

    /// Takes the last event of each text of which events were left out for a minute, or for any
    /// time without `now`.
    pub fn take_suppressed(&self, now: Option<Instant>) -> Vec<LogEvent> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = Vec::new();
        for text in texts.values_mut() {
            let is_due = now.is_none_or(|now| text.is_old(now));
            if let Some(mut event) = text.last.take_if(|_| is_due) {
                text.logged = now.unwrap_or(text.logged);
                add_repeats(&mut event, std::mem::take(&mut text.suppressed));
                events.push(event);
            }
        }
        events
    }
}

impl RecentText {
    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.logged) >= INTERVAL
    }
}

/// Returns the key of an event: of its text while that is known or fits, else of its place.
fn key(
    site: Identifier,
    event: &LogEvent,
    texts: &mut HashMap<TextKey, RecentText>,
    now: Instant,
) -> TextKey {
    let key = TextKey { site: site.clone(), text: Some(hash(event)) };
    if texts.contains_key(&key) {
        return key;
    }
    let is_full = |texts: &HashMap<TextKey, RecentText>| {
        let of_site = texts.keys().filter(|key| key.site == site).count();
        texts.len() >= TEXTS_MAX || of_site >= TEXTS_PER_SITE
    };
    if is_full(texts) {
        texts.retain(|_, text| text.last.is_some() || !text.is_old(now));
    }
    if is_full(texts) { TextKey { site, text: None } } else { key }
}

/// Hashes the text of an event without its numbers.
fn hash(event: &LogEvent) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash_text(&event.message, &mut hasher);
    for (name, value) in &event.fields {
        if let FieldValue::Text(text) | FieldValue::Formatted(text) = value {
            name.hash(&mut hasher);
            hash_text(text, &mut hasher);
        }
    }
    hasher.finish()
}

fn hash_text(text: &str, hasher: &mut DefaultHasher) {
    let is_number = |byte: u8| byte.is_ascii_digit();
    text.as_bytes().split(|byte| is_number(*byte)).filter(|part| !part.is_empty()).for_each(
        |part| {
            part.hash(hasher);
        },
    );
    0xffu8.hash(hasher);
}

fn add_repeats(event: &mut LogEvent, suppressed: u64) {
    if suppressed > 0 {
        event.fields.push(("repeats", FieldValue::Plain(suppressed.into())));
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    /// Returns the identifier of some place.
    macro_rules! site {
        () => {
            tracing::callsite!(name: "site", kind: tracing::metadata::Kind::EVENT, fields: message)
        };
    }

    fn event(text: &str) -> LogEvent {
        LogEvent::new(Level::WARN, text.into())
    }

    fn repeats(event: Option<LogEvent>) -> Option<Option<u64>> {
        let event = event?;
        let found = event.fields.iter().find(|(name, _)| *name == "repeats");
        Some(found.and_then(|(_, value)| match value {
            FieldValue::Plain(count) => count.as_u64(),
            _ => None,
        }))
    }

    #[test]
    fn the_same_text_is_logged_once_a_minute_with_its_count() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let site = tracing::callsite::Callsite::metadata(site!()).callsite();
        let admit = |seconds, text: &str| {
            let now = start + Duration::from_secs(seconds);
            repeats(throttle.admit(site.clone(), event(text), now))
        };
        assert_eq!(admit(0, "window 1 is late by 7 s"), Some(None));
        assert_eq!(admit(1, "window 2 is late by 13 s"), None);
        assert_eq!(admit(2, "window 2 is early"), Some(None));
        assert_eq!(admit(59, "window 3 is late by 1 s"), None);
        assert_eq!(admit(60, "window 4 is late by 1 s"), Some(Some(2)));
        assert_eq!(admit(121, "window 5 is late by 1 s"), Some(None));
    }

    #[test]
    fn repeats_are_reported_when_they_have_ended() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let site = tracing::callsite::Callsite::metadata(site!()).callsite();
        let at = |seconds| start + Duration::from_secs(seconds);
        throttle.admit(site.clone(), event("a"), at(0));
        throttle.admit(site.clone(), event("a"), at(1));
        throttle.admit(site.clone(), event("a"), at(2));
        assert!(throttle.take_suppressed(Some(at(59))).is_empty());
        let events = throttle.take_suppressed(Some(at(60)));
        assert_eq!(events.len(), 1);
        assert_eq!(repeats(events.into_iter().next()), Some(Some(2)));
        assert!(throttle.admit(site, event("a"), at(61)).is_none(), "a minute after the report");
    }

    #[test]
    fn texts_from_outside_are_bounded() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let site = tracing::callsite::Callsite::metadata(site!()).callsite();
        let other = tracing::callsite::Callsite::metadata(site!()).callsite();
        let text = |number: u32| -> String {
            (0..20).map(|bit| if number >> bit & 1 == 1 { 'x' } else { 'y' }).collect()
        };
        let admitted = |count: u32| {
            let admit = |number| throttle.admit(site.clone(), event(&text(number)), now);
            (0..count).filter_map(admit).count()
        };
        assert_eq!(admitted(10_000), TEXTS_PER_SITE + 1);
        assert!(throttle.admit(other, event("another place"), now).is_some());
        assert!(throttle.texts.lock().expect("no panic").len() <= TEXTS_MAX + 1);
    }
}
