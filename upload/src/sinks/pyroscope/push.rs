//! Sends a batch's pieces, and does what the answers say.

use std::collections::VecDeque;
use std::sync::Arc;

use prost::Message;

use super::encode::{Piece, Pieces, With};
use super::pace::Pace;
use super::progress::Progress;
use super::proto::{PushRequest, RawProfileSeries, RawSample};
use super::verdict::{Verdict, is_outside_window, judge, names_its_limit};
use super::{Config, Limits, debug_info};
use crate::batch::{Answer, Batch, Failure};
use crate::debug_info::DebugInfoSource;
use crate::debug_info::Uploader;
use crate::sinks::StartError;
use crate::sinks::parts::REQUEST_BYTES_MIN;
use crate::transport::{Http, Reply};

/// The call of the push service.
const PATH: &str = "/push.v1.PusherService/Push";
/// Most profiles in one request, so that the text that names those that failed stays short.
/// The server itself tries 256 at once.
const GROUP_MAX: usize = 64;

/// Sends batches to one Pyroscope.
pub struct Sink {
    http: Http,
    limits: Limits,
    with: With,
    uploader: Option<Uploader>,
    pace: Pace,
    progress: Progress,
    has_warned_of_window: bool,
}

/// Pieces on their way: those of the batch, before them those that must go alone, and after them those that
/// the server stumbled over before, so that these hold up no others.
struct Queue<'a> {
    alone: VecDeque<Piece>,
    pieces: Pieces<'a>,
    last: VecDeque<Piece>,
}

impl Sink {
    /// Checks the settings; sends nothing. To be called within a runtime of tokio, on which debug info is
    /// uploaded from then on if `debug_info` has any.
    ///
    /// # Errors
    /// What is wrong with the config.
    pub fn new(
        config: &Config,
        debug_info: Option<&Arc<dyn DebugInfoSource>>,
    ) -> Result<Self, StartError> {
        let limits = config.limits.clone();
        let source = debug_info.filter(|_| config.uploads_debug_info());
        let uploader = source.map(|source| debug_info::start(&config.connection, source));
        Ok(Self {
            http: Http::new(&config.connection)?,
            with: With { sample_labels: config.sample_labels, symbolize: config.symbolize },
            uploader: uploader.transpose()?,
            pace: Pace::new(limits.bytes_per_second, limits.burst_bytes),
            limits,
            progress: Progress::default(),
            has_warned_of_window: false,
        })
    }

    /// Sends what is not there yet of a batch.
    pub async fn send(&mut self, batch: &Batch) -> Answer {
        self.progress.begin(batch);
        let limits = self.limits.clone();
        if let Some(uploader) = &self.uploader {
            uploader.offer(batch);
        }
        let pieces = match Pieces::new(batch, &limits, self.with) {
            Ok(pieces) => pieces,
            Err(error) => {
                return Answer::Refused { reason: Failure::Protocol, text: error.to_string() };
            }
        };
        let mut queue = Queue { alone: VecDeque::new(), pieces, last: VecDeque::new() };
        loop {
            let group = self.next_group(&mut queue);
            if group.is_empty() {
                return self.progress.answer(&queue.pieces);
            }
            let verdict = self.push(&group).await;
            if let Some(answer) = self.follow(verdict, group, &mut queue, batch) {
                return answer;
            }
        }
    }

    /// The pieces of the next request; none when all is settled.
    fn next_group(&mut self, queue: &mut Queue) -> Vec<Piece> {
        if let Some(piece) = queue.alone.pop_front() {
            return vec![piece];
        }
        let most = if self.progress.alone { 1 } else { GROUP_MAX };
        let room = usize::try_from(self.limits.burst_bytes).unwrap_or(usize::MAX);
        let (mut group, mut bytes) = (Vec::new(), 0);
        while group.len() < most
            && let Some(piece) = self.next_piece(queue)
        {
            bytes += piece.bytes();
            if bytes > room && !group.is_empty() {
                queue.pieces.put_back(piece);
                break;
            }
            group.push(piece);
        }
        if group.is_empty() {
            group.extend(queue.last.pop_front());
        }
        group
    }

    /// The next piece that can be sent.
    fn next_piece(&mut self, queue: &mut Queue) -> Option<Piece> {
        for piece in queue.pieces.by_ref() {
            if piece.is_too_large {
                self.progress.refuse(&piece, "a single stack is larger than the server takes");
            } else if self.progress.is_broken(&piece) && !self.progress.is_settled(&piece) {
                queue.last.push_back(piece);
            } else if !self.progress.is_settled(&piece) {
                return Some(piece);
            }
        }
        None
    }

    /// Sends one request.
    async fn push(&mut self, group: &[Piece]) -> Verdict {
        self.pace.take(group.iter().map(Piece::bytes).sum()).await;
        let body = request(group).encode_to_vec();
        let result = self.http.post(PATH, "application/proto", body.into()).await;
        self.pace.answered();
        match result {
            Ok(Reply { status, retry_after, body, sent_bytes, .. }) => {
                self.progress.sent(sent_bytes);
                judge(status, retry_after, &body, group.len())
            }
            Err(error) => {
                Verdict::Later { reason: error.reason(), after: None, text: error.to_string() }
            }
        }
    }

    /// Does what the verdict on a request says. Gives the answer if that ends this attempt.
    fn follow(
        &mut self,
        verdict: Verdict,
        group: Vec<Piece>,
        queue: &mut Queue,
        batch: &Batch,
    ) -> Option<Answer> {
        match verdict {
            Verdict::Taken => group.iter().for_each(|piece| self.progress.take(piece)),
            Verdict::Failed(ids) => self.sort_out(&ids, group, queue),
            Verdict::Later { reason, after, text } => {
                self.progress.alone = reason != Failure::Unreachable;
                if reason == Failure::Throttled {
                    self.pace.empty();
                }
                return Some(Answer::Later { reason, after, text });
            }
            Verdict::Refused(_) | Verdict::TooLarge(_) if group.len() > 1 => {
                queue.alone.extend(group);
            }
            Verdict::Broken(text) => return self.come_again(&group, text),
            Verdict::Refused(text) => {
                group.iter().for_each(|piece| self.progress.refuse(piece, &text));
                if is_outside_window(&text) {
                    self.warn_of_window(&text);
                    self.progress.refuse_rest(batch, &text);
                    return Some(self.progress.answer(&queue.pieces));
                }
            }
            Verdict::TooLarge(text) => {
                for piece in &group {
                    if self.is_in_doubt(piece, &text) {
                        return Some(self.doubt(piece, text, queue, batch));
                    }
                    if !queue.pieces.halve(piece) {
                        self.progress.refuse(piece, &text);
                        self.progress.is_taking = false;
                    }
                }
            }
        }
        None
    }

    /// Comes again with what the server stumbles over, unless that is too often and it takes all others.
    fn come_again(&mut self, group: &[Piece], text: String) -> Option<Answer> {
        if group.iter().all(|piece| self.progress.breaks(piece)) {
            return Some(Answer::Later { reason: Failure::Unavailable, after: None, text });
        }
        group.iter().for_each(|piece| self.progress.refuse(piece, &text));
        None
    }

    /// Whether it may be another reason than its size for which a piece is called too large: there are proxies that
    /// say so to everything.
    fn is_in_doubt(&self, piece: &Piece, text: &str) -> bool {
        let is_small = piece.bytes() <= REQUEST_BYTES_MIN;
        is_small && !self.progress.is_taking && !names_its_limit(text)
    }

    /// Comes again, with other pieces first, or gives the rest of the batch up when that does not help.
    fn doubt(&mut self, piece: &Piece, text: String, queue: &Queue, batch: &Batch) -> Answer {
        if self.progress.doubts(piece) {
            return Answer::Later { reason: Failure::TooLarge, after: None, text };
        }
        self.progress.refuse_rest(batch, &text);
        self.progress.answer(&queue.pieces)
    }

    /// Takes what is not named as failed for delivered; the rest goes alone. Names that were not sent make all
    /// of it doubtful.
    fn sort_out(&mut self, ids: &[String], group: Vec<Piece>, queue: &mut Queue) {
        let is_ours = ids.iter().all(|id| group.iter().any(|piece| piece.id == *id));
        for piece in group {
            match is_ours && !ids.contains(&piece.id) {
                true => self.progress.take(&piece),
                false => queue.alone.push_back(piece),
            }
        }
    }

    /// Old windows are refused after a long outage, and all of them where a clock is wrong.
    fn warn_of_window(&mut self, text: &str) {
        if !self.has_warned_of_window {
            tracing::warn!(
                "Pyroscope takes no profiles of that time, and drops them: {text}; compare the clocks of this \
                 machine and the server"
            );
            self.has_warned_of_window = true;
        }
    }
}

fn request(group: &[Piece]) -> PushRequest {
    let series = |piece: &Piece| RawProfileSeries {
        labels: piece.labels.to_vec(),
        samples: vec![RawSample { raw_profile: piece.raw.clone(), id: piece.id.clone() }],
    };
    PushRequest { series: group.iter().map(series).collect() }
}
