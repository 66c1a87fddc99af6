//! Text of the picture: names made fit for XML and for the eye, numbers with their units.

use profile::pprof::SampleUnit;
use profile::{Profile, pluralize, printable, short_name};

/// Longest name or path, in bytes.
const TEXT_BYTES_MAX: usize = 1024;
/// Characters of a frame below which it shows none.
const CHARACTERS_MIN: usize = 3;
/// Marks where text was cut.
const ELLIPSIS: &str = "\u{2026}";

/// Returns a name in one line, escaped, and cut at its end if it is very long.
pub(super) fn clean(name: &str) -> String {
    let head = &name[..name.floor_char_boundary(TEXT_BYTES_MAX)];
    let escaped = printable(head);
    let end = escaped.floor_char_boundary(TEXT_BYTES_MAX);
    match head.len() == name.len() && end == escaped.len() {
        true => escaped.into_owned(),
        false => format!("{}\u{2026} [{} bytes]", &escaped[..end], name.len()),
    }
}

/// Returns a path in one line, escaped, and cut at its start if it is very long.
pub(super) fn clean_path(path: &str) -> String {
    if path.len() <= TEXT_BYTES_MAX {
        return clean(path);
    }
    let start = path.ceil_char_boundary(path.len() - TEXT_BYTES_MAX / 2);
    format!("\u{2026}{}", clean(&path[start..]))
}

/// Returns what fits of the name of a frame: all of it, else it with the arguments of what encloses
/// the function cut short, then cut at its end. `names.js` does the same when the width changes.
pub(super) fn fit_name(name: &str, columns: usize) -> String {
    let whole = fit(name, columns);
    if whole == name || whole.is_empty() {
        return whole;
    }
    let shortest = short_name(name, 0, ELLIPSIS);
    let width: usize = shortest.chars().map(columns_of).sum();
    let lists = shortest.matches(ELLIPSIS).count();
    match columns.saturating_sub(width).checked_div(lists) {
        None | Some(0) => fit(&shortest, columns),
        Some(kept) => fit(&short_name(name, kept, ELLIPSIS), columns),
    }
}

/// Returns the head of a text that fits into a number of columns; nothing if that is not readable.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if columns < CHARACTERS_MIN {
        return String::new();
    }
    let mut width = 0;
    let mut head_end = 0;
    for (at, character) in text.char_indices() {
        width += columns_of(character);
        if width > columns {
            return format!("{}{ELLIPSIS}", &text[..head_end]);
        }
        if width < columns {
            head_end = at + character.len_utf8();
        }
    }
    text.to_owned()
}

/// Returns the columns of a character; for those of East Asia and for symbols rather too many.
fn columns_of(character: char) -> usize {
    if character < '\u{1100}' { 1 } else { 2 }
}

/// Formats a part of a whole in percent.
pub(super) fn percent(part: u64, whole: u64) -> String {
    format!("{:.2} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// Formats a time in seconds with three digits or more.
pub(super) fn seconds(seconds: f64) -> String {
    let decimals = match seconds {
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        s if s >= 1.0 => 2,
        _ => 3,
    };
    format!("{seconds:.decimals$} s")
}

/// What the counts of a picture stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CountScale {
    pub unit: SampleUnit,
    /// Nanoseconds of CPU time of one.
    ns: u64,
}

impl CountScale {
    /// Returns the scale of a profile whose samples are counted in `unit`.
    pub fn of(profile: &Profile, unit: SampleUnit) -> Self {
        Self { unit, ns: profile.period_ns }
    }

    /// Formats the CPU time of a count.
    pub fn time(self, count: u64) -> String {
        seconds(count as f64 * self.ns as f64 / 1e9)
    }

    /// Formats the CPU time of a count, with the count itself if it is one of samples.
    pub fn time_and_count(self, count: u64) -> String {
        match self.unit {
            SampleUnit::Samples => {
                format!("{} ({})", self.time(count), pluralize(count, "sample", "samples"))
            }
            SampleUnit::Microseconds => self.time(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_its_end() {
        let check = |text, columns, expected| assert_eq!(fit(text, columns), expected);
        check("std::vector<int>::push_back", 12, "std::vector\u{2026}");
        check("main", 4, "main");
        check("main2", 4, "mai\u{2026}");
        check("main", 2, "");
        check("\u{6f22}\u{5b57}\u{6f22}", 5, "\u{6f22}\u{5b57}\u{2026}");
    }

    #[test]
    fn function_stays_in_view_behind_the_arguments_of_its_class() {
        let name = "std::_Rb_tree<int, std::pair<int const, long>>::find(int const&)";
        let check = |columns, expected| assert_eq!(fit_name(name, columns), expected);
        check(64, name);
        check(63, "std::_Rb_tree<int, std::pair<int const, lo\u{2026}>::find(int const&)");
        check(38, "std::_Rb_tree<int\u{2026}>::find(int const&)");
        check(23, "std::_Rb_tree<\u{2026}>::fin\u{2026}");
        check(12, "std::_Rb_tr\u{2026}");
        check(2, "");
    }

    #[test]
    fn long_names_keep_their_head_and_long_paths_their_file() {
        let name = clean(&format!("head{}", "x".repeat(1 << 20)));
        assert!(
            name.starts_with("headxxx") && name.ends_with("\u{2026} [1048580 bytes]"),
            "{name}"
        );
        assert!(name.len() < TEXT_BYTES_MAX + 32);
        let path = clean_path(&format!("/{}/libx.so", "\u{f6}".repeat(1 << 20)));
        assert!(path.ends_with("/libx.so") && path.len() <= TEXT_BYTES_MAX, "{path}");
        assert_eq!(clean(&"\0".repeat(4_000)).matches("\\u{0}").count(), TEXT_BYTES_MAX / 5);
    }

    #[test]
    fn times_have_three_digits() {
        let formatted = [0.0, 0.0042, 1.234, 12.34, 4567.8].map(seconds);
        assert_eq!(formatted, ["0.000 s", "0.004 s", "1.23 s", "12.3 s", "4568 s"]);
    }
}
