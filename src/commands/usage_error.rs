//! Errors of the command line: tips for options of other profilers, and none that mislead.

use clap::Error;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Options that other profilers have, and what to use here.
const ELSEWHERE: [(&[&str], &str); 8] = [
    (&["-c", "--count"], "the clock is set by its frequency: use -F HZ"),
    (&["-G"], "to select a cgroup use --cgroup PATH"),
    (&["-m", "--mmap-pages"], "to set the size of the ring buffer use --ring-size SIZE"),
    (&["-r", "--rate"], "to set the sampling frequency use -F HZ"),
    (&["-s", "--subprocesses"], "child processes of COMMAND are always recorded"),
    (&["-f", "--format"], "the extension of -o FILE selects the format"),
    (&["-u", "--uid"], "processes are selected by -p, --comm or --cgroup"),
    (&["-i", "--no-inherit"], "threads and child processes of COMMAND are always recorded"),
];

/// Replaces the tip after an unknown option. That of clap is to put it behind `--`, which would run
/// a command of that name. `has_subcommand`: the option is after one.
pub(super) fn explain(mut error: Error, has_subcommand: bool) -> Error {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let option = option.clone();
    error.remove(ContextKind::Suggested);
    let tip = match has_subcommand {
        true => ELSEWHERE.iter().find(|(names, _)| names.contains(&option.as_str())),
        false => None,
    };
    let tip = tip.map(|(_, tip)| (*tip).to_owned());
    let tip =
        tip.or_else(|| (!has_subcommand).then(|| format!("use it as `everytick record {option}`")));
    if let Some(tip) = tip {
        let tips = ContextValue::StyledStrs(vec![StyledStr::from(tip)]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::cli::Cli;
    use super::*;

    fn message(arguments: &[&str], has_subcommand: bool) -> String {
        let error = Cli::try_parse_from([&["everytick"], arguments].concat()).err();
        error.map(|error| explain(error, has_subcommand).to_string()).unwrap_or_default()
    }

    #[test]
    fn unknown_option_is_not_suggested_as_a_command() {
        for (arguments, tip) in [
            (["record", "-z"].as_slice(), ""),
            (&["record", "-c", "1"], "tip: the clock is set by its frequency: use -F HZ"),
            (&["record", "--frequncy", "9"], "tip: a similar argument exists: '--frequency'"),
        ] {
            let text = message(arguments, true);
            assert!(text.contains("unexpected argument"), "{text}");
            assert!(text.contains(tip) && !text.contains("'-- "), "{text}");
        }
        let text = message(&["-p", "1"], false);
        assert!(text.contains("tip: use it as `everytick record -p`"), "{text}");
    }
}
