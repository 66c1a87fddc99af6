//! The functions of a section of call-frame information: FDEs by address, and their rows.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, FrameDescriptionEntry, UnwindContext,
    UnwindOffset, UnwindSection, UnwindTableRow,
};

use crate::omissions::Omissions;
use crate::sections::Slice;

pub(super) type Row = UnwindTableRow<usize>;

/// FDEs listed at once: 24 bytes each while a section is read.
pub(super) const FUNCTIONS_MAX: usize = 1 << 21;
/// Bytes of an entry's length field, which the length does not include.
const LENGTH_BYTES: usize = 4;

/// A function as its frame description entry (FDE) has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fde<O> {
    pub start: u64,
    pub end: u64,
    /// Offset of the entry in its section.
    offset: O,
}

/// Why the rows of a function could not be read to the end.
pub(super) enum RowsError {
    Malformed,
    Limit,
}

/// A section with its CIEs, which many FDEs share, parsed once.
pub(super) struct Cies<'s, 'a, S: UnwindSection<Slice<'a>>> {
    section: &'s S,
    bases: &'s BaseAddresses,
    by_offset: HashMap<S::Offset, CommonInformationEntry<Slice<'a>>>,
    last: Option<(S::Offset, CommonInformationEntry<Slice<'a>>)>,
}

impl<'s, 'a, S> Cies<'s, 'a, S>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize> + Hash,
{
    pub fn new(section: &'s S, bases: &'s BaseAddresses) -> Self {
        Self { section, bases, by_offset: HashMap::new(), last: None }
    }

    fn get(&mut self, offset: S::Offset) -> gimli::Result<CommonInformationEntry<Slice<'a>>> {
        if let Some((_, cie)) = self.last.as_ref().filter(|(last, _)| *last == offset) {
            return Ok(cie.clone());
        }
        let cie = match self.by_offset.get(&offset) {
            Some(cie) => cie.clone(),
            None => self.section.cie_from_offset(self.bases, offset)?,
        };
        self.by_offset.insert(offset, cie.clone());
        self.last = Some((offset, cie.clone()));
        Ok(cie)
    }

    /// Calls `visit` with the address of each row of a function, and the row, until `work` is
    /// used up.
    pub fn rows(
        &mut self,
        function: &Fde<S::Offset>,
        context: &mut UnwindContext<usize>,
        work: &mut usize,
        mut visit: impl FnMut(u64, &Row),
    ) -> Result<(), RowsError> {
        let (section, bases) = (self.section, self.bases);
        let malformed = |_| RowsError::Malformed;
        let fde = section
            .fde_from_offset(bases, function.offset, |_, _, offset| self.get(offset))
            .map_err(malformed)?;
        let cost = fde.entry_len() + fde.cie().entry_len();
        *work = work.checked_sub(cost).ok_or(RowsError::Limit)?;
        let mut rows = fde.rows(section, bases, context).map_err(malformed)?;
        let mut last = 0;
        while let Some(row) = rows.next_row().map_err(malformed)? {
            if row.start_address() < last {
                return Err(RowsError::Malformed);
            }
            last = row.start_address();
            visit(last, row);
        }
        Ok(())
    }
}

/// Some of the functions of a section: all that begin before an address.
pub(super) struct Piece<O> {
    /// Sorted by address, at most one per address.
    pub functions: Vec<Fde<O>>,
    /// Where the others begin, if there are any.
    pub rest: Option<u64>,
}

/// Lists the functions of a section that begin at or after an address of the text: at most `max`,
/// which must be 2 or more. Entries come in any order, so each piece takes a pass over all.
pub(super) fn list<'a, S>(
    cies: &mut Cies<'_, 'a, S>,
    text: &Range<u64>,
    max: usize,
    omissions: &mut Omissions,
) -> Piece<S::Offset>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize> + Hash,
{
    let mut piece = Piece { functions: Vec::new(), rest: None };
    let mut entries = cies.section.entries(cies.bases);
    loop {
        match entries.next() {
            Ok(None) => break,
            Ok(Some(CieOrFde::Cie(_))) => {}
            Ok(Some(CieOrFde::Fde(partial))) => {
                let offset = S::Offset::from(partial.offset());
                match partial.parse(|_, _, offset| cies.get(offset)) {
                    Ok(fde) => piece.functions.extend(
                        fde_in(&fde, offset, text)
                            .filter(|fde| piece.rest.is_none_or(|rest| fde.start < rest)),
                    ),
                    Err(_) => omissions.malformed += 1,
                }
            }
            Err(_) => {
                omissions.malformed += 1; // the offset of the next entry is unknown
                break;
            }
        }
        if piece.functions.len() == max {
            piece.sort();
            if piece.functions.len() > max / 2 {
                piece.rest = Some(piece.functions[max / 2].start);
                piece.functions.truncate(max / 2);
            }
        }
    }
    piece.sort();
    piece
}

impl<O> Piece<O> {
    fn sort(&mut self) {
        if !self.functions.is_sorted_by_key(|function| function.start) {
            self.functions.sort_by_key(|function| function.start); // the first of two stays first
        }
        self.functions.dedup_by_key(|function| function.start);
    }
}

/// Reads the FDE at an offset, or the next one if that is empty: of two FDEs with the same
/// address, linkers index only one. Returns `None` if there is none, or if it is outside the text.
pub(crate) fn fde_at<'a, S>(
    section: &S,
    bases: &BaseAddresses,
    offset: S::Offset,
    text: &Range<u64>,
) -> Option<Fde<S::Offset>>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize>,
{
    let fde = section.fde_from_offset(bases, offset, S::cie_from_offset).ok()?;
    if fde.len() > 0 {
        return fde_in(&fde, offset, text);
    }
    let next = S::Offset::from(fde.offset().checked_add(LENGTH_BYTES + fde.entry_len())?);
    let fde = section.fde_from_offset(bases, next, S::cie_from_offset).ok()?;
    fde_in(&fde, next, text)
}

/// Returns the function of an FDE, if it begins in the text and is not empty.
fn fde_in<'a, O: UnwindOffset<usize>>(
    fde: &FrameDescriptionEntry<Slice<'a>>,
    offset: O,
    text: &Range<u64>,
) -> Option<Fde<O>> {
    let start = fde.initial_address();
    let end = start.saturating_add(fde.len()).min(text.end);
    (text.contains(&start) && fde.len() > 0).then_some(Fde { start, end, offset })
}
