//! Flags of `everytick agent` that set a key: the strongest layer.

use std::path::PathBuf;

use clap::Args;

use super::error::Origin;
use super::given::Raw;
use super::kind::OFF;
use super::layers::{Entry, Layers};
use super::schema;

/// What the command line sets. Each text was checked as its key's, and is as it was given.
#[derive(Clone, Debug, Default, Args)]
pub struct Flags {
    /// Read this file, not /etc/everytick/everytick.toml.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Samples a second on each CPU.
    #[arg(short = 'F', long, value_name = "HZ", value_parser = of_key("agent.frequency"))]
    pub frequency: Option<String>,

    /// Time that one profile covers, as in 10s or 1m.
    #[arg(long, value_name = "DURATION", value_parser = of_key("agent.window"))]
    pub window: Option<String>,

    /// Per cent of the machine's CPU time that everytick may take.
    #[arg(long, value_name = "PERCENT", value_parser = of_key("agent.max_cpu"))]
    pub max_cpu: Option<String>,

    /// Memory that everytick may take, as in 256MiB.
    #[arg(long, value_name = "SIZE", value_parser = of_key("agent.max_memory"))]
    pub max_memory: Option<String>,

    /// Name of this machine, the label `node` of each profile.
    #[arg(long, value_name = "NAME", value_parser = of_key("agent.node"))]
    pub node: Option<String>,

    /// Where /healthz, /readyz and /metrics are served, as in 127.0.0.1:7171, or `off`.
    #[arg(long, value_name = "ADDRESS", value_parser = of_key("agent.listen"))]
    pub listen: Option<String>,

    /// Keep profiles in this directory, even if there are sinks, or `off`.
    #[arg(long, value_name = "DIR", value_parser = directory)]
    pub store: Option<String>,

    /// The least important lines that are told: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", value_parser = of_key("log.level"))]
    pub log_level: Option<String>,
}

impl Flags {
    /// Gives each flag, the key that it sets, and to what.
    pub(super) fn given(&self) -> [(&'static str, &'static str, Option<&str>); 9] {
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
            ("--log-level", "log.level", self.log_level.as_deref()),
        ]
    }

    /// Sets what they say.
    pub(super) fn collect<'a>(&'a self, layers: &mut Layers<'a>) {
        for (flag, path, text) in self.given() {
            if let (Some(key), Some(text)) = (schema::find(path), text) {
                layers.set(key, Entry { raw: Raw::Text(text), origin: Origin::Flag(flag) });
            }
        }
    }
}

/// Checks a text as the value of a key.
fn of_key(path: &'static str) -> impl Fn(&str) -> Result<String, String> + Clone {
    move |text| match schema::find(path).map(|key| key.kind.read(Raw::Text(text))) {
        Some(Err(bad)) => Err(bad.give),
        _ => Ok(text.to_owned()),
    }
}

/// Takes a directory as a person names it, from where they are.
fn directory(text: &str) -> Result<String, String> {
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
    fn every_flag_sets_a_key_that_there_is() -> Result<(), String> {
        let command = Flags::augment_args(Command::new("agent"));
        let mut flags: Vec<String> = Vec::new();
        for (flag, path, _) in Flags::default().given() {
            assert!(schema::find(path).is_some(), "{path}");
            flags.push(flag.to_owned());
        }
        flags.dedup();
        let all = command.get_arguments().filter_map(|argument| argument.get_long());
        let all: Vec<String> = all.map(|name| format!("--{name}")).collect();
        assert_eq!(all[1..], flags, "beside --config");
        Ok(())
    }

    #[test]
    fn flags_are_checked_as_their_keys() {
        let check = |arguments: &[&str], expected: &str| {
            let error = parse(arguments).err().unwrap_or_default();
            assert!(error.contains(expected), "{error}");
        };
        check(&["-F", "0"], "for '--frequency <HZ>': give a whole number from 1 to 1000");
        check(&["--window", "10"], "for '--window <DURATION>': add a unit, as in \"10s\"");
        check(&["--max-cpu", "200"], "give a number from 0.01 to 100");
        check(&["--listen", "here"], "give an IP address and a port");
        check(&["--log-level", "inf"], "did you mean \"info\"?");
        assert_eq!(parse(&["-F", "99"]).map(|flags| flags.frequency), Ok(Some("99".into())));
    }

    #[test]
    fn a_store_is_found_from_where_the_person_is() {
        let here = std::path::absolute("s").ok();
        let here = here.and_then(|path| path.to_str().map(str::to_owned));
        assert_eq!(parse(&["--store", "s"]).map(|flags| flags.store), Ok(here));
        assert_eq!(parse(&["--store", "off"]).map(|flags| flags.store), Ok(Some("off".into())));
    }
}
