//! The servers that are asked, as they are configured.

use upload::config::check_url;

/// Value that selects the servers of [`VARIABLE`].
const FROM_ENVIRONMENT: &str = "env";
/// Names servers for all programs that use debuginfod, separated by spaces.
const VARIABLE: &str = "DEBUGINFOD_URLS";
/// Most servers: each is asked for each build ID that those before do not have.
const SERVERS_MAX: usize = 8;

/// Addresses of servers, in the order in which they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerList(Vec<String>);

/// Why a list of servers cannot be used, with the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerListError {
    /// An address is malformed.
    #[error("not an address of a debuginfod server; {0}")]
    Address(String),
    /// There are too many servers.
    #[error("more than {SERVERS_MAX} servers; leave some out")]
    TooMany,
    /// The list is empty.
    #[error("no server; give an address such as \"https://debuginfod.example\", or \"env\"")]
    Empty,
    /// The variable has no address.
    #[error(
        "`env` stands for the servers of $DEBUGINFOD_URLS, which has no http:// or https:// \
         address; set it, or give an address"
    )]
    NoVariable,
}

impl ServerList {
    /// Parses addresses separated by commas, or `env` for those of `$DEBUGINFOD_URLS`.
    ///
    /// # Errors
    /// [`ServerListError`] with what to give instead.
    pub fn parse(text: &str) -> Result<Self, ServerListError> {
        Self::parse_with(text, || std::env::var(VARIABLE).ok())
    }

    /// Checks a text without reading the environment.
    ///
    /// # Errors
    /// See [`ServerList::parse`].
    pub fn check(text: &str) -> Result<(), ServerListError> {
        Self::parse_with(text, || Some("https://debuginfod.example".into())).map(drop)
    }

    fn parse_with(
        text: &str,
        variable: impl FnOnce() -> Option<String>,
    ) -> Result<Self, ServerListError> {
        let servers: Vec<String> = match text.trim() {
            FROM_ENVIRONMENT => {
                // The variable has words that are no server, such as `ima:enforcing`.
                let variable = variable().unwrap_or_default();
                let is_web =
                    |word: &&str| ["http://", "https://"].iter().any(|s| word.starts_with(s));
                variable.split_whitespace().filter(is_web).map(str::to_owned).collect()
            }
            text => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                parts.map(str::to_owned).collect()
            }
        };
        match servers.len() {
            0 if text.trim() == FROM_ENVIRONMENT => return Err(ServerListError::NoVariable),
            0 => return Err(ServerListError::Empty),
            1..=SERVERS_MAX => {}
            _ => return Err(ServerListError::TooMany),
        }
        let malformed = servers.iter().find_map(|server| check_url(server).err());
        match malformed {
            // Credentials in an address would be shown.
            Some(_) if servers.iter().any(|server| server.contains('@')) => {
                let advice = "remove the credentials: requests carry none";
                Err(ServerListError::Address(advice.into()))
            }
            Some(advice) => Err(ServerListError::Address(advice)),
            None => Ok(Self(servers)),
        }
    }

    /// Returns the addresses.
    pub(super) fn addresses(&self) -> &[String] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, variable: &str) -> Result<Vec<String>, String> {
        let list = ServerList::parse_with(text, || Some(variable.to_owned()));
        list.map(|list| list.0).map_err(|error| error.to_string())
    }

    #[test]
    fn servers_are_separated_by_commas_or_those_of_the_variable() {
        let both = ["http://a:8002".to_owned(), "https://b/path/".to_owned()];
        assert_eq!(parse("http://a:8002, https://b/path/,", ""), Ok(both.to_vec()));
        let variable = " ima:enforcing http://a:8002 file:///srv https://b/path/";
        assert_eq!(parse("env", variable), Ok(both.to_vec()));
    }

    #[test]
    fn errors_have_the_next_step_and_no_password() {
        let check = |text: &str, variable: &str, expected: &str| {
            let error = parse(text, variable).expect_err("malformed");
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        };
        check("env", "", "set it, or give an address");
        check("env", "file:///srv", "set it, or give an address");
        check("", "", "give an address");
        check("debuginfod.example", "", "begin it with http:// or https://");
        check("http://user:hunter2@a", "", "remove the credentials");
        check("env", "http://user:hunter2@a", "remove the credentials");
        check(&"http://a,".repeat(9), "", "leave some out");
    }
}
