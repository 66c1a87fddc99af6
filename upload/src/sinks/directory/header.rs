//! The comment in a window's gzip header: when the window began and how long it lasted, so that a
//! time range is found without decompressing a week of windows.

use std::io::{self, BufReader, Read};

use flate2::bufread::GzDecoder;

/// Bytes at the beginning of a file that contain its header.
const HEADER_MAX: u64 = 4096;

/// Returns the comment of a window.
pub fn comment(start_unix_ns: u64, duration_ns: u64) -> String {
    format!("everytick start={start_unix_ns} duration={duration_ns}")
}

/// Reads start and duration, both in nanoseconds, from the beginning of a file; `None` without such
/// a comment.
///
/// # Errors
/// The error of the reader.
pub fn read(file: impl Read) -> io::Result<Option<(u64, u64)>> {
    let mut beginning = Vec::new();
    file.take(HEADER_MAX).read_to_end(&mut beginning)?;
    let gzip = GzDecoder::new(BufReader::new(beginning.as_slice()));
    let comment = gzip.header().and_then(|header| header.comment());
    Ok(comment.and_then(|comment| std::str::from_utf8(comment).ok()).and_then(parse))
}

fn parse(comment: &str) -> Option<(u64, u64)> {
    let (start, duration) = comment.strip_prefix("everytick start=")?.split_once(" duration=")?;
    Some((start.parse().ok()?, duration.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_survives_a_round_trip() {
        assert_eq!(parse(&comment(u64::MAX, 0)), Some((u64::MAX, 0)));
    }

    #[test]
    fn other_content_is_ignored() {
        for bytes in [&b""[..], b"\x1f\x8b", b"\x1f\x8b\x08\x10\0\0\0\0\0\xff", b"plain text"] {
            assert_eq!(read(bytes).expect("memory is read"), None);
        }
        let endless = [b"\x1f\x8b\x08\x10\0\0\0\0\0\xff".to_vec(), vec![b'x'; 100_000]].concat();
        assert_eq!(read(endless.as_slice()).expect("memory is read"), None);
        assert_eq!(parse("everytick start=1 duration=-1"), None);
        assert_eq!(parse("everytick start=99999999999999999999 duration=1"), None);
    }
}
