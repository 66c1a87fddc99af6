//! Who may change the files of the configuration.
//!
//! A user who can change the configuration can send profiles of the whole machine anywhere; a user
//! who can change a token chooses the account that they go to. As ssh does, a file of a secret that
//! others may change is refused. The configuration itself is reported only: where a umask of 002 is
//! usual, files are writable for a group of one user, and an update should not stop the agent.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::geteuid;

/// Bits of a mode: the group and others may write.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Returns which users beside root and ours may change a file, and the next step. A file that does
/// not exist has none.
pub(super) fn foreign_writers(path: &str) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    describe(path, metadata.uid(), metadata.mode(), geteuid().as_raw())
}

fn describe(path: &str, owner: u32, mode: u32, own_user: u32) -> Option<String> {
    if owner != 0 && owner != own_user {
        return Some(format!("it belongs to user {owner}; run `chown {own_user} {path}`"));
    }
    let writers = match (mode & GROUP_WRITES != 0, mode & OTHERS_WRITE != 0) {
        (_, true) => "all users may",
        (true, false) => "its group may",
        (false, false) => return None,
    };
    let mode = mode & 0o7777;
    Some(format!("{writers} write to it (mode {mode:o}); run `chmod go-w {path}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_beside_root_and_us_are_named() {
        let check = |owner, mode, expected: Option<&str>| {
            assert_eq!(describe("/f", owner, mode, 500).as_deref(), expected, "{owner} {mode:o}");
        };
        check(0, 0o100644, None);
        check(500, 0o100600, None);
        check(500, 0o100444, None);
        check(501, 0o100600, Some("it belongs to user 501; run `chown 500 /f`"));
        check(0, 0o100666, Some("all users may write to it (mode 666); run `chmod go-w /f`"));
        check(500, 0o100602, Some("all users may write to it (mode 602); run `chmod go-w /f`"));
        check(500, 0o100664, Some("its group may write to it (mode 664); run `chmod go-w /f`"));
    }
}
