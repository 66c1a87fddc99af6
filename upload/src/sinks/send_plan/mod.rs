//! The send plan of one batch: a queue of requests, and what became of those that were sent.
//!
//! A sink owns one [`SendPlan`]. A request stays in the plan until its fate is known, so an
//! attempt may end anywhere, and the next one resends nothing that the server has.
//!
//! 1. [`SendPlan::begin`] puts all pieces of a new batch into one request.
//! 2. The sink encodes [`SendPlan::front`]. What exceeds a limit is split before it is sent.
//! 3. The server's answer is reported: [`SendPlan::accepted`], [`SendPlan::accepted_except`] or
//!    [`SendPlan::failed`], which follows the [`Disposition`] of the retry policy.
//! 4. When no request is left, [`SendPlan::answer`] sums up.

mod piece;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::batch::{Answer, Batch, Failure};
use crate::transport::{Disposition, FailedRequest};

pub(crate) use piece::{Piece, counted};

/// Attempts after which a server that keeps failing at a request is taken to fail because of it,
/// and after which "too large" is believed of a server that accepts nothing.
const ATTEMPTS_MAX: u32 = 10;

/// Least bound for requests, in bytes: a deep stack with long names and its labels. A server that
/// accepts nothing finds smaller requests too large for another reason than their size.
pub(crate) const REQUEST_BYTES_MIN: usize = 64 << 10;

/// Returns the bound for requests after one of `length` bytes was too large for the server. It
/// holds until the agent restarts.
pub(crate) fn lower_limit(limit: usize, length: usize) -> usize {
    match length > REQUEST_BYTES_MIN {
        true => limit.min((length / 2).max(REQUEST_BYTES_MIN)),
        false => limit,
    }
}

/// What a server does with the pieces of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acceptance {
    /// It accepts all of them or none.
    Whole,
    /// It tries each on its own, so that a failed request may have arrived in part. Pieces of a
    /// request whose fate is unknown are sent again one by one.
    PerPiece,
}

/// Pieces that are sent together.
#[derive(Debug, Default)]
struct Request {
    pieces: Vec<Piece>,
    /// Times that the server failed at it.
    failures: u32,
    /// It may be what makes the server fail, so it is sent after all others, and alone.
    is_suspect: bool,
}

impl Request {
    fn of(pieces: Vec<Piece>) -> Self {
        Self { pieces, ..Self::default() }
    }

    /// Returns whether there is nothing to split.
    fn is_single_stack(&self) -> bool {
        self.pieces.iter().map(|piece| piece.samples().len()).sum::<usize>() < 2
    }
}

/// The requests of one batch that are still to be sent, and the outcome of the others.
#[derive(Debug)]
pub(crate) struct SendPlan {
    acceptance: Acceptance,
    /// Identifies the batch of the last attempt.
    fingerprint: Option<u64>,
    /// Weight of each sample of the batch: how often its stack was seen.
    counts: Vec<u64>,
    pending: VecDeque<Request>,
    sent_bytes: u64,
    accepted: u64,
    rejected: u64,
    /// The first permanent failure.
    first_failure: Option<(Failure, String)>,
    /// The server has accepted something since it found a single stack too large, so it does not
    /// find everything too large.
    is_accepting: bool,
    /// Times in a row that "too large" was not believed.
    doubted: u32,
    /// The fate of a request is unknown: send pieces one by one for the rest of the batch.
    is_piecewise: bool,
}

impl SendPlan {
    pub fn new(acceptance: Acceptance) -> Self {
        Self {
            acceptance,
            fingerprint: None,
            counts: Vec::new(),
            pending: VecDeque::new(),
            sent_bytes: 0,
            accepted: 0,
            rejected: 0,
            first_failure: None,
            is_accepting: false,
            doubted: 0,
            is_piecewise: false,
        }
    }

    /// Starts an attempt: with all of the batch in one request, or where the last attempt ended.
    pub fn begin(&mut self, batch: &Batch, pieces: impl FnOnce() -> Vec<Piece>) {
        let fingerprint = Some(batch.fingerprint());
        if self.fingerprint == fingerprint {
            return self.regroup();
        }
        *self = Self::new(self.acceptance);
        self.fingerprint = fingerprint;
        self.counts = piece::counts(batch);
        let pieces = pieces();
        if !pieces.is_empty() {
            self.pending.push_back(Request::of(pieces));
        }
    }

    /// Returns the pieces of the next request.
    pub fn front(&self) -> Option<&[Piece]> {
        self.pending.front().map(|request| request.pieces.as_slice())
    }

    /// Keeps the first `count` pieces in the front request and moves the others behind it.
    pub fn shorten_front(&mut self, count: usize) {
        let Some(front) = self.pending.front_mut() else { return };
        if count < front.pieces.len() {
            let rest = Request::of(front.pieces.split_off(count));
            self.pending.insert(1, rest);
        }
        self.drop_empty_front();
    }

    /// Replaces a piece of the front request with its halves, or rejects a single stack.
    pub fn split_piece(&mut self, index: usize, text: &str) {
        let Some(front) = self.pending.front_mut() else { return };
        let piece = front.pieces.remove(index);
        match piece.halves() {
            Some(halves) => drop(front.pieces.splice(index..index, halves)),
            None => self.reject(&[piece], Failure::TooLarge, text),
        }
        self.drop_empty_front();
    }

    /// Puts two halves in the place of the front request, or rejects a single stack.
    pub fn split_front(&mut self, text: &str) {
        let Some(front) = self.pending.front() else { return };
        match piece::halves(&front.pieces) {
            Some([first, second]) => {
                self.pending[0] = Request::of(first);
                self.pending.insert(1, Request::of(second));
                self.doubted = 0;
            }
            None => self.reject_front(Failure::TooLarge, text),
        }
    }

    /// Adds bytes that were sent, whatever the response.
    pub fn add_sent_bytes(&mut self, bytes: u64) {
        self.sent_bytes += bytes;
    }

    /// The server has accepted the front request. `rejected`: what it left out of it, in its own
    /// units.
    pub fn accepted(&mut self, sent_bytes: u64, rejected: u64, text: &str) {
        self.sent_bytes += sent_bytes;
        let pieces = self.take_front();
        self.count_accepted(&pieces);
        if rejected > 0 {
            self.rejected += rejected;
            self.first_failure.get_or_insert_with(|| (Failure::Rejected, text.to_owned()));
        }
    }

    /// The server has accepted the front request but for the pieces at `failed`, which are sent
    /// again one by one.
    pub fn accepted_except(&mut self, failed: &[usize]) {
        let mut failures = Vec::new();
        for (index, piece) in self.take_front().into_iter().enumerate() {
            match failed.contains(&index) {
                true => failures.push(piece),
                false => self.count_accepted(&[piece]),
            }
        }
        self.put_in_front(failures);
    }

    /// Follows the retry policy after the front request, one of `length` bytes, was not accepted.
    /// Returns an answer if that ends the attempt.
    pub fn failed(&mut self, failed: FailedRequest, length: usize) -> Option<Answer> {
        let FailedRequest { disposition, after, text } = failed;
        if self.acceptance == Acceptance::PerPiece && self.front().is_some_and(|p| p.len() > 1) {
            return self.failed_with_several(disposition, after, text);
        }
        match disposition {
            Disposition::Retry(reason) => Some(self.retry(reason, after, text)),
            Disposition::RetryBounded => self.retry_bounded(text),
            Disposition::Split { is_limit_stated } => {
                self.too_large(length, is_limit_stated, &text)
            }
            Disposition::Reject(reason) => {
                self.reject_front(reason, &text);
                None
            }
        }
    }

    /// A failure of several pieces says nothing of any one of them.
    fn failed_with_several(
        &mut self,
        disposition: Disposition,
        after: Option<Duration>,
        text: String,
    ) -> Option<Answer> {
        match disposition {
            Disposition::Retry(reason) => Some(self.retry(reason, after, text)),
            Disposition::RetryBounded => Some(self.retry(Failure::Unavailable, after, text)),
            Disposition::Split { .. } | Disposition::Reject(_) => {
                let pieces = self.take_front();
                self.put_in_front(pieces);
                None
            }
        }
    }

    /// Rejects all that is left.
    pub fn reject_all(&mut self, reason: Failure, text: &str) {
        while self.front().is_some() {
            self.reject_front(reason, text);
        }
    }

    /// Returns the answer when no request is left.
    pub fn answer(&self) -> Answer {
        match &self.first_failure {
            None => Answer::Delivered { bytes: self.sent_bytes },
            Some((reason, text)) if self.accepted == 0 => {
                Answer::Rejected { reason: *reason, text: text.clone() }
            }
            Some((_, text)) => {
                let (bytes, rejected) = (self.sent_bytes, self.rejected);
                Answer::Partly { bytes, rejected, text: text.clone() }
            }
        }
    }

    /// Ends the attempt. Where nothing arrived, nothing can have arrived in part.
    fn retry(&mut self, reason: Failure, after: Option<Duration>, text: String) -> Answer {
        self.is_piecewise =
            self.acceptance == Acceptance::PerPiece && reason != Failure::Unreachable;
        Answer::Later { reason, after, text }
    }

    /// The server failed at the front request, which goes last from now on. It is rejected when
    /// that has happened too often. A server that tries each piece must also have accepted another.
    fn retry_bounded(&mut self, text: String) -> Option<Answer> {
        let mut request = self.pending.pop_front()?;
        request.failures += 1;
        request.is_suspect = true;
        let is_alone = self.acceptance == Acceptance::PerPiece && self.accepted == 0;
        if request.failures < ATTEMPTS_MAX || is_alone {
            self.pending.push_back(request);
            return Some(Answer::Later { reason: Failure::Unavailable, after: None, text });
        }
        let text = format!("the server failed at it {ATTEMPTS_MAX} times: {text}");
        self.reject(&request.pieces, Failure::Rejected, &text);
        None
    }

    /// The server finds the front request too large.
    ///
    /// There are proxies that find everything too large. So below [`REQUEST_BYTES_MIN`] the answer
    /// is believed only of a server that accepts other requests, which go first in the next
    /// attempt, or that names its limit. When that does not help, all that is left is rejected.
    fn too_large(&mut self, length: usize, is_limit_stated: bool, text: &str) -> Option<Answer> {
        let is_single = self.pending.front().is_some_and(Request::is_single_stack);
        if length > REQUEST_BYTES_MIN || self.is_accepting || is_limit_stated {
            self.is_accepting &= !is_single;
            self.split_front(text);
            return None;
        }
        let doubted = self.doubted + 1;
        if doubted >= ATTEMPTS_MAX {
            let text = format!("the server found all of it too large {ATTEMPTS_MAX} times: {text}");
            self.reject_all(Failure::TooLarge, &text);
            return None;
        }
        match self.acceptance {
            Acceptance::Whole if !is_single => self.split_front(text),
            Acceptance::Whole => {}
            Acceptance::PerPiece => self.pending[0].is_suspect = true,
        }
        self.doubted = doubted;
        self.pending.rotate_left(1);
        Some(Answer::Later { reason: Failure::TooLarge, after: None, text: text.to_owned() })
    }

    /// Joins what an earlier attempt took apart, or takes all of it apart.
    fn regroup(&mut self) {
        if self.acceptance == Acceptance::Whole {
            return;
        }
        let (suspects, others): (Vec<_>, Vec<_>) =
            self.pending.drain(..).partition(|request| request.is_suspect);
        let pieces: Vec<Piece> = others.into_iter().flat_map(|request| request.pieces).collect();
        self.pending.extend(suspects);
        match self.is_piecewise {
            true => self.put_in_front(pieces),
            false if pieces.is_empty() => {}
            false => self.pending.push_front(Request::of(pieces)),
        }
    }

    /// Puts pieces in front, each in a request of its own.
    fn put_in_front(&mut self, pieces: Vec<Piece>) {
        for piece in pieces.into_iter().rev() {
            self.pending.push_front(Request::of(vec![piece]));
        }
    }

    fn take_front(&mut self) -> Vec<Piece> {
        self.pending.pop_front().unwrap_or_default().pieces
    }

    fn drop_empty_front(&mut self) {
        if self.front().is_some_and(<[Piece]>::is_empty) {
            self.pending.pop_front();
        }
    }

    fn count_accepted(&mut self, pieces: &[Piece]) {
        self.accepted += self.count(pieces);
        self.is_accepting = true;
        self.doubted = 0;
    }

    fn reject_front(&mut self, reason: Failure, text: &str) {
        self.doubted = 0;
        let pieces = self.take_front();
        self.reject(&pieces, reason, text);
    }

    fn reject(&mut self, pieces: &[Piece], reason: Failure, text: &str) {
        self.rejected += self.count(pieces);
        self.first_failure.get_or_insert_with(|| (reason, text.to_owned()));
    }

    /// Returns how many samples the pieces stand for.
    fn count(&self, pieces: &[Piece]) -> u64 {
        let samples = pieces.iter().flat_map(Piece::samples);
        samples
            .filter_map(|sample| self.counts.get(*sample))
            .fold(0, |sum, n| sum.saturating_add(*n))
    }
}
