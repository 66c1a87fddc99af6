//! The functions that used most CPU time: by themselves, and with what they called.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use profile::{Line, MappingKind, Profile, SymbolizedFrame, printable, short_name};

/// Functions in the summary.
pub(super) const TOP: usize = 10;
/// Longest list of arguments of what encloses a function, in characters, if its name is long.
const ARGUMENTS_MAX: usize = 16;
/// Longest name of a function in the summary, in characters.
const NAME_MAX: usize = 80;

/// A function with its samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopFunction {
    /// Its name; of code without a name, where that is.
    pub name: String,
    /// Path of its executable, or a name in brackets.
    pub module: String,
    /// Source file and line with most of its own samples, if known.
    pub place: Option<(String, u32)>,
    /// Samples of the function itself.
    pub own: u64,
    /// Samples of the function and of what it called.
    pub total: u64,
}

/// Identifies a function: its index if it has a name, and its mapping.
type Key = (Option<u32>, u32);

#[derive(Default)]
struct Counts {
    own: u64,
    total: u64,
    lines: HashMap<u32, u64>,
}

/// Returns the functions with most samples of their own, at most [`TOP`].
pub(super) fn top_functions(profile: &Profile) -> Vec<TopFunction> {
    let mut counts: HashMap<Key, Counts> = HashMap::new();
    let modules = modules(profile);
    for sample in &profile.samples {
        let mut seen = HashSet::new();
        let frames = profile.frames_of(sample);
        let functions = frames.flat_map(|frame| functions_of(frame, &modules));
        for (depth, (key, line)) in functions.enumerate() {
            let of_function = counts.entry(key).or_default();
            if depth == 0 {
                of_function.own += sample.count;
                *of_function.lines.entry(line).or_default() += sample.count;
            }
            if seen.insert(key) {
                of_function.total += sample.count;
            }
        }
    }
    let mut counts: Vec<(Key, Counts)> = counts.into_iter().collect();
    counts.retain(|(_, counts)| counts.own > 0);
    counts.sort_by_key(|(key, counts)| (u64::MAX - counts.own, u64::MAX - counts.total, *key));
    counts.truncate(TOP);
    counts.into_iter().map(|(key, counts)| describe(profile, key, &counts)).collect()
}

/// Returns for each mapping the first one of the same name: a program that runs as two files, or
/// two areas of a JIT compiler, are one module.
fn modules(profile: &Profile) -> Vec<u32> {
    let mut first: HashMap<&str, u32> = HashMap::new();
    let mappings = profile.mappings.iter().zip(0..);
    mappings.map(|(mapping, index)| *first.entry(&mapping.name).or_insert(index)).collect()
}

/// Returns the functions of a frame, the innermost inlined one first, and their lines.
fn functions_of(frame: &SymbolizedFrame, modules: &[u32]) -> Vec<(Key, u32)> {
    let mapping = modules[frame.mapping as usize];
    if frame.lines.is_empty() {
        return vec![((None, mapping), 0)];
    }
    let of_line = |Line { function, line }: &Line| ((Some(*function), mapping), *line);
    frame.lines.iter().map(of_line).collect()
}

fn describe(profile: &Profile, (function, mapping): Key, counts: &Counts) -> TopFunction {
    let Counts { own, total, lines } = counts;
    let mapping = &profile.mappings[mapping as usize];
    let module = mapping.name.clone();
    let Some(function) = function.map(|index| &profile.functions[index as usize]) else {
        let name = match mapping.kind {
            MappingKind::Memory => "[code of a JIT compiler]".into(),
            MappingKind::Interpreted(language) => {
                format!("[{} functions without a name]", language.name())
            }
            MappingKind::Unknown => "[unknown code]".into(),
            _ => "[functions without a name]".into(),
        };
        return TopFunction { name, module, place: None, own: *own, total: *total };
    };
    let line =
        lines.iter().filter(|(line, _)| **line > 0).max_by_key(|(line, own)| (**own, **line));
    let place = line.filter(|_| !function.file.is_empty());
    TopFunction {
        name: function.name.clone(),
        module,
        place: place.map(|(line, _)| (function.file.clone(), *line)),
        own: *own,
        total: *total,
    }
}

/// Formats functions as a table. `samples`: of the whole profile.
pub(super) fn table(functions: &[TopFunction], samples: u64) -> String {
    let mut text = String::new();
    if functions.is_empty() {
        return text;
    }
    let percent = |count: u64| 100.0 * count as f64 / samples.max(1) as f64;
    text.push_str("      self    total  function\n");
    for function in functions {
        let TopFunction { name, module, place, own, total } = function;
        let (own, total, name) = (percent(*own), percent(*total), shorten(name));
        let module = base_name(module);
        let place = place.as_ref().map_or(String::new(), |(file, line)| {
            format!("  {}:{line}", printable(base_name(file)))
        });
        let (name, module) = (printable(&name), printable(module));
        let _ = writeln!(text, "  {own:6.1} % {total:6.1} %  {name} ({module}){place}");
    }
    text
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Cuts the arguments of what encloses the function short if its name is long, and the name at its
/// end if it is long even so.
fn shorten(name: &str) -> String {
    let cut_at = |name: &str| name.char_indices().nth(NAME_MAX).map(|(end, _)| end);
    if cut_at(name).is_none() {
        return name.to_owned();
    }
    let short = short_name(name, ARGUMENTS_MAX, "...");
    match cut_at(&short) {
        Some(end) => format!("{}...", &short[..end]),
        None => short,
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::profile;
    use super::*;

    #[test]
    fn a_function_has_its_own_samples_and_those_of_what_it_calls() {
        // main calls work, which calls itself; code of a JIT compiler has no name.
        let profile =
            profile(&[(&["main"], 1), (&["main", "work", "work"], 6), (&["main", "?"], 3)]);
        let found: Vec<(String, u64, u64)> = top_functions(&profile)
            .into_iter()
            .map(|function| (function.name, function.own, function.total))
            .collect();
        let expected = [("work", 6, 6), ("[code of a JIT compiler]", 3, 3), ("main", 1, 10)];
        let expected = expected.map(|(name, own, total)| (name.to_owned(), own, total));
        assert_eq!(found, expected);
    }

    #[test]
    fn python_functions_have_their_file_and_the_line_with_most_samples() {
        let mut profile = profile(&[(&["run", "work"], 1), (&["run", "work"], 3), (&["?"], 1)]);
        for (name, mapping) in [("[python]", 0), ("[python]", 1)] {
            let kind = MappingKind::of_name(name);
            profile.mappings[mapping] = profile::Mapping::new(name, None, kind);
        }
        profile.functions[0].file = "/srv/app.py".into();
        let work = profile.stacks[1][0] as usize;
        profile.frames[work].lines[0].line = 12;
        let text = table(&top_functions(&profile), 5);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let expected = [
            "    80.0 %   80.0 %  work ([python])  app.py:12",
            "    20.0 %   20.0 %  [Python functions without a name] ([python])",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn table_has_the_head_of_long_names_and_no_control_characters() {
        let long = format!("std::vector<{}>", "\u{1b}[2J, ".repeat(500_000));
        let profile = profile(&[(&[&long], 1)]);
        let text = table(&top_functions(&profile), 1);
        assert!(text.contains("100.0 %  100.0 %  std::vector<\\u{1b}[2J"), "{text}");
        assert!(text.contains("... (program)  code.c:7"), "{text}");
        assert!(text.len() < 1000 && !text.contains('\u{1b}'), "{text}");
        assert_eq!(table(&[], 0), "");
    }

    #[test]
    fn method_is_read_behind_long_template_arguments() {
        let arguments = "std::pair<int const, std::string>, ".repeat(9);
        let find = format!("std::_Rb_tree<{arguments}std::less<int>>::find(int const&)");
        let text = table(&top_functions(&profile(&[(&[&find], 1)])), 1);
        assert!(
            text.contains(" std::_Rb_tree<std::pair<int co...>::find(int const&) (program)"),
            "{text}"
        );
    }

    #[test]
    fn the_first_functions_are_those_with_most_samples() {
        let names: Vec<String> = (0..100).map(|number| format!("f{number}")).collect();
        let stacks: Vec<[&str; 1]> = names.iter().map(|name| [name.as_str()]).collect();
        let samples: Vec<(&[&str], u64)> =
            stacks.iter().zip(1..).map(|(stack, count)| (stack.as_slice(), count)).collect();
        let found = top_functions(&profile(&samples));
        assert_eq!(found.len(), TOP);
        assert_eq!((found[0].name.as_str(), found[9].name.as_str()), ("f99", "f90"));
    }
}
