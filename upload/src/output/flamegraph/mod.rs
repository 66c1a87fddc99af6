//! Profile to an interactive flame graph: a picture of all stacks, for a browser.
//!
//! - [`tree`] adds the stacks up to a tree of calls; [`kind`] says what each frame is, by the model
//!   of the profile and never by its name; [`repeats`] draws recursion once.
//! - [`boxes`] gives each frame its rectangle, [`heading`] says what was profiled, where and when.
//! - [`svg`] writes it all. The file is valid XML whatever names are in it, and a picture also
//!   where scripts do not run; `view.js` adds zoom, search and the keyboard.

mod boxes;
mod direction;
mod heading;
mod kind;
mod repeats;
mod svg;
#[cfg(test)]
mod tests;
mod text;
mod tree;

use std::io;

use profile::Profile;
use profile::pprof::SampleUnit;

use crate::output::folded::StackRoot;
use boxes::boxes_of;
pub use direction::Direction;
use heading::Heading;
use text::CountScale;
use tree::CallTree;

/// Idle part from which on idle time is drawn beside the stacks.
const IDLE_DRAWN_MIN: f64 = 0.99;
/// Busy CPUs, on average, below which idle time is drawn too.
const BUSY_CPUS_MIN: f64 = 0.1;

/// Draws a profile as SVG: wide is much CPU time. `unit`: what its counts are of.
///
/// # Errors
/// As the XML library does when it writes to memory.
pub(super) fn draw(
    profile: &Profile,
    root: StackRoot,
    direction: Direction,
    unit: SampleUnit,
) -> io::Result<Vec<u8>> {
    let scale = CountScale::of(profile, unit);
    let mut tree = CallTree::new(profile, root);
    let heading = Heading::new(profile, &tree, scale);
    if let Some(idle) = idle_to_draw(profile, tree.nodes[0].total) {
        tree.add_idle(idle);
    }
    let boxes = boxes_of(&tree);
    svg::write(&svg::Drawing { heading, tree, boxes, scale, direction })
}

/// Returns the count of idle time, if the picture of a whole machine would mislead without it: the
/// few samples of an idle machine are not where its time went. `total`: count of all samples.
fn idle_to_draw(profile: &Profile, total: u64) -> Option<u64> {
    let share = profile.busy_share()?;
    let is_whole_machine = share.busy == profile.ledger.emitted();
    let seconds = profile.duration_ns as f64 / 1e9;
    let busy_cpus = total as f64 * profile.period_ns as f64 / 1e9 / seconds.max(1e-9);
    let is_idle = share.idle() >= IDLE_DRAWN_MIN || busy_cpus < BUSY_CPUS_MIN;
    let idle = match share.busy {
        0 => u128::from(share.due),
        busy => u128::from(total) * u128::from(share.due - busy) / u128::from(busy),
    };
    (is_whole_machine && is_idle).then_some(idle as u64)
}
