//! What `record` says at the start about names of `--comm` that no thread has.

use std::collections::BTreeSet;

use profile::printable;

use crate::procfs;

/// Threads whose names are read; beyond that a name may exist all the same, and nothing is said.
const THREADS_MAX: usize = 100_000;
/// How alike a name must be to be suggested, 1 for equal names.
const SIMILARITY_MIN: f64 = 0.75;

/// Returns a line for each name that no process and no thread has. `names`: as in `--comm`.
pub(super) fn unmatched(names: &[String]) -> Vec<String> {
    let Some(existing) = existing() else { return Vec::new() };
    let missing = names.iter().filter(|name| !existing.contains(*name));
    missing.map(|name| describe(name, &existing)).collect()
}

fn describe(name: &str, existing: &BTreeSet<String>) -> String {
    let similarity = |other: &&String| strsim::jaro_winkler(name, other);
    let nearest = existing.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let hint = match nearest.filter(|nearest| similarity(nearest) >= SIMILARITY_MIN) {
        Some(nearest) => format!(" (did you mean {}?)", printable(nearest)),
        None => String::new(),
    };
    format!(
        "everytick: no process or thread has the name {} yet{hint}; waiting for one",
        printable(name)
    )
}

/// Returns the names of all threads, `None` if there are too many.
fn existing() -> Option<BTreeSet<String>> {
    let own_pid = std::process::id();
    let others = procfs::pids().filter(|pid| *pid != own_pid);
    let threads = others.flat_map(|pid| procfs::thread_ids(pid).map(move |tid| (pid, tid)));
    let mut names = BTreeSet::new();
    for (number, (pid, tid)) in threads.enumerate() {
        if number == THREADS_MAX {
            return None;
        }
        let name = procfs::read_text(&format!("/proc/{pid}/task/{tid}/comm"));
        names.extend(name.ok().map(|name| name.trim_end_matches('\n').to_owned()));
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_name_is_described_with_the_nearest() {
        let existing = ["postgres", "sh"].map(str::to_owned).into();
        let check = |name: &str, hint: &str| {
            let expected = format!(
                "everytick: no process or thread has the name {name} yet{hint}; waiting for one"
            );
            assert_eq!(describe(name, &existing), expected);
        };
        check("postgers", " (did you mean postgres?)");
        check("nginx", "");
    }

    #[test]
    fn name_of_a_running_program_is_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("it starts");
        // It is spawned a moment before it has its name.
        let comm = format!("/proc/{}/comm", child.id());
        while procfs::read_text(&comm).is_ok_and(|name| name != "sleep\n") {
            std::thread::yield_now();
        }
        let lines = unmatched(&["sleep".to_owned(), "no such name".to_owned()]);
        child.kill().and_then(|()| child.wait()).expect("it exits");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("has the name no such name yet"), "{lines:?}");
    }
}
