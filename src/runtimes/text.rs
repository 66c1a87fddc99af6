//! Texts of code objects, whose characters have 1, 2 or 4 bytes each, as in CPython (PEP 393).
//!
//! The bytes were copied from a process and are untrusted: a character that is none becomes U+FFFD.

/// Bytes of a string that are decoded; the kernel side sends fewer.
const BYTES_MAX: usize = 1024;

/// A part of a string, as it was read in a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct TextPart<'a> {
    /// Whole characters.
    pub bytes: &'a [u8],
    /// Bytes of a character: 1, 2 or 4; 0 of ASCII.
    pub width: u8,
    /// Characters of the whole string.
    pub length: u32,
}

impl TextPart<'_> {
    /// Returns the text of which this is the beginning. If that is not all, it ends with the bytes
    /// that the string has: `...[1024 bytes]`. `None` if nothing was read.
    pub(super) fn beginning(&self) -> Option<Box<str>> {
        let (size, characters) = self.characters()?;
        let text = decode(&self.bytes[..characters * size], size);
        Some(match self.cut(size, characters) {
            Some(bytes) => format!("{text}...[{bytes} bytes]").into(),
            None => text.into(),
        })
    }

    /// Returns the text of which this is the end. If that is not all, it begins with the bytes that
    /// the string has: `[1024 bytes]...`. `None` if nothing was read.
    pub(super) fn end(&self) -> Option<Box<str>> {
        let (size, characters) = self.characters()?;
        let text = decode(&self.bytes[self.bytes.len() - characters * size..], size);
        Some(match self.cut(size, characters) {
            Some(bytes) => format!("[{bytes} bytes]...{text}").into(),
            None => text.into(),
        })
    }

    /// Returns the bytes of a character, and the characters that were read; `None` if there are
    /// none.
    fn characters(&self) -> Option<(usize, usize)> {
        let size = match self.width {
            0 => 1,
            1 | 2 | 4 => usize::from(self.width),
            _ => return None,
        };
        let read = self.bytes.len().min(BYTES_MAX) / size;
        let characters = read.min(self.length as usize);
        (characters > 0).then_some((size, characters))
    }

    /// Returns the bytes of the whole string if not all of its characters were read.
    fn cut(&self, size: usize, characters: usize) -> Option<u64> {
        (self.length as usize > characters).then(|| u64::from(self.length) * size as u64)
    }
}

/// Decodes characters of `size` bytes each.
fn decode(bytes: &[u8], size: usize) -> String {
    let characters = bytes.chunks_exact(size).map(|character| {
        let code = character.iter().rev().fold(0, |code, byte| code << 8 | u32::from(*byte));
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    });
    characters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bytes: &[u8], width: u8, length: u32) -> TextPart<'_> {
        TextPart { bytes, width, length }
    }

    #[track_caller]
    fn check(bytes: &[u8], width: u8, expected: &str) {
        let length = bytes.len() / usize::from(width.max(1));
        let part = part(bytes, width, length as u32);
        assert_eq!(part.beginning().as_deref(), Some(expected));
        assert_eq!(part.end().as_deref(), Some(expected));
    }

    #[test]
    fn characters_have_the_width_of_the_widest() {
        check(b"Class.method", 0, "Class.method");
        check(b"gr\xf6\xdfe", 1, "größe");
        check(&[0x22, 0x6f, 0x57, 0x5b], 2, "漢字");
        check(&[0x80, 0xf9, 1, 0, b'x', 0, 0, 0], 4, "🦀x");
    }

    #[test]
    fn characters_that_are_none_are_replaced() {
        check(&[0x00, 0xd8, b'x', 0], 2, "\u{fffd}x"); // a surrogate without another
        check(&[0, 0, 0x11, 0, 0xff, 0xff, 0xff, 0xff], 4, "\u{fffd}\u{fffd}");
        for width in [3, 5, 255] {
            assert_eq!(part(b"name", width, 4).beginning(), None);
        }
    }

    #[test]
    fn a_string_that_was_not_read_whole_shows_its_length() {
        let text = part(&[b'a', 0, b'b', 0, 0xff], 2, 300);
        assert_eq!(text.beginning().as_deref(), Some("ab...[600 bytes]"));
        assert_eq!(part(b"/x.py", 0, 300).end().as_deref(), Some("[300 bytes].../x.py"));
        assert_eq!(part(b"", 0, 300).beginning(), None);
        let long = vec![b'x'; 1 << 20];
        let cut = part(&long, 0, u32::MAX).beginning().expect("text");
        assert!(cut.ends_with("x...[4294967295 bytes]") && cut.len() < 2 * BYTES_MAX);
    }

    #[test]
    fn bytes_beyond_the_length_are_no_characters() {
        assert_eq!(part(b"name and more", 0, 4).beginning().as_deref(), Some("name"));
        assert_eq!(part(b"name", 0, 0).beginning(), None);
    }
}
