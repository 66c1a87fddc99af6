//! A message as viewers of files show it: every frame has a name, few comments come first, and
//! several processes are not called by the name of one library.

use std::collections::{HashMap, HashSet};

use super::proto;
use super::string_table::StringTable;
use crate::labels::COMM;
use crate::symbolized::{path_of, unnamed};
use crate::{MappingKind, printable};

/// Starts a comment that `go tool pprof` shows on demand only, by `-comments`.
///
/// Source: `ProfileLabels` in pprof's `internal/report`.
pub(super) const DETAIL: &str = "# ";

/// How comments begin that are details.
const DETAILS: [&str; 10] = [
    "everytick ",
    "user stacks ",
    "kernel stacks ",
    "guessed ",
    "names ",
    "origin ",
    "budget: ",
    "due ",
    "ticks ",
    "emitted ",
];

/// Name of the mapping that represents several programs. Viewers take the first mapping for the
/// program, and do not search for files whose name is in brackets.
const SEVERAL: &str = "[several processes]";

/// Returns the message for a file that people open.
///
/// - A location without a function gets one, called by its file and address: viewers show nothing
///   else of it, or omit it. Its address remains, so that `pprof -symbolize=force` can find more.
/// - The first mapping is the executable of the one process, or a name for it or for several.
/// - Details among the comments begin with `#`.
/// - Characters that control a terminal are escaped: viewers print names as they are.
///
/// Messages for servers stay as they are: Parca and Pyroscope symbolize only locations without a
/// function.
pub fn for_viewers(message: &proto::Profile) -> proto::Profile {
    let mut strings = StringTable::new();
    // Indices stay: the table has each string once, in its order, unless the message is foreign.
    let is_own = message.string_table.iter().zip(0..).all(|(text, at)| strings.intern(text) == at);
    if !is_own {
        return message.clone();
    }
    let mut message = message.clone();
    name_locations(&mut message, &mut strings);
    let process = only_process(&message, &strings);
    let program = process.as_ref().and_then(|_| program(&message, &strings));
    let first = match program {
        Some(index) => message.mapping.remove(index),
        None => proto::Mapping {
            filename: strings.intern(process.as_deref().unwrap_or(SEVERAL)),
            has_functions: true,
            ..proto::Mapping::default()
        },
    };
    message.mapping.insert(0, first);
    number_mappings(&mut message);
    for comment in &mut message.comment {
        let text = strings.get(*comment);
        if DETAILS.iter().any(|detail| text.starts_with(detail)) {
            let text = [DETAIL, text].concat();
            *comment = strings.intern(&text);
        }
    }
    message.string_table = strings.into_table();
    for text in &mut message.string_table {
        *text = printable(text).into_owned();
    }
    message
}

/// Returns a comment without the mark of details.
pub(super) fn comment_text(comment: &str) -> &str {
    comment.strip_prefix(DETAIL).unwrap_or(comment)
}

fn name_locations(message: &mut proto::Profile, strings: &mut StringTable) {
    let file_of: HashMap<u64, i64> =
        message.mapping.iter().map(|mapping| (mapping.id, mapping.filename)).collect();
    let mut next_id = message.function.iter().map(|function| function.id).max().unwrap_or(0) + 1;
    let mut functions: HashMap<i64, u64> = HashMap::new();
    for location in message.location.iter_mut().filter(|location| location.line.is_empty()) {
        let path = file_of.get(&location.mapping_id).map_or("", |file| strings.get(*file));
        let file = match path.rsplit('/').next() {
            Some(file) if !file.is_empty() => file,
            _ => "[unknown]",
        };
        let name = unnamed(file, MappingKind::of_name(path), location.address);
        let name = strings.intern(&name);
        let function_id = *functions.entry(name).or_insert_with(|| {
            let id = next_id;
            next_id += 1;
            message.function.push(proto::Function { id, name, ..proto::Function::default() });
            id
        });
        location.line.push(proto::Line { function_id, line: 0 });
    }
}

/// Returns the name of the process in brackets, if there is only one.
fn only_process(message: &proto::Profile, strings: &StringTable) -> Option<String> {
    let labels = || message.sample.iter().flat_map(|sample| &sample.label);
    let values = |name| {
        let of_name = labels().filter(move |label| strings.get(label.key) == name);
        of_name.map(|label| (label.num, label.str)).collect::<HashSet<_>>()
    };
    let (pids, names) = (values("pid"), values(COMM));
    let processes = if pids.is_empty() { &names } else { &pids };
    let name = names.iter().next().map_or("process", |(_, name)| strings.get(*name));
    (processes.len() == 1).then(|| format!("[{name}]"))
}

/// Returns the index of the first mapping that is a program; that of an interpreter's machinery
/// only if there is no other.
fn program(message: &proto::Profile, strings: &StringTable) -> Option<usize> {
    let mut names = message.mapping.iter().map(|mapping| strings.get(mapping.filename));
    let is_machinery = |name: &str| MappingKind::of_name(name) == MappingKind::Interpreter;
    let others = names.clone().position(|name| is_program(name) && !is_machinery(name));
    others.or_else(|| names.position(is_program))
}

/// Whether a mapping is of a program rather than of a library or memory, by its name.
fn is_program(name: &str) -> bool {
    let path = path_of(name);
    let file = path.rsplit('/').next().unwrap_or_default();
    path.starts_with('/')
        && !path.starts_with("//")
        && !file.ends_with(".so")
        && !file.contains(".so.")
}

/// Numbers mappings from 1 in their order, as readers expect.
fn number_mappings(message: &mut proto::Profile) {
    let mut id_of = HashMap::from([(0, 0)]);
    for (mapping, id) in message.mapping.iter_mut().zip(1..) {
        if mapping.id != 0 {
            id_of.insert(mapping.id, id);
        }
        mapping.id = id;
    }
    for location in &mut message.location {
        location.mapping_id = id_of.get(&location.mapping_id).copied().unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pprof::{SampleGrouping, decode, to_message};
    use crate::{
        FileAddr, Function, Line, Mapping, MappingKind, Pid, Profile, SampleCount, SampleKey,
        StackEnd, StackId, SymbolizedFrame, Task, TaskId, Tid,
    };

    /// Returns a profile with a frame in each of these files, of processes with these numbers.
    fn profile(files: &[&str], pids: &[u32]) -> Profile {
        let mapping = |name: &&str| Mapping {
            name: (*name).to_owned(),
            build_id: None,
            kind: MappingKind::of_name(name),
        };
        let task = |pid: &u32| Task {
            pid: Pid(*pid),
            tid: Tid(*pid),
            comm: "p".into(),
            thread: "t".into(),
            cgroup_id: 0,
            labels: Default::default(),
        };
        let key = |task| SampleKey {
            task: TaskId(task),
            stack: StackId(0),
            kernel_end: StackEnd::Absent,
            user_end: StackEnd::Complete,
            guessed: false,
        };
        let named = vec![Line { function: 0, line: 3 }];
        let frame = |mapping: u32| SymbolizedFrame {
            mapping,
            address: FileAddr(0x1234),
            lines: if mapping == 0 { named.clone() } else { Vec::new() },
        };
        let count = files.len() as u32;
        Profile {
            period_ns: 10,
            mappings: files.iter().map(mapping).collect(),
            functions: vec![Function { name: "f".into(), ..Function::default() }],
            frames: (0..count).map(frame).collect(),
            stacks: vec![(0..count).collect()],
            tasks: pids.iter().map(task).collect(),
            samples: (0..pids.len() as u32)
                .map(|t| SampleCount { key: key(t), count: 1 })
                .collect(),
            comments: vec!["everytick 1".into(), "host h".into()],
            ..Profile::default()
        }
    }

    fn shown(files: &[&str], pids: &[u32]) -> proto::Profile {
        let message = for_viewers(&to_message(&profile(files, pids), SampleGrouping::ByThread));
        decode(&crate::pprof::compress(&message), 1 << 20).expect("a valid message")
    }

    fn text(message: &proto::Profile, index: i64) -> &str {
        &message.string_table[index as usize]
    }

    #[test]
    fn every_location_has_a_name_and_keeps_its_address() {
        let message = shown(&["/lib/libc.so.6", "/usr/bin/app", "[kernel.kallsyms]"], &[1]);
        let name = |location: &proto::Location| {
            assert_eq!(location.address, 0x1234);
            let id = location.line[0].function_id;
            let function = message.function.iter().find(|f| f.id == id).expect("a function");
            text(&message, function.name).to_owned()
        };
        let names: Vec<String> = message.location.iter().map(name).collect();
        assert_eq!(names, ["f", "app+0x1234", "[kernel.kallsyms]+0x1234"]);
        let file = |location: &proto::Location| {
            let mapping = &message.mapping[location.mapping_id as usize - 1];
            text(&message, mapping.filename).to_owned()
        };
        let files: Vec<String> = message.location.iter().map(file).collect();
        assert_eq!(files, ["/lib/libc.so.6", "/usr/bin/app", "[kernel.kallsyms]"]);
    }

    #[test]
    fn first_mapping_is_the_program_or_stands_for_several() {
        let first = |files: &[&str], pids: &[u32]| {
            let message = shown(files, pids);
            assert!(message.mapping.iter().zip(1..).all(|(mapping, id)| mapping.id == id));
            text(&message, message.mapping[0].filename).to_owned()
        };
        assert_eq!(first(&["/lib/libc.so.6", "/usr/bin/app"], &[1]), "/usr/bin/app");
        assert_eq!(first(&["/lib/libc.so.6", "/usr/bin/app"], &[1, 2]), SEVERAL);
        assert_eq!(first(&["/lib/libc.so.6"], &[1]), "[p]", "the program is unknown");
        assert_eq!(first(&["/lib/libpython3.so", "//anon"], &[1]), "[p]");
        let machinery = "/bin/python3 [interpreter]";
        assert_eq!(first(&["[python]", machinery, "/bin/python3"], &[1]), "/bin/python3");
        assert_eq!(first(&["[python]", machinery], &[1]), machinery);
        assert_eq!(first(&["[python]", "/lib/libpython3.so [interpreter]"], &[1]), "[p]");
    }

    #[test]
    fn details_among_comments_are_marked() {
        let message = shown(&["/usr/bin/app"], &[1]);
        let comments: Vec<&str> = message.comment.iter().map(|at| text(&message, *at)).collect();
        assert_eq!(comments[..2], ["# everytick 1", "host h"]);
        assert!(comments[2..].iter().all(|line| line.starts_with(DETAIL)), "{comments:?}");
    }
}
