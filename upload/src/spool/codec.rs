//! Encoding of a batch in the spool: a pprof message, zstd-compressed, with a content checksum.

use std::io::{self, Read, Write};

use profile::pprof;
use prost::Message;

use super::name::BatchName;
use crate::batch::{self, Batch};

/// Compression level: zstd's default, fast with a good ratio.
const LEVEL: i32 = 3;

/// Base-2 logarithm of the largest match distance in bytes, which bounds the memory of a decoder.
/// [`LEVEL`] uses 21.
const WINDOW_LOG_MAX: u32 = 23;

/// The message is larger than [`batch::BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

/// Why the content of a spool file is not the batch of its name.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Truncated, altered, or not zstd.
    #[error("its content is damaged: {0}")]
    Content(io::Error),
    /// Not a pprof profile.
    #[error("{0}")]
    Profile(#[from] pprof::DecodeError),
    /// A profile of another window.
    #[error("it is not the window of its file name")]
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
    let compress = || -> io::Result<Vec<u8>> {
        let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
        encoder.include_checksum(true)?;
        encoder.write_all(&batch.profile.encode_to_vec())?;
        encoder.finish()
    };
    Ok(compress().expect("writing to memory does not fail"))
}

/// Decompresses a batch and verifies all of it. Allocates at most [`batch::BYTES_MAX`] bytes.
///
/// # Errors
/// [`Damage`] for anything but the batch of this name.
pub fn decode(bytes: &[u8], name: BatchName) -> Result<Batch, Damage> {
    let message = decompress(bytes).map_err(Damage::Content)?;
    let profile = pprof::decode(&message, batch::BYTES_MAX)?;
    let batch = Batch { profile };
    let matches_name = !message.is_empty() && batch.start_unix_ns() == name.start_unix_ns();
    if matches_name { Ok(batch) } else { Err(Damage::OtherWindow) }
}

fn decompress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::Decoder::with_buffer(bytes)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut message = Vec::new();
    decoder.take(batch::BYTES_MAX as u64 + 1).read_to_end(&mut message)?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::batch;

    const NAME: BatchName = BatchName::new(7, 7, None);

    #[test]
    fn a_batch_round_trips() {
        let batch = batch(7, &[(&[("comm", "a")], 3)]);
        let bytes = encode(&batch).expect("small enough");
        assert_eq!(decode(&bytes, NAME).expect("intact"), batch);
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_detected() {
        let bytes = encode(&batch(7, &[(&[("comm", "a")], 3)])).expect("small enough");
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length], NAME).is_err(), "truncated to {length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // Bits that select an encoding may change as long as the content does not.
            if let Ok(same) = decode(&bytes, NAME) {
                assert_eq!(same, batch(7, &[(&[("comm", "a")], 3)]), "bit {bit}");
            }
        }
    }

    #[test]
    fn another_window_under_this_name_is_damage() {
        let bytes = encode(&batch(8, &[])).expect("small enough");
        assert!(matches!(decode(&bytes, NAME), Err(Damage::OtherWindow)));
        let empty = zstd::encode_all(&b""[..], LEVEL).expect("in memory");
        let epoch = BatchName::new(0, 0, None);
        assert!(matches!(decode(&empty, epoch), Err(Damage::OtherWindow)));
    }

    #[test]
    fn a_decompression_bomb_is_rejected() {
        let zeros = zstd::encode_all(io::repeat(0).take(batch::BYTES_MAX as u64 + 1), LEVEL);
        let bomb = zeros.expect("in memory");
        assert!(bomb.len() < 100_000);
        let error = decode(&bomb, NAME).expect_err("too large");
        assert!(matches!(error, Damage::Profile(pprof::DecodeError::TooLarge(_))), "{error}");
    }
}
