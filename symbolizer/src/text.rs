//! Bounds of the texts that a file gives to the symbolizer.
//!
//! A symbol's name is as long as its file wants, and the demangled form of a short one may be a
//! million times longer. Both are cut where they are read, with an ending that shows it.

use std::fmt::{self, Write};

/// Longest name or path in bytes, the ending of a cut one included. Only templates have longer
/// names; the kernel bounds paths in the same way (PATH_MAX).
pub const TEXT_MAX: usize = 4096;
/// Longest message about a file, in characters.
const ERROR_CHARS_MAX: usize = 200;
/// What a text ends with when the rest of it was not computed.
const CUT: &str = "...[cut]";

/// Returns a text of at most [`TEXT_MAX`] bytes: one that is longer ends with the length that it
/// had, `...[1048576 bytes]`. Also returns whether it was cut.
pub fn bounded(text: &str) -> (String, bool) {
    if text.len() <= TEXT_MAX {
        return (text.to_owned(), false);
    }
    let ending = format!("...[{} bytes]", text.len());
    let start = &text[..text.floor_char_boundary(TEXT_MAX - ending.len())];
    ([start, &ending].concat(), true)
}

/// Returns one short line of a text that may quote a file.
pub(crate) fn printable(text: &str) -> String {
    let safe = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(ERROR_CHARS_MAX).map(safe).collect()
}

/// A text that is written piece by piece, and rejects what exceeds [`TEXT_MAX`].
#[derive(Default)]
pub(crate) struct BoundedText {
    text: String,
    is_full: bool,
}

impl BoundedText {
    /// Returns the text, and whether it was cut.
    pub fn finish(mut self) -> (String, bool) {
        if self.is_full {
            self.text.truncate(self.text.floor_char_boundary(TEXT_MAX - CUT.len()));
            self.text.push_str(CUT);
        }
        (self.text, self.is_full)
    }

    /// Returns whether something was rejected.
    pub fn is_full(&self) -> bool {
        self.is_full
    }
}

impl Write for BoundedText {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let space = TEXT_MAX - self.text.len();
        self.is_full |= piece.len() > space;
        self.text.push_str(&piece[..piece.floor_char_boundary(space)]);
        if self.is_full { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_and_end_with_their_length() {
        for text in [String::new(), "main".into(), "x".repeat(TEXT_MAX)] {
            assert_eq!(bounded(&text), (text, false));
        }
        let (cut, is_cut) = bounded(&"x".repeat(1 << 20));
        assert!(is_cut && cut.len() == TEXT_MAX, "{} bytes", cut.len());
        assert!(cut.starts_with("xxx") && cut.ends_with("x...[1048576 bytes]"));
        let (cut, _) = bounded(&"\u{1f980}".repeat(TEXT_MAX));
        assert!(cut.len() <= TEXT_MAX && cut.ends_with("...[16384 bytes]"));
    }

    #[test]
    fn messages_are_one_short_line() {
        assert_eq!(printable("no section \u{1b}[31m\nx"), "no section  [31m x");
        assert_eq!(printable(&"x".repeat(1000)).len(), ERROR_CHARS_MAX);
    }

    #[test]
    fn a_text_without_an_end_is_written_up_to_the_bound() {
        let mut text = BoundedText::default();
        while write!(text, "piece ").is_ok() {}
        assert!(write!(text, "x").is_err() && text.is_full());
        let (text, is_cut) = text.finish();
        assert!(is_cut && text.len() <= TEXT_MAX && text.ends_with(CUT));

        let mut short = BoundedText::default();
        write!(short, "whole").expect("it fits");
        assert_eq!(short.finish(), ("whole".to_owned(), false));
    }
}
