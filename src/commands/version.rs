//! What `everytick --version` prints.

use std::env::consts;

/// Describes the program: its version, the commit that it was built from, and how. `commit`: empty
/// when it was not built in a repository.
pub(super) fn describe(commit: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let commit = match commit {
        "" => String::new(),
        commit => format!("commit {commit}, "),
    };
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!("{version} ({commit}{build} build, {}-{})", consts::ARCH, consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_is_optional() {
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let end = format!("{build} build, {}-linux)", consts::ARCH);
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(describe(""), format!("{version} ({end}"));
        assert_eq!(describe("1a2b3c4d5e6f"), format!("{version} (commit 1a2b3c4d5e6f, {end}"));
    }
}
