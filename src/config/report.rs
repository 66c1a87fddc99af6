//! What is in force, as a file that says where each value comes from. Secrets are never in it.

use std::fmt::Write;

use super::error::Origin;
use super::settle::{Setting, Settled};

/// Column at which origins stand, if values leave room.
const ORIGINS_AT: usize = 48;

/// Writes all sections as TOML.
pub(super) fn in_force(sections: &[Settled]) -> String {
    let mut text = String::new();
    for section in sections {
        let separator = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{separator}[{}]", section.name);
        for setting in &section.settings {
            text.push_str(&line(section, setting));
        }
    }
    text
}

fn line(section: &Settled, setting: &Setting) -> String {
    let Setting { key, value, origin } = setting;
    let assignment = format!("{} = {}", section.name_of(key), key.kind.shown(value));
    let origin = match origin {
        Origin::Default => "default".to_owned(),
        set => set.to_string().replace(char::is_control, "?"),
    };
    format!("{assignment:<ORIGINS_AT$} # {origin}\n")
}
