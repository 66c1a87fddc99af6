//! What a recording selects, in words: for its profile and for the line that announces it.

use profile::{CaptureContext, Cpu};
use upload::config::units::format_duration;

use super::cli::{RecordArguments, SamplingArguments, VerifyArguments};
use super::filters::format_cpus;
use crate::host::TaskAccess;

/// Longest command line that is shown, in bytes.
const COMMAND_MAX: usize = 200;

/// Describes what is recorded. Filters of one kind are alternatives, and those of different kinds
/// must all match. `access`: what may be sampled, if not everything.
pub(super) fn describe_scope(arguments: &RecordArguments, access: Option<TaskAccess>) -> String {
    let RecordArguments { sampling, cgroups, comms, command, all, .. } = arguments;
    let command = if *all { &[] } else { command.as_slice() };
    let mut filters: Vec<String> = describe_selected(sampling, command).into_iter().collect();
    let cgroups = cgroups.iter().map(|path| path.display().to_string());
    filters.extend(one_of("cgroup", "cgroups", cgroups));
    filters.extend(one_of("name", "names", comms.iter().cloned()));
    let scope = match filters.is_empty() {
        true => CaptureContext::WHOLE_MACHINE.to_owned(),
        false => filters.join(" and "),
    };
    let scope = format!("{scope}{}", describe_cpus(sampling));
    let is_kernel_denied = access.is_some_and(|access| !access.samples_kernel);
    match (arguments.no_kernel || is_kernel_denied, arguments.no_user) {
        (true, _) => format!("{scope}, user code only"),
        (_, true) => format!("{scope}, kernel code only"),
        _ => scope,
    }
}

/// Describes what is verified.
pub(super) fn describe_verified(arguments: &VerifyArguments) -> String {
    let selected = describe_selected(&arguments.sampling, &arguments.command);
    let selected = selected.as_deref().unwrap_or(CaptureContext::WHOLE_MACHINE);
    format!("{selected}{}", describe_cpus(&arguments.sampling))
}

/// Describes until when is recorded.
pub(super) fn describe_end(sampling: &SamplingArguments, command: &[String]) -> String {
    let selected = sampling.pids.len() + sampling.tids.len();
    match (sampling.duration, command.first(), selected) {
        (Some(time), Some(program), _) => {
            format!("for {}, then terminating {program}", format_duration(time))
        }
        (Some(time), None, _) => format!("for {}", format_duration(time)),
        (None, Some(program), _) => format!("until {program} exits"),
        (None, None, 0) => "until Ctrl-C".into(),
        (None, None, 1) => "until it exits".into(),
        (None, None, _) => "until they exit".into(),
    }
}

/// Describes COMMAND, processes and threads, which are one kind of filter; `None` without any.
fn describe_selected(sampling: &SamplingArguments, command: &[String]) -> Option<String> {
    let ids = |ids: &[u32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().into_iter();
    let selected = [
        (!command.is_empty()).then(|| of_command(command)),
        one_of("process", "processes", ids(&sampling.pids)),
        one_of("thread", "threads", ids(&sampling.tids)),
    ];
    let selected: Vec<String> = selected.into_iter().flatten().collect();
    (!selected.is_empty()).then(|| selected.join(", "))
}

fn describe_cpus(sampling: &SamplingArguments) -> String {
    let mut cpus: Vec<Cpu> = sampling.cpus.iter().flat_map(|list| &list.0).copied().collect();
    cpus.sort_unstable();
    cpus.dedup();
    match cpus.len() {
        0 => String::new(),
        1 => format!(" on CPU {}", cpus[0].0),
        _ => format!(" on CPUs {}", format_cpus(cpus)),
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
    use super::*;
    use crate::commands::cli::parse_record;

    fn scope(arguments: &str) -> String {
        describe_scope(&parse_record(arguments), None)
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
        check("-p 7,8 -t 9 -C 2,0-1", "processes 7, 8, thread 9 on CPUs 0-2");
        check("-C 1 --no-user", "the whole machine on CPU 1, kernel code only");
        check("-a --comm x sleep 1", "name x");
        check("-a sleep 1", "the whole machine");
    }

    #[test]
    fn scope_without_capabilities_says_what_is_missing() {
        let arguments = parse_record("-p 7");
        let scope =
            |samples_kernel| describe_scope(&arguments, Some(TaskAccess { samples_kernel }));
        assert_eq!(scope(false), "process 7, user code only");
        assert_eq!(scope(true), "process 7");
    }

    #[test]
    fn end_is_described() {
        let check = |arguments: &str, expected| {
            let arguments = parse_record(arguments);
            assert_eq!(describe_end(&arguments.sampling, &arguments.command), expected);
        };
        check("", "until Ctrl-C");
        check("-d 90", "for 90s");
        check("-d 0.5 make", "for 500ms, then terminating make");
        check("-p 1 make -j8", "until make exits");
        check("-a make", "until make exits");
        check("-t 1", "until it exits");
        check("-p 1 -t 2", "until they exit");
    }

    #[test]
    fn long_command_line_is_cut_at_its_end() {
        let text = scope(&format!("-- cc {}", "\u{f6}".repeat(1_000)));
        assert!(text.starts_with("cc \u{f6}\u{f6}") && text.len() < 250, "{text}");
        assert!(text.ends_with("\u{f6}... and its descendants"), "{text}");
    }
}
