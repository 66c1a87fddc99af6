//! The line on which a function starts.

use gimli::{
    AttributeValue, DW_AT_abstract_origin, DW_AT_decl_file, DW_AT_decl_line, DW_AT_specification,
    UnitOffset, UnitRef,
};

use super::sections::Reader;

/// Entries that are followed: from an inlined call to its function, and to the declaration of that.
const ENTRIES_MAX: usize = 4;

/// Returns the line on which a function starts, by its entry in a unit; 0 if it is unknown, as
/// where its declaration is in another unit, or in a file of another name than the source file that
/// its code is from.
pub(super) fn start_line(
    unit: UnitRef<'_, Reader<'_>>,
    function: UnitOffset,
    source_file: &str,
) -> u32 {
    let mut next = Some(function);
    for _ in 0..ENTRIES_MAX {
        let Some(Ok(entry)) = next.map(|offset| unit.entry(offset)) else { return 0 };
        if let Some(line) = entry.attr_value(DW_AT_decl_line).and_then(|line| line.udata_value()) {
            let declared_in = entry.attr_value(DW_AT_decl_file).and_then(|file| name(unit, file));
            let is_same = declared_in.is_none_or(|name| name == file_name(source_file.as_bytes()));
            return if is_same { u32::try_from(line).unwrap_or(0) } else { 0 };
        }
        next = [DW_AT_abstract_origin, DW_AT_specification].into_iter().find_map(|attribute| {
            match entry.attr_value(attribute)? {
                AttributeValue::UnitRef(offset) => Some(offset),
                _ => None,
            }
        });
    }
    0
}

/// Returns the name of a source file, without its directories; `None` if it is unknown.
fn name<'a>(unit: UnitRef<'_, Reader<'a>>, file: AttributeValue<Reader<'a>>) -> Option<&'a [u8]> {
    let AttributeValue::FileIndex(index) = file else { return None };
    let file = unit.line_program.as_ref()?.header().file(index)?;
    let path = unit.attr_string(file.path_name()).ok()?;
    Some(file_name(path.slice()))
}

fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}
