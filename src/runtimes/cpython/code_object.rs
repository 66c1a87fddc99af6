//! The name and the lines of a code object of CPython.

use super::line_table::LineTable;
use super::version::CpythonVersion;
use crate::runtimes::code_object::{CodeObject, CodeParts};

/// Decodes a code object of a process with a version. From 3.11 on its name has the class or
/// function around it: `Class.method`, `outer.<locals>.inner`.
pub(super) fn decode(version: CpythonVersion, parts: &CodeParts<'_>) -> CodeObject {
    let CodeParts { name, file, first_line, lines, lines_length } = *parts;
    let (name, file) = (name.beginning(), file.end());
    // 3.13 has such a frame around `__init__`.
    let is_shim = first_line == 0 && name.as_deref() == Some("__init__") && name == file;
    let lines = LineTable::new(version, first_line, lines, lines_length);
    CodeObject { name, file, first_line, is_function: !is_shim, lines: Box::new(lines) }
}
