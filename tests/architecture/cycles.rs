//! No two modules use each other, directly or by way of others.
//!
//! The modules of one folder form a graph, with everything below a module counted as that module,
//! and with the folder's own file (`mod.rs`, `lib.rs`) as one more node. A `pub use` in the
//! folder's own file is no edge: a facade names what it re-exports, and uses it for nothing. Only
//! the modules `proto` are exempt: messages and their parts refer to each other in the wire format.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::modules::{Crate, Use};
use super::{CRATES, assert_none};

/// A node of a folder's graph: a child, or `None` for the folder's own file.
type Node = Option<String>;

/// A folder's graph: for each node the nodes that it uses, each with one place of use.
#[derive(Default)]
struct Graph(BTreeMap<Node, BTreeMap<Node, String>>);

impl Graph {
    /// Returns the shortest way from a node back to itself, as the uses along it.
    fn cycle_through(&self, start: &Node) -> Option<Vec<&str>> {
        let mut pending = VecDeque::from([(start, Vec::new())]);
        let mut seen = BTreeSet::new();
        while let Some((node, way)) = pending.pop_front() {
            for (next, at) in self.0.get(node).into_iter().flatten() {
                let way = [&way[..], &[at.as_str()]].concat();
                if next == start {
                    return Some(way);
                }
                if seen.insert(next) {
                    pending.push_back((next, way));
                }
            }
        }
        None
    }

    /// Returns one cycle for each group of nodes that use each other.
    fn cycles(&self) -> Vec<Vec<&str>> {
        let mut cycles: Vec<Vec<&str>> =
            self.0.keys().filter_map(|node| self.cycle_through(node)).collect();
        cycles.sort_by_key(|cycle| {
            let mut sorted = cycle.clone();
            sorted.sort_unstable();
            sorted
        });
        cycles.dedup_by_key(|cycle| {
            cycle.sort_unstable();
            cycle.clone()
        });
        cycles
    }
}

/// Sorts the uses of a crate into the graphs of its folders.
fn folders(uses: BTreeSet<Use>) -> BTreeMap<Vec<String>, Graph> {
    let mut folders: BTreeMap<Vec<String>, Graph> = BTreeMap::new();
    for Use { from, to, at, is_reexport } in uses {
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        let (a, b) = (from.get(common).cloned(), to.get(common).cloned());
        if a.is_none() && is_reexport {
            continue;
        }
        let graph = folders.entry(from[..common].to_vec()).or_default();
        graph.0.entry(a).or_default().entry(b).or_insert(at);
    }
    folders
}

#[test]
fn no_modules_use_each_other() {
    let mut problems = Vec::new();
    for directory in CRATES {
        for (folder, graph) in folders(Crate::read(directory).uses()) {
            let is_wire_format = folder.last().is_some_and(|module| module == "proto");
            if !is_wire_format {
                problems.extend(graph.cycles().into_iter().map(|cycle| cycle.join("\n      ")));
            }
        }
    }
    assert_none(&problems, "modules use each other; move what they share below both:");
}
