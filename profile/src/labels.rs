//! Labels, by which samples are distinguished, and the table of all that exist.
//!
//! Samples with equal [`Labels`] are one series. `docs/labels.md` is generated from
//! [`LABEL_DEFINITIONS`]; a test compares the two.

use std::collections::BTreeMap;

/// The text labels of one series, sorted by name.
///
/// ```
/// use profile::Labels;
///
/// let mut labels = Labels::from([("node", "n1"), ("comm", "nginx")]);
/// labels.set("node", ""); // removes it
/// assert_eq!(labels.iter().collect::<Vec<_>>(), [("comm", "nginx")]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(pub BTreeMap<String, String>);

/// Text labels that are not part of a series.
pub const NON_SERIES: [&str; 3] = [CUT, GUESSED, THREAD];

/// Longest text of a label, in bytes. Pyroscope accepts 2,048; the cgroup of a container has about
/// 250.
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
/// Why the stack is not complete.
pub const CUT: &str = "cut";
/// How guessed frames were found.
pub const GUESSED: &str = "guessed";
/// Name of the thread.
pub const THREAD: &str = "thread";

/// Command line of the process. No file has it as a label: `record --by cmdline` draws it.
pub const COMMAND_LINE: &str = "cmdline";

/// Which commands write a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenBy {
    /// `everytick agent`.
    Agent,
    /// `everytick record`.
    Record,
    /// Both.
    Both,
}

/// A label and its documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelDefinition {
    /// The label's name.
    pub name: &'static str,
    /// What its value is.
    pub what: &'static str,
    /// Where the value comes from.
    pub source: &'static str,
    /// Whether it is part of a series. Numbers never are.
    pub is_series: bool,
    /// Which commands write it.
    pub written_by: WrittenBy,
}

/// All labels except the static ones, whose names are configured.
pub const LABEL_DEFINITIONS: [LabelDefinition; 13] = [
    series(
        NODE,
        "name of the machine",
        "`node` in the configuration, else `$NODE_NAME`, else the host name",
    ),
    LabelDefinition {
        written_by: WrittenBy::Both,
        ..series(COMM, "name of the process", "its main thread's name at the time of the sample")
    },
    series(
        EXECUTABLE,
        "file name of the main executable; kernel threads have none",
        "the first file mapped after exec, else `/proc/PID/exe`",
    ),
    series(
        CGROUP,
        "path of the process's cgroup",
        "`/proc/PID/cgroup`: the line that names a container, else that of cgroup v2, else of v1",
    ),
    series(POD_UID, "UID of the Kubernetes pod", "the cgroup's path"),
    series(
        CONTAINER_ID,
        "ID of the container: the pod's, or without a pod the innermost",
        "the cgroup's path",
    ),
    series(
        MERGED,
        "`true` on a series into which others were merged: those beyond the limit of a window keep \
         `node` and the static labels, those beyond the limit of an hour lose `comm` and \
         `executable`",
        "the limits of series",
    ),
    no_series(
        CUT,
        "why the stack is not complete; absent if it is",
        "the unwinder",
        WrittenBy::Both,
    ),
    no_series(
        GUESSED,
        "`frame pointers` if a frame was found by them alone",
        "the unwinder",
        WrittenBy::Both,
    ),
    no_series(THREAD, "name of the thread", "the sample", WrittenBy::Record),
    no_series("pid", "number of the process", "the sample, a number", WrittenBy::Record),
    no_series("tid", "number of the thread", "the sample, a number", WrittenBy::Record),
    no_series(
        "cgroup_id",
        "number of the cgroup in the cgroup v2 hierarchy",
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

/// Returns whether a text label is part of a series.
pub fn is_series(name: &str) -> bool {
    !NON_SERIES.contains(&name)
}

/// Returns whether a name is in the table, so that no static label can have it.
pub fn is_reserved(name: &str) -> bool {
    LABEL_DEFINITIONS.iter().any(|label| label.name == name)
}

impl Labels {
    /// Returns the text of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets a label, with its text cut after [`LABEL_BYTES_MAX`] bytes. An empty text removes it.
    pub fn set(&mut self, name: &str, text: &str) {
        let text = &text[..text.floor_char_boundary(LABEL_BYTES_MAX)];
        if text.is_empty() {
            self.0.remove(name);
        } else {
            self.0.insert(name.to_owned(), text.to_owned());
        }
    }

    /// Returns names and texts in the order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// Returns the bytes of memory that the labels take, approximately.
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

Each sample of a profile has labels. Samples with equal series labels are one **series** in a
profile store. Every sink derives series in this way, so all sinks have the same ones. Numbers are
never part of a series, and neither are the labels about the quality of a stack. `agent` writes no
pid, tid or thread: they would create a series for each process and thread that ever ran.

";

    const CLOSING: &str = "
In addition, a series has the **static labels** of the configuration. Their names must not be in
this table. A label without text is omitted. Text is cut after 1,024 bytes.

The configuration limits the number of series in a window. The series with the fewest samples
beyond that limit are merged into one, which has the label `merged`. In an hour there are at most
eight times as many, or 1,024 if that is more: half of them for one cgroup or pod, or for all
cgroups in the slice of one user together. A new name beyond that is merged into the series of its
cgroup, and a new cgroup beyond that into the series of the machine. The metrics count both.

## Pods and containers

The path of the cgroup is enough; neither a container runtime nor an API server is needed.
`pod_uid` and `container_id` are parsed from the names that the kubelet, containerd, CRI-O, Docker
and Podman give their cgroups, with the cgroupfs or the systemd driver, in hierarchies v1, v2 or
both. The UID of a pod has dashes, as Kubernetes shows it; that of a static pod is the hash of its
file. The ID of a container has 64 hexadecimal digits, as `crictl ps --no-trunc` shows it.

In a container, the agent sees cgroups relative to its own, as in `/../../burstable/pod.../...`. If
the host's `/sys/fs/cgroup` is mounted, the agent locates its own cgroup there and resolves whole
paths. If not, paths begin after the `..`, and UID and ID are parsed from the rest.

A process that exits before its cgroup can be read gets its parent's, unless the kernel reports
that the two differ. If the parent's is unknown too, the process has none of these labels. Both
cases are counted in `everytick_process_labels_total`.
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

    /// `UPDATE_EXPECT=1 ./dev test profile` updates the document.
    #[test]
    fn documentation_matches_the_table() {
        expect_file!["../../docs/labels.md"].assert_eq(&document());
    }

    #[test]
    fn table_agrees_with_the_list_of_non_series_labels() {
        for label in LABEL_DEFINITIONS {
            let is_number = label.source.ends_with("a number");
            assert_eq!(label.is_series, is_series(label.name) && !is_number, "{}", label.name);
        }
        assert!(is_series("team") && !is_reserved("team") && is_reserved(CUT));
    }

    #[test]
    fn omits_empty_text_and_cuts_long_text_between_characters() {
        let mut labels = Labels::from([("a", "x"), ("b", "")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "x")]);
        labels.set("a", &"\u{20ac}".repeat(1000));
        assert_eq!(labels.get("a").map(str::len), Some(1023));
        labels.set("a", "");
        assert_eq!(labels, Labels::default());
    }
}
