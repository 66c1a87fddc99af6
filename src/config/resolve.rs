//! Resolution: one value for each key from all layers, the strongest or the default.

use upload::config::units::format_bytes;
use upload::config::{Config, Key, KeyType, Value};

use super::error::{Origin, Problem, Problems};
use super::layers::{Layers, SectionLayers};
use super::resolved::{self, ResolvedSection, ResolvedValue};
use super::schema::{SECTIONS, Section};
use super::sections::{AgentSection, default_memory};
use super::sink::SinkResolver;
use crate::host::{CgroupLimit, agent_memory};

/// Sinks of one agent.
pub(super) const SINKS_MAX: usize = 16;

/// Facts of this machine, from which some defaults are computed.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// Name of the machine and its source.
    pub node: (String, Origin),
    /// Variables of OpenTelemetry.
    pub otel: Vec<(String, String)>,
    /// The limit of the memory cgroup.
    pub memory_limit: Option<CgroupLimit<u64>>,
}

/// Resolves all sections.
pub(super) fn resolve(
    layers: &Layers<'_>,
    machine: &Machine,
    problems: &mut Problems,
) -> Vec<ResolvedSection> {
    let mut sections: Vec<ResolvedSection> = SECTIONS
        .iter()
        .map(|section| resolve_section(section, layers, machine, problems))
        .collect();
    if let Some(agent) = sections.iter().find(|section| section.name == "agent") {
        agent.report(AgentSection::from_values(&agent.values()).conflicts(), problems);
    }
    let count = layers.sinks.len();
    if count > SINKS_MAX {
        let last = layers.sinks.values().next_back().and_then(|sink| sink.at.clone());
        let text =
            format!("there are {count} sinks; remove some, because {SINKS_MAX} is the maximum");
        problems.push(Problem::at(last.unwrap_or(Origin::Default), text));
        return sections;
    }
    for (name, values) in &layers.sinks {
        let sink = SinkResolver { name, layers: values, text: layers.text, otel: &machine.otel };
        sections.extend(sink.resolve(problems));
    }
    report_shared_directories(&sections, problems);
    sections
}

fn resolve_section(
    section: &'static Section,
    layers: &Layers<'_>,
    machine: &Machine,
    problems: &mut Problems,
) -> ResolvedSection {
    let none = SectionLayers::default();
    let set = layers.sections.get(section.name).unwrap_or(&none);
    let resolve = |key: &'static Key| {
        resolved::strongest(key, section.name, set.get(&key.path), layers.text, problems)
            .or_else(|| computed(section, key, layers, machine))
            .or_else(|| resolved::default(key))
    };
    ResolvedSection {
        name: section.name.to_owned(),
        values: section.keys.iter().filter_map(resolve).collect(),
    }
}

/// Computes the value of a key that is not set, if it depends on other settings or on the machine.
fn computed(
    section: &Section,
    key: &'static Key,
    layers: &Layers<'_>,
    machine: &Machine,
) -> Option<ResolvedValue> {
    let (value, origin) = match (section.name, key.path.as_str()) {
        ("agent", "node") => {
            let (node, origin) = machine.node.clone();
            (Value::Text(node), origin)
        }
        ("agent", "max_memory") => {
            let (memory, origin) = memory(machine.memory_limit.as_ref());
            (Value::Integer(memory), origin)
        }
        ("store", "enabled") => (Value::Bool(layers.sinks.is_empty()), Origin::Default),
        _ => return None,
    };
    Some(ResolvedValue { key, value, origin })
}

/// Returns the memory that the agent may use by default.
fn memory(limit: Option<&CgroupLimit<u64>>) -> (u64, Origin) {
    let memory = default_memory(limit.map(|limit| limit.value));
    let Some(limit) = limit.filter(|limit| agent_memory(limit.value) <= memory) else {
        return (memory, Origin::Default);
    };
    let (bytes, file) = (format_bytes(limit.value), limit.file.display());
    (memory, Origin::Machine(format!("75 % of the memory limit {bytes} of {file}")))
}

/// Each bounded directory is cleaned up by its owner, which would delete the files of another one.
fn report_shared_directories(sections: &[ResolvedSection], problems: &mut Problems) {
    let mut seen: Vec<(String, &str, &ResolvedValue)> = Vec::new();
    for section in sections.iter().filter(|section| !section.is_disabled()) {
        for value in &section.values {
            let (KeyType::Directory, Value::Text(directory)) = (&value.key.key_type, &value.value)
            else {
                continue;
            };
            let directory = directory.trim_end_matches('/');
            let path = format!("{}.{}", section.name, value.key.path);
            if let Some((other, _, earlier)) = seen.iter().find(|(_, seen, _)| *seen == directory) {
                let set = [value, *earlier].into_iter().find(|v| v.origin != Origin::Default);
                let at = set.map_or(Origin::Default, |value| value.origin.clone());
                let text =
                    format!("`{path}` and `{other}` are the same directory; give each its own");
                problems.push(Problem::at(at, text));
            }
            seen.push((path, directory, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_part_of_the_cgroups_limit() {
        let check = |limit_mib: u64, expected_mib: u64, origin: &str| {
            let file = "/sys/fs/cgroup/memory.max".into();
            let limit = CgroupLimit { value: limit_mib << 20, file };
            let (memory, found) = memory(Some(&limit));
            assert_eq!((memory >> 20, found.to_string().as_str()), (expected_mib, origin));
        };
        check(320, 240, "75 % of the memory limit 320MiB of /sys/fs/cgroup/memory.max");
        check(4096, 256, "default");
        assert_eq!(memory(None), (256 << 20, Origin::Default));
    }
}
