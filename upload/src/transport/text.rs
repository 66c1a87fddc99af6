//! Texts of servers, for logs.

/// Longest text of a server that is logged, in bytes.
const TEXT_MAX: usize = 300;

/// Returns the text as one line of bounded length.
pub(crate) fn shorten(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.len() > TEXT_MAX {
        true => format!("{}...", &line[..line.floor_char_boundary(TEXT_MAX)]),
        false => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_short_line() {
        let text = shorten(&format!("a\n  b {}", "\u{f6}".repeat(TEXT_MAX)));
        assert!(text.starts_with("a b \u{f6}") && text.len() <= TEXT_MAX + 3, "{text}");
    }
}
