//! The program: everything is in the library beside it.

use git_version::git_version;

/// The commit that is built; empty outside of a repository. It is here and not in the library, so
/// that only this file is compiled again after each commit.
const COMMIT: &str = git_version!(args = ["--always", "--abbrev=12", "--exclude=*"], fallback = "");

fn main() -> std::process::ExitCode {
    everytick::commands::run(COMMIT)
}
