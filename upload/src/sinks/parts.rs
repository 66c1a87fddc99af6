//! A batch in parts, each a request, and how far it has come.
//!
//! A sink keeps one [`Parts`]. The part in front stays there until it is known what became of it, so that an
//! attempt can end anywhere, and the next one goes on where it was: what is there is not sent again.

use std::collections::VecDeque;
use std::sync::Arc;

use profile::Labels;

use crate::batch::{Answer, Batch, Failure};

/// Attempts at one part after which a server that fails inside each time is believed to fail because of it. As
/// many at a batch of which a server takes nothing, because all of it is too large.
const DOUBTS_MAX: u32 = 10;

/// Least bound for requests: a deep stack with long names and its labels. A server that takes nothing
/// finds smaller ones too large for another reason than their size.
pub(crate) const REQUEST_BYTES_MIN: usize = 64 << 10;

/// The largest size of requests from now on, when one of `length` bytes was too large for the server. It stays
/// until the agent starts anew.
pub(crate) fn smaller(limit: usize, length: usize) -> usize {
    match length > REQUEST_BYTES_MIN {
        true => limit.min((length / 2).max(REQUEST_BYTES_MIN)),
        false => limit,
    }
}

/// Those of the samples that count for something.
pub(crate) fn counted(batch: &Batch, mut samples: Vec<usize>) -> Vec<usize> {
    let place = batch.value_index("samples", "count").unwrap_or(usize::MAX);
    let count = |sample: usize| batch.profile.sample.get(sample)?.value.get(place).copied();
    samples.retain(|sample| count(*sample).is_some_and(|count| count > 0));
    samples
}

/// Some samples of one series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// What the sink makes of the labels of the series, or these.
    pub labels: Arc<Labels>,
    /// Places in the batch's samples.
    pub samples: Vec<usize>,
}

/// What of one batch is still to be sent, and what became of the rest.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// What tells the batch from others.
    batch: Option<u64>,
    waiting: VecDeque<Vec<Piece>>,
    bytes: u64,
    taken: u64,
    refused: u64,
    /// The first thing that went wrong for good.
    first: Option<(Failure, String)>,
    doubts: u32,
    /// Something was taken since a single stack was found too large: the server does not say so to all.
    is_taking: bool,
}

impl Parts {
    /// Starts with all of a batch in one part, unless it is the one of the last attempt.
    pub fn begin(&mut self, batch: &Batch, pieces: impl FnOnce() -> Vec<Piece>) {
        let key = Some(batch.fingerprint());
        if self.batch != key {
            let all = pieces();
            let waiting = if all.is_empty() { VecDeque::new() } else { VecDeque::from([all]) };
            *self = Self { batch: key, waiting, ..Self::default() };
        }
    }

    /// The part to send next.
    pub fn front(&self) -> Option<&[Piece]> {
        self.waiting.front().map(Vec::as_slice)
    }

    /// The part in front is there. `rejected`: what of it the server left out, in its own units.
    pub fn took(&mut self, batch: &Batch, bytes: u64, rejected: u64, text: &str) {
        self.bytes += bytes;
        self.taken += self.leave(batch);
        self.is_taking = true;
        if rejected > 0 {
            self.refused += rejected;
            self.first.get_or_insert_with(|| (Failure::Rejected, text.to_owned()));
        }
    }

    /// The part in front will never be there.
    pub fn refuse(&mut self, batch: &Batch, reason: Failure, text: &str) {
        self.refused += self.leave(batch);
        self.first.get_or_insert_with(|| (reason, text.to_owned()));
    }

    /// The part in front is too large: puts two halves in its place. A single stack has no halves and is
    /// refused.
    pub fn halve(&mut self, batch: &Batch, text: &str) {
        let Some(part) = self.waiting.front() else { return };
        match halves(part) {
            Some([first, second]) => {
                self.waiting[0] = first;
                self.waiting.insert(1, second);
                self.doubts = 0;
            }
            None => self.refuse(batch, Failure::TooLarge, text),
        }
    }

    /// The server finds the part in front, a request of `length` bytes, too large. Halves it, or gives the
    /// answer for now.
    ///
    /// There are proxies that say so to everything. So below [`REQUEST_BYTES_MIN`] it is believed only of a
    /// server that takes other parts: those come first in the next attempt. When that does not help, all
    /// that is left is refused.
    pub fn too_large(&mut self, batch: &Batch, length: usize, text: &str) -> Option<Answer> {
        let is_single = self.waiting.front().is_some_and(|part| halves(part).is_none());
        if length > REQUEST_BYTES_MIN || self.is_taking {
            self.is_taking &= !is_single;
            self.halve(batch, text);
            return None;
        }
        let doubts = self.doubts + 1;
        if doubts >= DOUBTS_MAX {
            let text = format!("the server found all of it too large {DOUBTS_MAX} times: {text}");
            while self.front().is_some() {
                self.refuse(batch, Failure::TooLarge, &text);
            }
            return None;
        }
        if !is_single {
            self.halve(batch, text);
        }
        self.doubts = doubts;
        self.waiting.rotate_left(1);
        Some(Answer::Later { reason: Failure::TooLarge, after: None, text: text.to_owned() })
    }

    /// The server failed at the part in front. Gives the answer for now, or refuses the part when
    /// that has happened too often.
    pub fn doubt(&mut self, batch: &Batch, text: String) -> Option<Answer> {
        self.doubts += 1;
        if self.doubts < DOUBTS_MAX {
            return Some(Answer::Later { reason: Failure::Unavailable, after: None, text });
        }
        let text = format!("the server failed at it {DOUBTS_MAX} times: {text}");
        self.refuse(batch, Failure::Rejected, &text);
        None
    }

    /// The answer when no part is left.
    pub fn answer(&self) -> Answer {
        match &self.first {
            None => Answer::Delivered { bytes: self.bytes },
            Some((reason, text)) if self.taken == 0 => {
                Answer::Refused { reason: *reason, text: text.clone() }
            }
            Some((_, text)) => {
                Answer::Partly { bytes: self.bytes, rejected: self.refused, text: text.clone() }
            }
        }
    }

    /// Takes the part in front away and counts its samples.
    fn leave(&mut self, batch: &Batch) -> u64 {
        self.doubts = 0;
        let part = self.waiting.pop_front().unwrap_or_default();
        let Some(place) = batch.value_index("samples", "count") else { return 0 };
        let samples = part.iter().flat_map(|piece| &piece.samples);
        let values =
            samples.filter_map(|sample| batch.profile.sample.get(*sample)?.value.get(place));
        values.fold(0, |sum, value| sum.saturating_add((*value).max(0) as u64))
    }
}

/// Cuts a part in two with about as many samples, between series if it has several.
fn halves(part: &[Piece]) -> Option<[Vec<Piece>; 2]> {
    match part {
        [] => None,
        [piece] if piece.samples.len() < 2 => None,
        [piece] => {
            let (first, second) = piece.samples.split_at(piece.samples.len() / 2);
            let half = |samples: &[usize]| {
                vec![Piece { labels: piece.labels.clone(), samples: samples.to_vec() }]
            };
            Some([half(first), half(second)])
        }
        pieces => {
            let all: usize = pieces.iter().map(|piece| piece.samples.len()).sum();
            let mut before = 0;
            let fits = |piece: &&Piece| {
                before += piece.samples.len();
                before <= all / 2
            };
            let middle = pieces.iter().take_while(fits).count().clamp(1, pieces.len() - 1);
            let (first, second) = pieces.split_at(middle);
            Some([first.to_vec(), second.to_vec()])
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::batch::tests::batch;

    fn pieces(sizes: &[usize]) -> Vec<Piece> {
        let mut next = 0;
        let mut piece = |size: &usize| {
            let samples = (next..next + size).collect();
            next += size;
            Piece { labels: Arc::default(), samples }
        };
        sizes.iter().map(&mut piece).collect()
    }

    fn four() -> Batch {
        batch(7, &[(&[], 1), (&[], 2), (&[], 4), (&[], 8)])
    }

    fn sizes(part: &[Piece]) -> Vec<usize> {
        part.iter().map(|piece| piece.samples.len()).collect()
    }

    #[test]
    fn halves_have_about_as_many_samples() {
        let of =
            |sizes_of: &[usize]| halves(&pieces(sizes_of)).map(|halves| halves.map(|h| sizes(&h)));
        assert_eq!(of(&[1, 1, 1, 1]), Some([vec![1, 1], vec![1, 1]]));
        assert_eq!(of(&[10, 1, 1]), Some([vec![10], vec![1, 1]]));
        assert_eq!(of(&[1, 1, 10]), Some([vec![1, 1], vec![10]]));
        assert_eq!(of(&[5]), Some([vec![2], vec![3]]));
        assert_eq!(of(&[1]), None);
    }

    #[test]
    fn what_is_there_is_not_sent_again() {
        let batch = four();
        let mut parts = Parts::default();
        parts.begin(&batch, || pieces(&[2, 2]));
        parts.halve(&batch, "too large");
        parts.took(&batch, 100, 0, "");
        // The attempt ends here; the next begins.
        parts.begin(&batch, || panic!("it is the same batch"));
        assert_eq!(parts.front().unwrap()[0].samples, [2, 3]);
        parts.took(&batch, 50, 0, "");
        assert!(parts.front().is_none());
        assert_eq!(parts.answer(), Answer::Delivered { bytes: 150 });
        let of_another_machine = self::batch(7, &[(&[("node", "b")], 15)]);
        parts.begin(&of_another_machine, || pieces(&[1]));
        assert!(parts.front().is_some());
    }

    #[test]
    fn a_stack_that_is_too_large_alone_is_refused_and_the_rest_is_not() {
        let batch = four();
        let mut parts = Parts::default();
        parts.begin(&batch, || pieces(&[2, 2]));
        for _ in 0..2 {
            parts.halve(&batch, "413");
        }
        parts.halve(&batch, "413");
        for _ in 0..2 {
            parts.took(&batch, 1, 0, "");
        }
        assert_eq!(parts.answer(), Answer::Partly { bytes: 2, rejected: 1, text: "413".into() });
    }

    #[test]
    fn who_finds_everything_too_large_is_believed_after_ten_times() {
        let batch = four();
        let mut parts = Parts::default();
        for attempt in 1..=DOUBTS_MAX {
            parts.begin(&batch, || pieces(&[4]));
            let answer = parts.too_large(&batch, 1_000, "413");
            let is_later = matches!(answer, Some(Answer::Later { reason: Failure::TooLarge, .. }));
            assert_eq!(is_later, attempt < DOUBTS_MAX);
        }
        let Answer::Refused { reason, text } = parts.answer() else { panic!("not refused") };
        assert_eq!(reason, Failure::TooLarge);
        assert!(text.contains("10 times"), "{text}");
    }

    #[test]
    fn who_takes_another_part_is_believed_that_one_is_too_large() {
        let batch = four();
        let mut parts = Parts::default();
        parts.begin(&batch, || pieces(&[4]));
        assert!(parts.too_large(&batch, 1_000, "413").is_some());
        assert_eq!(parts.front().unwrap()[0].samples, [2, 3], "the other half goes first");
        parts.took(&batch, 1, 0, "");
        for samples in [vec![0, 1], vec![0]] {
            assert_eq!(parts.front().unwrap()[0].samples, samples);
            assert_eq!(parts.too_large(&batch, 1_000, "413"), None);
        }
        assert!(parts.too_large(&batch, 1_000, "413").is_some(), "nothing was taken since");
        parts.took(&batch, 1, 0, "");
        assert_eq!(parts.answer(), Answer::Partly { bytes: 2, rejected: 1, text: "413".into() });
    }

    #[test]
    fn a_large_request_is_halved_at_once() {
        let batch = four();
        let mut parts = Parts::default();
        parts.begin(&batch, || pieces(&[4]));
        assert_eq!(parts.too_large(&batch, REQUEST_BYTES_MIN + 1, "413"), None);
        assert_eq!(smaller(9 << 20, 2 << 20), 1 << 20);
        assert_eq!(smaller(9 << 20, 70_000), REQUEST_BYTES_MIN);
        assert_eq!(smaller(9 << 20, 1_000), 9 << 20, "that says nothing of the size");
    }

    #[test]
    fn what_the_server_left_out_of_a_part_is_counted() {
        let batch = four();
        let mut parts = Parts::default();
        parts.begin(&batch, || pieces(&[4]));
        parts.took(&batch, 9, 3, "label too long");
        let expected = Answer::Partly { bytes: 9, rejected: 3, text: "label too long".into() };
        assert_eq!(parts.answer(), expected);
    }

    #[test]
    fn a_server_that_always_fails_at_a_batch_is_spared_it_in_the_end() {
        let batch = four();
        let mut parts = Parts::default();
        for attempt in 1..=DOUBTS_MAX {
            parts.begin(&batch, || pieces(&[4]));
            let answer = parts.doubt(&batch, "INTERNAL".into());
            assert_eq!(answer.is_none(), attempt == DOUBTS_MAX);
        }
        let Answer::Refused { reason, text } = parts.answer() else { panic!("not refused") };
        assert_eq!(reason, Failure::Rejected);
        assert!(text.contains("10 times"), "{text}");
    }
}
