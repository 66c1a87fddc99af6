//! The comment in a window's gzip header: when the window began, how long it lasted and which agent
//! took it, so that a time range is found without decompressing a week of windows.
//!
//! ```text
//! everytick 2 start=UNIX_NS duration=NS [ORIGIN]
//! everytick start=UNIX_NS duration=NS              version 1
//! ```

use std::io::{self, BufReader, Read};

use flate2::bufread::GzDecoder;
use profile::Origin;

/// Bytes at the beginning of a file that contain its header.
const HEADER_MAX: u64 = 4096;

/// When a window was taken, and by which agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// When it began, in nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// How long it lasted, in nanoseconds.
    pub duration_ns: u64,
    /// Its agent, and when it began on the clock of the boot.
    pub origin: Option<Origin>,
}

impl Header {
    /// Returns the comment of a window.
    pub fn comment(&self) -> String {
        let Self { start_unix_ns, duration_ns, origin } = self;
        let origin = origin.as_ref().map_or_else(String::new, |origin| format!(" {origin}"));
        format!("everytick 2 start={start_unix_ns} duration={duration_ns}{origin}")
    }

    /// Reads the beginning of a file; `None` without such a comment.
    ///
    /// # Errors
    /// The error of the reader.
    pub fn read(file: impl Read) -> io::Result<Option<Self>> {
        let mut beginning = Vec::new();
        file.take(HEADER_MAX).read_to_end(&mut beginning)?;
        let gzip = GzDecoder::new(BufReader::new(beginning.as_slice()));
        let comment = gzip.header().and_then(|header| header.comment());
        Ok(comment.and_then(|comment| std::str::from_utf8(comment).ok()).and_then(Self::parse))
    }

    fn parse(comment: &str) -> Option<Self> {
        let rest = comment.strip_prefix("everytick ")?;
        let (times, has_origin) = match rest.strip_prefix("2 ") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (start, rest) = times.strip_prefix("start=")?.split_once(" duration=")?;
        let (duration, origin) = match rest.split_once(' ') {
            Some((duration, origin)) if has_origin => (duration, Origin::parse(origin)),
            _ => (rest, None),
        };
        let (start_unix_ns, duration_ns) = (start.parse().ok()?, duration.parse().ok()?);
        Some(Self { start_unix_ns, duration_ns, origin })
    }
}

#[cfg(test)]
mod tests {
    use profile::BootTime;

    use super::*;

    fn header(origin: Option<Origin>) -> Header {
        Header { start_unix_ns: u64::MAX, duration_ns: 0, origin }
    }

    #[test]
    fn a_comment_survives_a_round_trip() {
        let start = BootTime { boot_id: 1, ns: 2 };
        let origin = Origin { start, instance: 3, host: "a host".into() };
        for header in [header(None), header(Some(origin))] {
            assert_eq!(Header::parse(&header.comment()), Some(header));
        }
    }

    #[test]
    fn version_1_is_read() {
        let old = Header::parse("everytick start=18446744073709551615 duration=0");
        assert_eq!(old, Some(header(None)));
    }

    #[test]
    fn other_content_is_ignored() {
        for bytes in [&b""[..], b"\x1f\x8b", b"\x1f\x8b\x08\x10\0\0\0\0\0\xff", b"plain text"] {
            assert_eq!(Header::read(bytes).expect("memory is read"), None);
        }
        let endless = [b"\x1f\x8b\x08\x10\0\0\0\0\0\xff".to_vec(), vec![b'x'; 100_000]].concat();
        assert_eq!(Header::read(endless.as_slice()).expect("memory is read"), None);
        for comment in [
            "everytick start=1 duration=-1",
            "everytick start=99999999999999999999 duration=1",
            "everytick start=1 duration=1 more",
            "everytick 3 start=1 duration=1",
        ] {
            assert_eq!(Header::parse(comment), None, "{comment}");
        }
        let damaged = "everytick 2 start=18446744073709551615 duration=0 origin of another version";
        assert_eq!(Header::parse(damaged), Some(header(None)));
    }
}
