//! Labels: the text by which samples are told apart, and the one table of those that there are.
//!
//! Samples whose [`Labels`] are equal are one series. `docs/labels.md` is this table as people
//! read it; a test compares the two.

use std::collections::BTreeMap;

/// Text labels by name, sorted; those of one series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(pub BTreeMap<String, String>);

/// Text labels of samples that make no series.
pub const NON_SERIES: [&str; 3] = [CUT, GUESSED, THREAD];

/// Longest text of a label, in bytes. Pyroscope takes 2,048; a container's cgroup has about 250.
pub const LABEL_BYTES_MAX: usize = 1024;

/// Name of the machine.
pub const NODE: &str = "node";
/// Name of the process.
pub const COMM: &str = "comm";
/// File name of the process's main executable.
pub const EXECUTABLE: &str = "executable";
/// Path of the process's cgroup.
pub const CGROUP: &str = "cgroup";
/// The pod that the process is in.
pub const POD_UID: &str = "pod_uid";
/// The container that the process is in.
pub const CONTAINER_ID: &str = "container_id";
/// Marks the series into which others were merged.
pub const MERGED: &str = "merged";
/// Why a stack is not complete.
pub const CUT: &str = "cut";
/// How frames were found that nothing confirms.
pub const GUESSED: &str = "guessed";
/// Name of the thread.
pub const THREAD: &str = "thread";

/// Who writes a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenBy {
    /// `everytick agent`.
    Agent,
    /// `everytick record`.
    Record,
    /// Both.
    Both,
}

/// A label and what there is to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelDefinition {
    /// Its name.
    pub name: &'static str,
    /// What its text or number says.
    pub what: &'static str,
    /// Where that comes from.
    pub source: &'static str,
    /// Whether samples that differ in it are different series. Numbers never are.
    pub is_series: bool,
    /// Who writes it.
    pub written_by: WrittenBy,
}

/// All labels but the static ones, whose names the configuration chooses.
pub const LABEL_DEFINITIONS: [LabelDefinition; 13] = [
    series(
        NODE,
        "name of the machine",
        "`node` of the configuration, else `$NODE_NAME`, else the host's name",
    ),
    LabelDefinition {
        written_by: WrittenBy::Both,
        ..series(COMM, "name of the process", "its main thread's name at the time of the sample")
    },
    series(
        EXECUTABLE,
        "file name of its main executable; kernel threads have none",
        "the first file that it mapped after exec, else `/proc/PID/exe`",
    ),
    series(
        CGROUP,
        "path of its cgroup",
        "`/proc/PID/cgroup`: the line that names a container, else that of cgroup v2, else of v1",
    ),
    series(POD_UID, "the Kubernetes pod that it is in", "that path"),
    series(
        CONTAINER_ID,
        "the container that it is in: the pod's, or without a pod the innermost",
        "that path",
    ),
    series(
        MERGED,
        "`true` on the one series into which those beyond the bound were merged; it has no other labels but \
         `node` and the static ones",
        "the bound of series in a window",
    ),
    no_series(
        CUT,
        "why the stack is not complete; not there when it is",
        "the walk",
        WrittenBy::Both,
    ),
    no_series(
        GUESSED,
        "`frame pointers` when a frame was found by them alone",
        "the walk",
        WrittenBy::Both,
    ),
    no_series(THREAD, "name of the thread", "the sample", WrittenBy::Record),
    no_series("pid", "number of the process", "the sample, a number", WrittenBy::Record),
    no_series("tid", "number of the thread", "the sample, a number", WrittenBy::Record),
    no_series(
        "cgroup_id",
        "number of its cgroup in the cgroup v2 hierarchy",
        "the sample, a number",
        WrittenBy::Record,
    ),
];

const fn series(name: &'static str, what: &'static str, source: &'static str) -> LabelDefinition {
    LabelDefinition { name, what, source, is_series: true, written_by: WrittenBy::Agent }
}

const fn no_series(
    name: &'static str,
    what: &'static str,
    source: &'static str,
    written_by: WrittenBy,
) -> LabelDefinition {
    LabelDefinition { name, what, source, is_series: false, written_by }
}

/// Says whether samples that differ in this text label are different series.
pub fn is_series(name: &str) -> bool {
    !NON_SERIES.contains(&name)
}

/// Says whether a name is one of the table's, which a static label cannot have.
pub fn is_reserved(name: &str) -> bool {
    LABEL_DEFINITIONS.iter().any(|label| label.name == name)
}

impl Labels {
    /// Gives the text of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets a label, its text cut after [`LABEL_BYTES_MAX`]. One without text is no label.
    pub fn set(&mut self, name: &str, text: &str) {
        let text = &text[..text.floor_char_boundary(LABEL_BYTES_MAX)];
        if text.is_empty() {
            self.0.remove(name);
        } else {
            self.0.insert(name.to_owned(), text.to_owned());
        }
    }

    /// Gives names and texts in the order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// Bytes of memory it takes, about.
    pub fn bytes(&self) -> usize {
        /// A node of the map and two allocations.
        const LABEL_OVERHEAD: usize = 2 * size_of::<String>() + 32;
        self.0.iter().map(|(name, text)| name.len() + text.len() + LABEL_OVERHEAD).sum()
    }
}

impl<const COUNT: usize> From<[(&str, &str); COUNT]> for Labels {
    fn from(labels: [(&str, &str); COUNT]) -> Self {
        let mut out = Self::default();
        labels.into_iter().for_each(|(name, text)| out.set(name, text));
        out
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::expect_file;

    use super::*;

    const OPENING: &str = "\
# Labels

Each sample of a profile carries labels. Text labels make **series**: samples whose series labels are equal are one
series in a profile store, and each sink finds series that way, so all of them have the same. Numbers are never
series, and neither is the text that says how good a stack is. `agent` writes no pid, tid or thread: they would make
a series of each process and thread that ever ran.

";

    const CLOSING: &str = "
Beside these, a series has the **static labels** of the configuration, under names of its choice that are not in this
table. A label without text is left out. Text is cut after 1,024 bytes.

A window has at most so many series as the configuration allows. Beyond that, those with fewest samples are merged into
one, which is labelled `merged`; how many that were is in the metrics.

## Pods and containers

Nothing but the cgroup's path is needed: no container runtime, no API server. `pod_uid` and `container_id` are read
from the names that the kubelet, containerd, CRI-O, Docker and Podman give their cgroups, with the cgroupfs driver or
systemd's, in hierarchies v1, v2 or both. A pod's uid has dashes, as Kubernetes shows it; of a static pod it is the hash of its
file. The id is of 64 hexadecimal digits, as `crictl ps --no-trunc` shows it.

In a container of its own, the agent sees cgroups from where it is itself, as in `/../../burstable/pod.../...`. Where the
host's `/sys/fs/cgroup` is mounted, it finds out where that is, and gives whole paths. Where not, paths begin behind
the `..`, and what is there of uid and id is found all the same.

A process that exits before its cgroup can be read has its parent's, unless the kernel says that the two differ; if the parent's is not known
either, it has none of these labels. Both are counted, in `everytick_process_labels_total`.
";

    fn document() -> String {
        let mut text = OPENING.to_owned();
        text.push_str("| label | what | from | series | written by |\n|---|---|---|---|---|\n");
        for LabelDefinition { name, what, source, is_series, written_by } in LABEL_DEFINITIONS {
            let is_series = if is_series { "yes" } else { "no" };
            let written_by = match written_by {
                WrittenBy::Agent => "agent",
                WrittenBy::Record => "record",
                WrittenBy::Both => "both",
            };
            let _ = writeln!(text, "| {name} | {what} | {source} | {is_series} | {written_by} |");
        }
        text + CLOSING
    }

    /// `UPDATE_EXPECT=1 cargo test -p profile` writes it anew.
    #[test]
    fn the_documentation_is_this_table() {
        expect_file!["../../docs/labels.md"].assert_eq(&document());
    }

    #[test]
    fn the_table_and_the_list_of_those_that_make_no_series_agree() {
        for label in LABEL_DEFINITIONS {
            let is_number = label.source.ends_with("a number");
            assert_eq!(label.is_series, is_series(label.name) && !is_number, "{}", label.name);
        }
        assert!(is_series("team") && !is_reserved("team") && is_reserved(CUT));
    }

    #[test]
    fn a_label_without_text_is_none_and_long_text_is_cut_between_characters() {
        let mut labels = Labels::from([("a", "x"), ("b", "")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "x")]);
        labels.set("a", &"\u{20ac}".repeat(1000));
        assert_eq!(labels.get("a").map(str::len), Some(1023));
        labels.set("a", "");
        assert_eq!(labels, Labels::default());
    }
}
