//! Profile to an interactive flamegraph, drawn by inferno.

use std::io;

use inferno::flamegraph::color::{MultiPalette, Palette};
use inferno::flamegraph::{Options, from_lines};
use profile::Profile;

use super::folded::{StackRoot, folded};

/// Draws the profile as SVG: wide is much CPU time, up is what was called. Colours tell
/// kernel (orange), C++ (yellow) and inlined (aqua) from other functions. `unit`: what its counts are of.
///
/// # Errors
/// As the drawing library does.
pub(super) fn draw(profile: &Profile, root: StackRoot, unit: &str) -> io::Result<Vec<u8>> {
    let text = folded(profile, root);
    let mut options = Options::default();
    options.title = "CPU time by stack".into();
    options.subtitle = Some(subtitle(profile));
    options.count_name = unit.into();
    options.colors = Palette::Multi(MultiPalette::Java);
    options.hash = true;
    options.min_width = 0.05;
    let mut svg = Vec::new();
    // Without a sample the library draws nothing and fails: an empty recording is a graph too.
    let lines = if text.is_empty() { "no samples 1" } else { &text };
    from_lines(&mut options, lines.lines(), &mut svg)?;
    Ok(svg)
}

fn subtitle(profile: &Profile) -> String {
    let ledger = &profile.ledger;
    let not_sampled = match ledger.not_sampled_total() {
        0 => String::new(),
        ticks => format!(", {ticks} not sampled"),
    };
    format!(
        "everytick: {} samples in {:.1} s, {} lost, {} ticks missed{not_sampled}",
        ledger.aggregated,
        profile.duration_ns as f64 / 1e9,
        ledger.lost_total(),
        ledger.missed(),
    )
}
