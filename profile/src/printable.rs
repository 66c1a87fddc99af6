//! Text from outside, made fit for a terminal or a log.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns a text in one line that a terminal shows as it is: every character that controls a
/// terminal, ends a line, reorders text or is none is escaped as in Rust's literals, such as
/// `\u{1b}`. XML can contain the result, too.
///
/// Names of programs, functions, files and cgroups are chosen by users of the machine; texts of
/// servers come from the network.
///
/// ```
/// assert_eq!(profile::printable("main"), "main");
/// assert_eq!(profile::printable("\x1b[2Jroot\n"), "\\u{1b}[2Jroot\\n");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_active) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_active(character) {
            let _ = write!(escaped, "{}", character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Like [`printable`], but keeps the ends of lines: for texts of several lines of our own.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|character| character != '\n' && is_active(character)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(printable).collect::<Vec<_>>().join("\n"))
}

/// Returns whether a character does more than show itself.
fn is_active(character: char) -> bool {
    character.is_control() // C0, DEL and C1
        || matches!(character,
            '\u{2028}' | '\u{2029}' // separators of lines and paragraphs
            | '\u{61c}' | '\u{200e}' | '\u{200f}' // marks of direction
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // text of another direction
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' // byte order mark, marks of annotations
        )
        || is_noncharacter(character)
}

/// Returns whether Unicode reserves a character for internal use. XML and some programs reject it.
fn is_noncharacter(character: char) -> bool {
    matches!(character, '\u{fdd0}'..='\u{fdef}') || u32::from(character) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let check = |text, expected| assert_eq!(printable(text), expected);
        check("std::vec<int, std::allocator<int> >", "std::vec<int, std::allocator<int> >");
        check("größe λ 漢字 🦀", "größe λ 漢字 🦀");
        check("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}");
        check("one\r\ntwo\tthree", "one\\r\\ntwo\\tthree");
        check("\u{9b}31m", "\\u{9b}31m");
        check("\u{7f}\0", "\\u{7f}\\u{0}");
        check("a\u{202e}b\u{2028}c", "a\\u{202e}b\\u{2028}c");
        check("\u{fffe}\u{10ffff}\u{fffd}", "\\u{fffe}\\u{10ffff}\u{fffd}");
    }

    #[test]
    fn lines_of_our_own_stay_lines() {
        assert_eq!(printable_lines("one\ntwo\n"), "one\ntwo\n");
        assert_eq!(printable_lines("one\n\x1b[2Jtwo\n"), "one\n\\u{1b}[2Jtwo\n");
    }
}
