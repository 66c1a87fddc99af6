//! A batch as it lies in the spool: pprof, zstd-compressed, with a checksum over the content.

use std::io::{self, Read, Write};

use profile::pprof;
use prost::Message;

use super::name::Name;
use crate::batch::{self, Batch};

/// zstd's own default: a level where speed matters and size is good.
const LEVEL: i32 = 3;

/// Largest distance that is looked back, 2 to this power in bytes, which bounds the memory
/// of a reader. The level above takes 21.
const WINDOW_LOG_MAX: u32 = 23;

/// The message is larger than [`batch::BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

/// What is wrong with a file of the spool.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Cut, altered, or not zstd.
    #[error("its content is damaged: {0}")]
    Content(io::Error),
    /// No profile.
    #[error("{0}")]
    Profile(#[from] pprof::DecodeError),
    /// A profile of another window than its name says.
    #[error("it is not the window that its name says")]
    OtherWindow,
}

/// Compresses a batch.
///
/// # Errors
/// [`TooLarge`].
pub fn encode(batch: &Batch) -> Result<Vec<u8>, TooLarge> {
    if batch.profile.encoded_len() > batch::BYTES_MAX {
        return Err(TooLarge);
    }
    let compressed = || -> io::Result<Vec<u8>> {
        let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
        encoder.include_checksum(true)?;
        encoder.write_all(&batch.profile.encode_to_vec())?;
        encoder.finish()
    };
    Ok(compressed().expect("memory takes every write"))
}

/// Reads a batch and checks it whole. Takes memory for [`batch::BYTES_MAX`] bytes at most.
///
/// # Errors
/// [`Damage`] for anything but the batch of this name.
pub fn decode(bytes: &[u8], name: Name) -> Result<Batch, Damage> {
    let plain = decompressed(bytes).map_err(Damage::Content)?;
    let profile = pprof::decode(&plain, batch::BYTES_MAX)?;
    let batch = Batch { profile };
    let is_of_name = !plain.is_empty() && batch.start_unix_ns() == name.start_unix_ns;
    if is_of_name { Ok(batch) } else { Err(Damage::OtherWindow) }
}

fn decompressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::Decoder::with_buffer(bytes)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut plain = Vec::new();
    decoder.take(batch::BYTES_MAX as u64 + 1).read_to_end(&mut plain)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::batch;

    const NAME: Name = Name { start_unix_ns: 7, number: 0 };

    #[test]
    fn a_batch_comes_back() {
        let batch = batch(7, &[(&[("comm", "a")], 3)]);
        let bytes = encode(&batch).expect("small enough");
        assert_eq!(decode(&bytes, NAME).expect("whole"), batch);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_seen() {
        let bytes = encode(&batch(7, &[(&[("comm", "a")], 3)])).expect("small enough");
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length], NAME).is_err(), "cut to {length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // Bits that say how the file is written, and not what it says, may change.
            if let Ok(same) = decode(&bytes, NAME) {
                assert_eq!(same, batch(7, &[(&[("comm", "a")], 3)]), "bit {bit}");
            }
        }
    }

    #[test]
    fn another_window_under_this_name_is_damage() {
        let bytes = encode(&batch(8, &[])).expect("small enough");
        assert!(matches!(decode(&bytes, NAME), Err(Damage::OtherWindow)));
        let nothing = zstd::encode_all(&b""[..], LEVEL).expect("in memory");
        let none = Name { start_unix_ns: 0, number: 0 };
        assert!(matches!(decode(&nothing, none), Err(Damage::OtherWindow)));
    }

    #[test]
    fn a_small_file_that_unpacks_to_much_is_refused() {
        let zeros = zstd::encode_all(io::repeat(0).take(batch::BYTES_MAX as u64 + 1), LEVEL);
        let bomb = zeros.expect("in memory");
        assert!(bomb.len() < 100_000);
        let refused = decode(&bomb, NAME).expect_err("too large");
        assert!(matches!(refused, Damage::Profile(pprof::DecodeError::TooLarge(_))), "{refused}");
    }
}
