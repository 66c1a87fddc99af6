//! The formats of output files: one table of names, extensions and readers.

use std::path::Path;

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A flamegraph for a browser, with search and zoom.
    Svg,
    /// gzip-compressed pprof.
    Pprof,
    /// One line per stack, frames joined by `;`.
    Folded,
    /// JSON of speedscope.
    Speedscope,
    /// Text as `perf script` prints it, one block per sample.
    Perf,
    /// gzip-compressed JSON of the Firefox Profiler: threads as tracks.
    Firefox,
}

/// A row of the table.
struct FormatDefinition {
    format: Format,
    /// Name on the command line.
    name: &'static str,
    /// How names of files end, in lower case.
    extension: &'static str,
}

const FORMATS: [FormatDefinition; 6] = [
    FormatDefinition { format: Format::Svg, name: "svg", extension: ".svg" },
    FormatDefinition { format: Format::Pprof, name: "pprof", extension: ".pb.gz" },
    FormatDefinition { format: Format::Folded, name: "folded", extension: ".folded" },
    FormatDefinition {
        format: Format::Speedscope,
        name: "speedscope",
        extension: ".speedscope.json",
    },
    FormatDefinition { format: Format::Perf, name: "perf", extension: ".perf" },
    FormatDefinition { format: Format::Firefox, name: "firefox", extension: ".firefox.json.gz" },
];

impl Format {
    /// Returns the names of all formats on the command line.
    pub fn names() -> [&'static str; 6] {
        FORMATS.map(|definition| definition.name)
    }

    /// Returns the format with a name.
    pub fn from_name(name: &str) -> Option<Self> {
        FORMATS.iter().find(|definition| definition.name == name).map(|found| found.format)
    }

    /// Returns the format that the extension of a file selects, in upper or lower case.
    pub fn from_path(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let matches = |definition: &&FormatDefinition| {
            name.len() > definition.extension.len() && name.ends_with(definition.extension)
        };
        FORMATS.iter().find(matches).map(|found| found.format)
    }

    /// Returns the extension of its files.
    pub fn extension(self) -> &'static str {
        let found = FORMATS.iter().find(|definition| definition.format == self);
        found.map_or("", |definition| definition.extension)
    }

    /// Returns whether its files are made of the times of samples.
    pub fn needs_times(self) -> bool {
        self == Self::Firefox
    }

    /// Returns whether its files are not text.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Pprof | Self::Firefox)
    }
}

/// Returns all extensions, separated by commas.
pub(super) fn extensions() -> String {
    FORMATS.map(|definition| definition.extension).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_extensions_are_in_the_table_once() {
        for definition in &FORMATS {
            let FormatDefinition { format, name, extension } = definition;
            assert_eq!(Format::from_name(name), Some(*format));
            assert_eq!(Format::from_path(Path::new(&format!("x{extension}"))), Some(*format));
            assert_eq!(format.extension(), *extension);
        }
        assert_eq!(Format::from_name("SVG"), None);
    }

    #[test]
    fn extensions_match_in_any_case_and_need_a_name_before() {
        let format = |path: &str| Format::from_path(Path::new(path));
        assert_eq!(format("dir/X.SVG"), Some(Format::Svg));
        assert_eq!(format("x.Pb.Gz"), Some(Format::Pprof));
        for path in [".svg", "x.txt", "svg", "x.json", "dir.svg/x", "-", "", "/"] {
            assert_eq!(format(path), None, "{path}");
        }
    }
}
