//! Flags of `everytick agent` that set a key: the strongest layer.

use std::path::PathBuf;

use clap::Args;
use upload::config::Input;

use super::error::Origin;
use super::layers::{LayerValue, Layers};
use super::schema;
use super::suggest::advice;

/// Turns off the store.
const OFF: &str = "off";

/// The flags. Each text is a valid value of its key, as it was given.
#[derive(Clone, Debug, Default, Args)]
pub struct Flags {
    /// Read this file instead of /etc/everytick/everytick.toml.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Sets `agent.frequency`.
    #[arg(short = 'F', long, value_name = "HZ")]
    #[arg(help = help("agent.frequency"), value_parser = of_key("agent.frequency"))]
    pub frequency: Option<String>,

    /// Sets `agent.window`.
    #[arg(long, value_name = "DURATION")]
    #[arg(help = help("agent.window"), value_parser = of_key("agent.window"))]
    pub window: Option<String>,

    /// Sets `agent.max_cpu`.
    #[arg(long, value_name = "PERCENT")]
    #[arg(help = help("agent.max_cpu"), value_parser = of_key("agent.max_cpu"))]
    pub max_cpu: Option<String>,

    /// Sets `agent.max_memory`.
    #[arg(long, value_name = "SIZE")]
    #[arg(help = help("agent.max_memory"), value_parser = of_key("agent.max_memory"))]
    pub max_memory: Option<String>,

    /// Sets `agent.node`.
    #[arg(long, value_name = "NAME")]
    #[arg(help = help("agent.node"), value_parser = of_key("agent.node"))]
    pub node: Option<String>,

    /// Sets `agent.listen`.
    #[arg(long, value_name = "ADDRESS")]
    #[arg(help = help("agent.listen"), value_parser = of_key("agent.listen"))]
    pub listen: Option<String>,

    /// Local store directory, used even with sinks; `off` disables it.
    #[arg(long, value_name = "DIR", value_parser = absolute_directory)]
    pub store: Option<String>,

    /// Sets `agent.debuginfod`.
    #[arg(long, value_name = "URLS")]
    #[arg(help = help("agent.debuginfod"), value_parser = of_key("agent.debuginfod"))]
    pub debuginfod: Option<String>,

    /// Sets `agent.symbolize`.
    #[arg(long, value_name = "MODE")]
    #[arg(help = help("agent.symbolize"), value_parser = of_key("agent.symbolize"))]
    pub symbolize: Option<String>,

    /// Sets `log.level`.
    #[arg(long, value_name = "LEVEL")]
    #[arg(help = help("log.level"), value_parser = of_key("log.level"))]
    pub log_level: Option<String>,
}

impl Flags {
    /// Returns each flag, the key that it sets, and the value.
    pub(super) fn values(&self) -> [(&'static str, &'static str, Option<&str>); 11] {
        let directory = self.store.as_deref().filter(|directory| *directory != OFF);
        let enabled =
            self.store.as_deref().map(|_| if directory.is_some() { "true" } else { "false" });
        [
            ("--frequency", "agent.frequency", self.frequency.as_deref()),
            ("--window", "agent.window", self.window.as_deref()),
            ("--max-cpu", "agent.max_cpu", self.max_cpu.as_deref()),
            ("--max-memory", "agent.max_memory", self.max_memory.as_deref()),
            ("--node", "agent.node", self.node.as_deref()),
            ("--listen", "agent.listen", self.listen.as_deref()),
            ("--store", "store.directory", directory),
            ("--store", "store.enabled", enabled),
            ("--debuginfod", "agent.debuginfod", self.debuginfod.as_deref()),
            ("--symbolize", "agent.symbolize", self.symbolize.as_deref()),
            ("--log-level", "log.level", self.log_level.as_deref()),
        ]
    }

    /// Collects the values.
    pub(super) fn collect<'a>(&'a self, layers: &mut Layers<'a>) {
        for (flag, path, text) in self.values() {
            if let (Some((section, key)), Some(text)) = (schema::agent_key(path), text) {
                let value = LayerValue { input: Input::Unquoted(text), origin: Origin::Flag(flag) };
                layers.section(section.name).push(&key.path, value);
            }
        }
    }
}

/// Returns the documentation of a key, as the command line shows it.
fn help(path: &str) -> String {
    let Some((_, key)) = schema::agent_key(path) else { return String::new() };
    let text = format!("{} ({})", key.help.trim_end_matches('.'), key.describe());
    text.replace(['`', '"'], "")
}

/// Validates a text as the value of a key.
fn of_key(path: &'static str) -> impl Fn(&str) -> Result<String, String> + Clone {
    move |text| match schema::agent_key(path).map(|(_, key)| key.parse(&Input::Unquoted(text))) {
        Some(Err(invalid)) => Err(advice(&invalid)),
        _ => Ok(text.to_owned()),
    }
}

/// Resolves a directory against the working directory.
fn absolute_directory(text: &str) -> Result<String, String> {
    if text == OFF {
        return Ok(text.to_owned());
    }
    let path = std::path::absolute(text).map_err(|_| "give the path of a directory, or off")?;
    path.into_os_string().into_string().map_err(|_| "give a path that is UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Flags, String> {
        let command = Flags::augment_args(Command::new("agent").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        Flags::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn every_flag_sets_an_existing_key() {
        let command = Flags::augment_args(Command::new("agent"));
        let mut flags: Vec<String> = Vec::new();
        for (flag, path, _) in Flags::default().values() {
            assert!(schema::agent_key(path).is_some(), "{path}");
            flags.push(flag.to_owned());
        }
        flags.dedup();
        let all = command.get_arguments().filter_map(|argument| argument.get_long());
        let all: Vec<String> = all.map(|name| format!("--{name}")).collect();
        assert_eq!(all[1..], flags, "beside --config");
    }

    #[test]
    fn flags_are_validated_by_their_keys() {
        let check = |arguments: &[&str], expected: &str| {
            let error = parse(arguments).err().unwrap_or_default();
            assert!(error.contains(expected), "{error}");
        };
        check(&["-F", "0"], "for '--frequency <HZ>': give an integer from 1 to 1000");
        check(
            &["--window", "10w"],
            "for '--window <DURATION>': give a number and one of the units",
        );
        check(&["--max-cpu", "200"], "give a number from 0.01 to 100");
        check(&["--listen", "here"], "give an IP address and a port");
        check(&["--log-level", "inf"], "did you mean \"info\"?");
        assert_eq!(parse(&["--window", "10"]).map(|flags| flags.window), Ok(Some("10".into())));
        assert_eq!(parse(&["-F", "99"]).map(|flags| flags.frequency), Ok(Some("99".into())));
    }

    #[test]
    fn the_store_is_relative_to_the_working_directory() {
        let here = std::path::absolute("s").ok();
        let here = here.and_then(|path| path.to_str().map(str::to_owned));
        assert_eq!(parse(&["--store", "s"]).map(|flags| flags.store), Ok(here));
        assert_eq!(parse(&["--store", "off"]).map(|flags| flags.store), Ok(Some("off".into())));
    }
}
