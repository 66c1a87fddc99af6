//! The machine code of a file, read in pieces and decoded one instruction at a time.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use iced_x86::{Decoder, DecoderOptions, Instruction};
use self_cell::self_cell;

use crate::elf::Elf;

/// Bytes of a piece of code: what is read is hashed wherever rows are cached.
const PIECE: u64 = 4 << 10;
/// Bytes after a piece that belong to its last instruction; an instruction has at most 15.
const OVERLAP: u64 = 15;
/// Bytes of code of one file; a browser has 240 MB.
const CODE_MAX: u64 = 512 << 20;
/// Pieces in memory: 16 MiB.
const PIECES_MAX: usize = 4096;

/// Reads the executable ranges of a file.
pub(super) struct Code<'a> {
    elf: &'a Elf<'a>,
    executable: Vec<Range<u64>>,
    pieces: HashMap<u64, Rc<[u8]>>,
}

self_cell!(
    /// A decoder of the bytes of a piece.
    struct PieceDecoder {
        owner: Rc<[u8]>,

        #[not_covariant]
        dependent: Decoder,
    }
);

/// Decodes instructions one after the other.
pub(super) struct Instructions {
    /// Made once for a piece: that takes as long as decoding an instruction.
    decoder: PieceDecoder,
    /// Address of the piece.
    start: u64,
    /// Address of the next instruction.
    pub at: u64,
}

impl<'a> Code<'a> {
    /// Takes the executable ranges that can be read whole, up to [`CODE_MAX`].
    pub fn new(elf: &'a Elf<'a>) -> Self {
        let mut bytes_left = CODE_MAX;
        let mut executable = elf.executable();
        executable.retain_mut(|range| {
            let size = (range.end - range.start).min(bytes_left);
            bytes_left -= size;
            range.end = range.start + size;
            size > 0 && elf.loaded(range.end - 1..range.end).is_some_and(|last| !last.is_empty())
        });
        Self { elf, executable, pieces: HashMap::new() }
    }

    /// Returns whether an address is code, as far as the file says.
    pub fn contains(&self, address: u64) -> bool {
        self.range_of(address).is_some()
    }

    fn range_of(&self, address: u64) -> Option<&Range<u64>> {
        let after = self.executable.partition_point(|range| range.start <= address);
        self.executable.get(after.checked_sub(1)?).filter(|range| range.contains(&address))
    }

    /// Returns the executable ranges, ascending and disjoint.
    pub fn executable(&self) -> &[Range<u64>] {
        &self.executable
    }

    /// Starts to decode at an address; `None` if it is not executable.
    pub fn instructions(&mut self, address: u64) -> Option<Instructions> {
        let range = self.range_of(address)?.clone();
        let start = address - (address - range.start) % PIECE;
        let piece = match self.pieces.get(&start) {
            Some(piece) => piece.clone(),
            None => {
                let end = start.saturating_add(PIECE + OVERLAP).min(range.end);
                let piece: Rc<[u8]> = self.elf.loaded(start..end)?.into();
                if self.pieces.len() == PIECES_MAX {
                    self.pieces.clear();
                }
                self.pieces.insert(start, piece.clone());
                piece
            }
        };
        let decoder = PieceDecoder::new(piece, |piece| {
            Decoder::with_ip(64, piece, start, DecoderOptions::NONE)
        });
        Some(Instructions { decoder, start, at: address })
    }

    /// Decodes the next instruction; `None` where the code ends or cannot be decoded.
    pub fn next(&mut self, from: &mut Instructions, instruction: &mut Instruction) -> Option<()> {
        if from.at.checked_sub(from.start)? >= PIECE {
            *from = self.instructions(from.at)?;
        }
        let (at, offset) = (from.at, (from.at - from.start) as usize);
        from.decoder.with_dependent_mut(|_, decoder| {
            if decoder.ip() != at {
                decoder.set_position(offset).ok()?;
                decoder.set_ip(at);
            }
            decoder.decode_out(instruction);
            Some(())
        })?;
        from.at = instruction.next_ip();
        (!instruction.is_invalid()).then_some(())
    }
}
