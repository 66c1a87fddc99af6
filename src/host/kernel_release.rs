//! Kernel releases with a known defect.

use std::fs;

use crate::procfs::read_text;

/// Returns whether reading user memory from an interrupt may lock up this kernel.
///
/// In Linux 5.19 to 6.3 with CONFIG_HARDENED_USERCOPY, before 6.1.36 and 6.3.10, copying from user
/// memory in an interrupt takes a lock that the interrupted code may hold.
pub(super) fn may_lock_up(release: &str) -> bool {
    if !version(release).is_some_and(|version| ((5, 19)..(6, 4)).contains(&version)) {
        return false;
    }
    let banner = read_text("/proc/version").unwrap_or_default();
    let patched = debian_version(&banner).unwrap_or(release);
    let mut numbers = patched.split(['.', '-']).map_while(|part| part.parse::<u32>().ok()).skip(1);
    let (minor, patch) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let is_fixed = (minor == 1 && patch >= 36) || (minor == 3 && patch >= 10);
    let config = fs::read_to_string(format!("/boot/config-{release}"));
    let is_hardened = config.map_or(true, |config| config.contains("CONFIG_HARDENED_USERCOPY=y"));
    !is_fixed && is_hardened
}

/// Returns the first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// Returns the version with patch level from the banner of a Debian kernel, whose release
/// (6.1.0-56-amd64) lacks it: `... Debian 6.1.192-2 (2026-..`.
fn debian_version(banner: &str) -> Option<&str> {
    banner.split_once(" Debian ")?.1.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::{debian_version, version};

    #[test]
    fn debian_banner_has_the_patch_level() {
        let banner = "Linux version 6.1.0-56-amd64 (gcc 12) #1 SMP Debian 6.1.192-2 (2026-10-01)";
        assert_eq!(debian_version(banner), Some("6.1.192-2"));
        assert_eq!(debian_version("Linux version 6.18.44 (gcc 12) #1 SMP"), None);
    }

    #[test]
    fn version_is_two_numbers() {
        let check = |text, expected| assert_eq!(version(text), expected, "{text}");
        check("6.18.44-fc-v669", Some((6, 18)));
        check("5.10.0-32-cloud-amd64", Some((5, 10)));
        check("7.3-rc7", Some((7, 3)));
        check("odd", None);
    }
}
