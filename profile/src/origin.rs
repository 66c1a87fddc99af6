//! The origin of a window: the agent that took it, and when, on a clock that cannot be set.
//!
//! The wall clock may jump by years and back. The origin tells the age and the order of windows of
//! one boot all the same, and whether two windows account for the same ticks.

use std::fmt;

/// A moment on CLOCK_BOOTTIME, which goes on while the machine sleeps and which cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BootTime {
    /// The boot, by the kernel's `boot_id` (random(4)). Shared by all containers of a machine.
    pub boot_id: u128,
    /// Nanoseconds since that boot.
    pub ns: u64,
}

/// The agent that took a window, and when.
///
/// ```
/// use profile::{BootTime, Origin};
///
/// let start = BootTime { boot_id: 0xabc, ns: 5 };
/// let origin = Origin { start, instance: 7, host: "node 1".into() };
/// assert_eq!(Origin::parse(&origin.to_string()), Some(origin));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// When the window began.
    pub start: BootTime,
    /// The agent among those of all machines: a random number that lasts as long as its spool.
    pub instance: u64,
    /// Name of the machine.
    pub host: String,
}

/// Words before the numbers of an origin, with the version of the format.
const PREFIX: &str = "origin 1: ";

/// Longest name of a machine that is written, in bytes: twice that of a host name in DNS.
const HOST_MAX: usize = 512;

impl BootTime {
    /// Parses a boot ID: 32 hexadecimal digits, with or without hyphens.
    pub fn parse_boot_id(text: &str) -> Option<u128> {
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        let is_id = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| u128::from_str_radix(&digits, 16).ok()).flatten()
    }
}

impl Origin {
    /// Parses the text of an origin; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (boot_id, rest) = text.strip_prefix(PREFIX)?.strip_prefix("boot=")?.split_once(' ')?;
        let (ns, rest) = rest.strip_prefix("boottime=")?.split_once(' ')?;
        let (instance, host) = rest.strip_prefix("instance=")?.split_once(" host=")?;
        let start = BootTime { boot_id: BootTime::parse_boot_id(boot_id)?, ns: ns.parse().ok()? };
        let is_instance = instance.len() == 16 && !instance.starts_with('+');
        let instance = u64::from_str_radix(instance, 16).ok().filter(|_| is_instance)?;
        Some(Self { start, instance, host: host.to_owned() })
    }

    /// Returns the agent as messages and options show it: `HOST/INSTANCE`.
    pub fn agent(&self) -> String {
        format!("{}/{:016x}", self.host, self.instance)
    }
}

/// Writes one line, as the comments of a profile show it.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start: BootTime { boot_id, ns }, instance, host } = self;
        let host = &host[..host.floor_char_boundary(HOST_MAX)];
        let host: String = host.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        write!(f, "{PREFIX}boot={boot_id:032x} boottime={ns} instance={instance:016x} host={host}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(host: &str) -> Origin {
        let start = BootTime { boot_id: u128::MAX - 1, ns: u64::MAX };
        Origin { start, instance: 0xab, host: host.to_owned() }
    }

    #[test]
    fn parses_what_it_displays() {
        for host in ["", "node-1", "a b host=c", "ä"] {
            assert_eq!(Origin::parse(&origin(host).to_string()), Some(origin(host)));
        }
        assert_eq!(
            origin("n").to_string(),
            "origin 1: boot=fffffffffffffffffffffffffffffffe boottime=18446744073709551615 \
             instance=00000000000000ab host=n"
        );
        assert_eq!(origin("n").agent(), "n/00000000000000ab");
    }

    #[test]
    fn other_texts_are_no_origin() {
        let good = origin("n").to_string();
        for (from, to) in [
            ("origin 1", "origin 2"),
            ("boot=ffff", "boot=fff"),
            ("boot=f", "boot=g"),
            ("boottime=1", "boottime=-1"),
            ("boottime=1", "boottime=91"),
            ("instance=0", "instance=+"),
            (" host=", " "),
        ] {
            assert_eq!(Origin::parse(&good.replacen(from, to, 1)), None, "{to}");
        }
    }

    #[test]
    fn a_hostile_name_stays_one_short_line() {
        let text = origin(&format!("a\0\n\u{1b}{}", "ä".repeat(1_000))).to_string();
        assert!(text.len() < 700 && !text.chars().any(char::is_control), "{text}");
        assert!(Origin::parse(&text).is_some());
    }

    #[test]
    fn boot_ids_are_read_as_the_kernel_writes_them() {
        let parse = BootTime::parse_boot_id;
        assert_eq!(parse("00000000-0000-0000-0000-0000000000ff\n"), Some(255));
        for text in ["", "ff", "0000000000000000000000000000000g", &"0".repeat(33)] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
