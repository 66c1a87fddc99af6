//! The agents whose windows an export adds up. Each tick counts once: a window that was copied is
//! left out, and windows of two agents that sampled one machine at the same time are refused.
//!
//! Two windows account for the same ticks if they are of one boot, by the kernel's boot ID, and
//! overlap by the time since boot. The wall clock may have been set; it is the only clock for
//! windows of early versions, and then an overlap is noted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use profile::pprof::proto as pb;
use profile::{Origin, pluralize};
use prost::Message;
use upload::sinks::directory::StoredWindow;

/// Overlap of windows of one boot that is none: the clocks of one boundary are read one after the
/// other.
const SINCE_BOOT_TOLERANCE_NS: u64 = 100_000_000;
/// The same by the wall clock, which is slewed.
const WALL_TOLERANCE_NS: u64 = 1_000_000_000;

/// The windows to add up.
#[derive(Debug, Default)]
pub(super) struct SelectedWindows {
    pub windows: Vec<StoredWindow>,
    /// What the sum lacks or combines, one line each.
    pub notes: Vec<String>,
}

/// Two windows of one machine and time: added up, their ticks would count twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SameTicks {
    /// The agents, as [`Origin::agent`] returns them.
    pub agents: [String; 2],
    /// Their files.
    pub files: [PathBuf; 2],
}

impl SameTicks {
    /// Returns the next step.
    pub fn advice(&self) -> String {
        let [first, second] = &self.agents;
        match first == second {
            true => "remove one of the copies of this agent's directories".to_owned(),
            false => format!("select one with --only-agent {first}"),
        }
    }
}

/// Selects the windows of these agents, `HOST` or `HOST/INSTANCE`; of all if none is given.
///
/// # Errors
/// [`SameTicks`] for the first two windows that must not be added up.
pub(super) fn select(
    windows: Vec<StoredWindow>,
    agents: &[String],
) -> Result<SelectedWindows, SameTicks> {
    let mut selected = SelectedWindows { windows, notes: Vec::new() };
    selected.windows.retain(|window| is_of(window.origin.as_ref(), agents));
    selected.leave_out_copies();
    selected.check_ticks()?;
    selected.note_machines();
    selected.note_overlaps();
    Ok(selected)
}

fn is_of(origin: Option<&Origin>, agents: &[String]) -> bool {
    let is_named = |origin: &Origin| {
        agents.iter().any(|agent| *agent == origin.host || *agent == origin.agent())
    };
    agents.is_empty() || origin.is_some_and(is_named)
}

impl SelectedWindows {
    /// Leaves out windows of an agent and time that are there already.
    fn leave_out_copies(&mut self) {
        let (mut seen, before) = (HashSet::new(), self.windows.len());
        self.windows.retain(|window| match &window.origin {
            Some(origin) => seen.insert((origin.instance, origin.start)),
            None => true,
        });
        self.notes.extend(describe_copies(before - self.windows.len()));
    }

    fn check_ticks(&self) -> Result<(), SameTicks> {
        let mut by_start: Vec<(&Origin, &StoredWindow)> = Vec::new();
        for window in &self.windows {
            by_start.extend(window.origin.as_ref().map(|origin| (origin, window)));
        }
        by_start.sort_by_key(|(origin, _)| origin.start);
        let mut last: Option<(u64, &Origin, &StoredWindow)> = None;
        for (origin, window) in by_start {
            let end = origin.start.ns.saturating_add(window.duration_ns);
            let previous = last.filter(|(_, last, _)| last.start.boot_id == origin.start.boot_id);
            if let Some((last_end, last_origin, last_window)) = previous
                && origin.start.ns.saturating_add(SINCE_BOOT_TOLERANCE_NS) < last_end
            {
                return Err(SameTicks {
                    agents: [last_origin.agent(), origin.agent()],
                    files: [last_window.path.clone(), window.path.clone()],
                });
            }
            last = Some((end, origin, window));
        }
        Ok(())
    }

    /// Notes that windows of several machines are added up.
    fn note_machines(&mut self) {
        let hosts = self.windows.iter().filter_map(|window| Some(&*window.origin.as_ref()?.host));
        let hosts: BTreeSet<&str> = hosts.collect();
        if hosts.len() > 1 {
            let names = Vec::from_iter(hosts.iter().copied()).join(", ");
            let note = format!(
                "windows of {} machines are added up ({names}); --only-agent selects one",
                hosts.len()
            );
            self.notes.push(note);
        }
    }

    /// Notes windows that overlap by the wall clock alone, of one machine or of unknown ones.
    fn note_overlaps(&mut self) {
        let mut by_host: HashMap<Option<&str>, Vec<(u64, u64)>> = HashMap::new();
        for window in &self.windows {
            let host = window.origin.as_ref().map(|origin| &*origin.host);
            let end = window.start_unix_ns.saturating_add(window.duration_ns);
            by_host.entry(host).or_default().push((window.start_unix_ns, end));
        }
        let overlaps: usize = by_host.into_values().map(count_overlaps).sum();
        if overlaps > 0 {
            let windows = pluralize(overlaps as u64, "window begins", "windows begin");
            self.notes.push(format!(
                "{windows} before the end of the window before: the clock was set back, or the \
                 directory has windows of several agents"
            ));
        }
    }
}

/// Counts the spans that begin before an earlier one ends.
fn count_overlaps(mut spans: Vec<(u64, u64)>) -> usize {
    spans.sort_unstable();
    let (mut overlaps, mut last_end) = (0, 0);
    for (start, end) in spans {
        overlaps += usize::from(start.saturating_add(WALL_TOLERANCE_NS) < last_end);
        last_end = last_end.max(end);
    }
    overlaps
}

/// Windows without an origin, by their content, so that a copy counts once.
#[derive(Default)]
pub(super) struct Copies {
    seen: HashSet<u64>,
    left_out: usize,
}

impl Copies {
    /// Returns whether a window is a copy of one before. `message`: its content.
    pub fn is_copy(&mut self, window: &StoredWindow, message: &pb::Profile) -> bool {
        if window.origin.is_some() {
            return false; // compared by its origin
        }
        let mut hasher = DefaultHasher::new();
        (window.start_unix_ns, window.duration_ns, message.encode_to_vec()).hash(&mut hasher);
        let is_copy = !self.seen.insert(hasher.finish());
        self.left_out += usize::from(is_copy);
        is_copy
    }

    /// Describes the copies; `None` without any.
    pub fn describe(&self) -> Option<String> {
        describe_copies(self.left_out)
    }
}

fn describe_copies(copies: usize) -> Option<String> {
    let windows = pluralize(copies as u64, "copy of a window", "copies of windows");
    (copies > 0).then(|| format!("{windows} left out"))
}

#[cfg(test)]
mod tests {
    use profile::BootTime;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A window of ten seconds.
    fn window(host: &str, instance: u64, boot_id: u128, at: u64) -> StoredWindow {
        let start = BootTime { boot_id, ns: at * SECOND };
        StoredWindow {
            path: format!("{host}{instance}-{at}").into(),
            start_unix_ns: (1_000 + at) * SECOND,
            duration_ns: 10 * SECOND,
            origin: Some(Origin { start, instance, host: host.into() }),
        }
    }

    fn old(at: u64) -> StoredWindow {
        StoredWindow { origin: None, ..window("old", 0, 0, at) }
    }

    fn run(host: &str, instance: u64, boot_id: u128, from: u64) -> Vec<StoredWindow> {
        (0..5).map(|n| window(host, instance, boot_id, from + 10 * n)).collect()
    }

    fn selected(windows: Vec<StoredWindow>, agents: &[&str]) -> (usize, Vec<String>) {
        let agents: Vec<String> = agents.iter().map(|agent| (*agent).to_owned()).collect();
        let SelectedWindows { windows, notes } = select(windows, &agents).expect("no ticks twice");
        (windows.len(), notes)
    }

    #[test]
    fn windows_of_one_agent_and_of_its_restarts_are_added_up() {
        let windows = [run("n", 1, 7, 0), run("n", 2, 7, 50), run("n", 2, 8, 120)].concat();
        assert_eq!(selected(windows, &[]), (15, vec![]));
    }

    #[test]
    fn two_agents_of_one_boot_and_time_are_refused() {
        for offset in [0, 3, 9] {
            let windows = [run("n", 1, 7, 100), run("n", 2, 7, 100 + offset)].concat();
            let error = select(windows.clone(), &[]).expect_err("their ticks are the same");
            let mut agents = error.agents.clone();
            agents.sort();
            assert_eq!(agents, ["n/0000000000000001", "n/0000000000000002"]);
            assert!(select(windows.clone(), &["n".into()]).is_err());
            assert_eq!(selected(windows, &["n/0000000000000002"]), (5, vec![]));
        }
    }

    #[test]
    fn a_long_window_overlaps_all_that_begin_in_it() {
        let mut long = window("n", 1, 7, 0);
        long.duration_ns = 100 * SECOND;
        assert!(select(vec![long, window("n", 1, 7, 90)], &[]).is_err(), "a copied spool");
    }

    #[test]
    fn a_copy_under_another_name_counts_once() {
        let mut windows = run("n", 1, 7, 0);
        let copies = windows.clone().into_iter().map(|mut window| {
            window.path = format!("{}-copy", window.path.display()).into();
            window
        });
        windows.extend(copies.take(2));
        assert_eq!(selected(windows, &[]), (5, vec!["2 copies of windows left out".to_owned()]));
    }

    #[test]
    fn machines_are_added_up_with_a_note() {
        let windows = [run("a", 1, 7, 0), run("b", 2, 8, 0)].concat();
        let (count, notes) = selected(windows.clone(), &[]);
        let note = "windows of 2 machines are added up (a, b); --only-agent selects one";
        assert_eq!((count, notes), (10, vec![note.to_owned()]));
        assert_eq!(selected(windows, &["b"]), (5, vec![]));
    }

    #[test]
    fn a_clock_set_back_is_noted_and_refuses_nothing() {
        let mut windows = run("n", 1, 7, 100);
        windows[4].start_unix_ns -= 25 * SECOND;
        let (count, notes) = selected(windows, &[]);
        assert_eq!((count, notes.len()), (5, 1), "{notes:?}");
        assert!(notes[0].starts_with("2 windows begin before the end of"), "{notes:?}");
    }

    #[test]
    fn windows_of_early_versions_are_compared_by_the_wall_clock() {
        assert_eq!(selected(vec![old(0), old(10), old(20)], &[]), (3, vec![]));
        let (count, notes) = selected(vec![old(0), old(3)], &[]);
        assert_eq!((count, notes.len()), (2, 1));
        assert_eq!(selected(vec![old(0)], &["n"]), (0, vec![]));
    }
}
