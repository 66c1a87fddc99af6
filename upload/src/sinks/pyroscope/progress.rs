//! How far one batch has come, so that its next attempt sends only what is not there yet.

use std::collections::{HashMap, HashSet};

use super::encode::{Piece, Pieces};
use crate::batch::{Answer, Batch, Failure};
use crate::transport::shorten;

/// How often the server may stumble over a piece, while it takes others of the same batch. As often it may find
/// small pieces too large while it takes none.
const BREAKS_MAX: u32 = 10;

/// What became of the pieces of the batch that was given last.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What tells it from others.
    batch: Option<u64>,
    /// Ids of pieces that are there or refused for good.
    settled: HashSet<String>,
    /// Ids of pieces that the server stumbled over, and how often.
    broken: HashMap<String, u32>,
    bytes: u64,
    taken: u64,
    refused: u64,
    /// What the server said when it first refused.
    text: Option<String>,
    /// It is not known how much of a request is there: from now on each goes alone, so that it will be.
    pub alone: bool,
    /// Something was taken since a single stack was found too large: the server does not say so to all.
    pub is_taking: bool,
    /// How often it was doubted that a piece is too large.
    doubts: u32,
}

impl Progress {
    /// Starts anew, unless this is the batch of the last attempt.
    pub(super) fn begin(&mut self, batch: &Batch) {
        let key = Some(batch.fingerprint());
        if self.batch != key {
            *self = Self { batch: key, ..Self::default() };
        }
    }

    /// Whether a piece need not be sent.
    pub(super) fn is_settled(&self, piece: &Piece) -> bool {
        self.settled.contains(&piece.id)
    }

    /// A piece is there.
    pub(super) fn take(&mut self, piece: &Piece) {
        if self.settled.insert(piece.id.clone()) {
            self.taken += piece.samples;
            self.is_taking = true;
            self.doubts = 0;
        }
    }

    /// A piece will never be there.
    pub(super) fn refuse(&mut self, piece: &Piece, text: &str) {
        if self.settled.insert(piece.id.clone()) {
            self.refused += piece.samples;
            self.text.get_or_insert_with(|| text.to_owned());
        }
    }

    /// The server stumbled over a piece: says whether to come again with it.
    pub(super) fn breaks(&mut self, piece: &Piece) -> bool {
        let times = self.broken.entry(piece.id.clone()).or_default();
        *times += 1;
        *times < BREAKS_MAX || self.taken == 0
    }

    /// A server that takes nothing finds a small piece too large: says whether to come again with it, after all
    /// others.
    pub(super) fn doubts(&mut self, piece: &Piece) -> bool {
        self.broken.entry(piece.id.clone()).or_default();
        self.doubts += 1;
        self.doubts < BREAKS_MAX
    }

    /// Whether the server stumbled over a piece before.
    pub(super) fn is_broken(&self, piece: &Piece) -> bool {
        self.broken.contains_key(&piece.id)
    }

    /// Nothing more of the batch will ever be there.
    pub(super) fn refuse_rest(&mut self, batch: &Batch, text: &str) {
        self.refused = batch.samples().saturating_sub(self.taken);
        self.text.get_or_insert_with(|| text.to_owned());
    }

    /// Bytes went to the server.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// The answer when no piece is left.
    pub(super) fn answer(&self, pieces: &Pieces) -> Answer {
        let texts = [self.text.clone(), lost_text(pieces)];
        let text = texts.into_iter().flatten().collect::<Vec<_>>().join("; ");
        if self.refused > 0 && self.taken == 0 {
            return Answer::Refused { reason: Failure::Rejected, text };
        }
        match text.is_empty() {
            true => Answer::Delivered { bytes: self.bytes },
            false => {
                Answer::Partly { bytes: self.bytes, rejected: self.refused, text: shorten(&text) }
            }
        }
    }
}

/// What the server's limits cost; `None` when nothing.
fn lost_text(pieces: &Pieces) -> Option<String> {
    let labels = match pieces.labels_lost {
        0 => None,
        lost => Some(format!("{lost} labels were left out or cut, the server takes no more")),
    };
    let stacks = match pieces.stacks_cut {
        0 => None,
        cut => Some(format!("{cut} stacks were cut at the root, the server takes none so deep")),
    };
    let texts: Vec<String> = [labels, stacks].into_iter().flatten().collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}
