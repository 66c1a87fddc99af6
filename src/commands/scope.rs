//! What a recording selects, in words: for its profile and for the line that announces it.

use profile::CaptureContext;

use super::cli::RecordArguments;

/// Longest command line that is shown, in bytes.
const COMMAND_MAX: usize = 200;

/// Describes what is recorded. Filters of one kind are alternatives, and those of different kinds
/// must all match.
pub(super) fn describe_scope(arguments: &RecordArguments) -> String {
    let RecordArguments { sampling, cgroups, comms, command, .. } = arguments;
    let mut filters = Vec::new();
    let pids = one_of("process", "processes", sampling.pids.iter().map(ToString::to_string));
    match (command.is_empty(), pids) {
        (true, Some(pids)) => filters.push(pids),
        (true, None) => {}
        (false, Some(pids)) => filters.push(format!("{}, {pids}", of_command(command))),
        (false, None) => filters.push(of_command(command)),
    }
    let cgroups = cgroups.iter().map(|path| path.display().to_string());
    filters.extend(one_of("cgroup", "cgroups", cgroups));
    filters.extend(one_of("name", "names", comms.iter().cloned()));
    let scope = match filters.is_empty() {
        true => CaptureContext::WHOLE_MACHINE.to_owned(),
        false => filters.join(" and "),
    };
    match (arguments.no_kernel, arguments.no_user) {
        (true, _) => format!("{scope}, user code only"),
        (_, true) => format!("{scope}, kernel code only"),
        _ => scope,
    }
}

/// Lists alternatives after the name of their kind; `None` without any.
fn one_of(one: &str, many: &str, values: impl Iterator<Item = String>) -> Option<String> {
    let values: Vec<String> = values.collect();
    let kind = if values.len() == 1 { one } else { many };
    (!values.is_empty()).then(|| format!("{kind} {}", values.join(", ")))
}

fn of_command(command: &[String]) -> String {
    let line = command.join(" ");
    let end = line.floor_char_boundary(COMMAND_MAX);
    let more = if end < line.len() { "..." } else { "" };
    format!("{}{more} and its descendants", &line[..end])
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Record {
        #[command(flatten)]
        arguments: RecordArguments,
    }

    fn scope(arguments: &str) -> String {
        let all = ["record"].into_iter().chain(arguments.split_whitespace());
        describe_scope(&Record::parse_from(all).arguments)
    }

    #[test]
    fn scope_names_each_filter() {
        let check = |arguments, expected| assert_eq!(scope(arguments), expected, "{arguments}");
        check("", "the whole machine");
        check("-d 3 --no-kernel", "the whole machine, user code only");
        check("-p 1 -p 2", "processes 1, 2");
        check("-p 7 --comm x --comm y", "process 7 and names x, y");
        check("--cgroup /a --no-user", "cgroup /a, kernel code only");
        check("-- make -j8", "make -j8 and its descendants");
        check("-p 7 -- make", "make and its descendants, process 7");
    }

    #[test]
    fn long_command_line_is_cut_at_its_end() {
        let text = scope(&format!("-- cc {}", "\u{f6}".repeat(1_000)));
        assert!(text.starts_with("cc \u{f6}\u{f6}") && text.len() < 250, "{text}");
        assert!(text.ends_with("\u{f6}... and its descendants"), "{text}");
    }
}
