//! The sink for Pyroscope: its push service, by HTTP.
//!
//! The series of a batch are sent in a few requests of several profiles each. The server tries each
//! profile on its own, so a failed request may have arrived in part. Profiles that the response
//! names as failed are sent again, each in a request of its own, whose response then counts for it
//! alone. Profiles that are known to have arrived are never sent twice.
//!
//! With [`Symbolize::Server`](super::Symbolize) frames in files with a build ID are sent without
//! names, and Pyroscope symbolizes them with the debug info that is uploaded beside the profiles.
//!
//! Needs Pyroscope 1.0 or newer, or a compatible server. Its limits are in [`Limits`].
//!
//! Source: `push.v1` of Pyroscope 2.2; the Connect protocol for unary calls.

mod config;
mod debug_info;
mod encode;
mod labels;
#[rustfmt::skip]
#[allow(dead_code, reason = "generated")]
mod proto;
mod rate_limiter;
mod retry;

use std::sync::Arc;

use prost::Message;

use super::send_plan::{Acceptance, SendPlan};
use crate::batch::{Answer, Batch, Failure};
use crate::config::ConfigError;
use crate::debug_info::{DebugInfoSource, Uploader};
use crate::transport::{Disposition, FailedRequest, Http, ResponseCounts, shorten};
use encode::{Content, EncodedProfile, Encoder};
use rate_limiter::RateLimiter;
use retry::{PushResult, is_outside_window, judge};

pub use config::{Config, Limits};

/// The call of the push service.
const PATH: &str = "/push.v1.PusherService/Push";
/// Most profiles in one request, so that the text that names failed ones stays short. The server
/// itself tries 256 at once.
const PROFILES_MAX: usize = 64;

/// Sends batches to one Pyroscope.
pub struct Sink {
    http: Http,
    limits: Limits,
    content: Content,
    uploader: Option<Uploader>,
    rate_limiter: RateLimiter,
    plan: SendPlan,
    has_warned_of_window: bool,
}

impl Sink {
    /// Checks the configuration; connects to nothing. Must be called within a tokio runtime, on
    /// which debug info of `debug_info` is uploaded from now on.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(
        config: &Config,
        debug_info: Option<&Arc<dyn DebugInfoSource>>,
    ) -> Result<Self, ConfigError> {
        let limits = config.limits.clone();
        let source = debug_info.filter(|_| config.uploads_debug_info());
        let uploader = source.map(|source| debug_info::start(&config.connection, source));
        Ok(Self {
            http: Http::new(&config.connection)?,
            content: Content { sample_labels: config.sample_labels, symbolize: config.symbolize },
            uploader: uploader.transpose()?,
            rate_limiter: RateLimiter::new(limits.bytes_per_second, limits.burst_bytes),
            limits,
            plan: SendPlan::new(Acceptance::PerPiece),
            has_warned_of_window: false,
        })
    }

    /// Returns the server's responses since the last call, by code.
    pub fn take_responses(&mut self) -> ResponseCounts {
        self.http.take_responses()
    }

    /// Sends what the server does not have yet of a batch.
    pub async fn send(&mut self, batch: &Batch) -> Answer {
        let limits = self.limits.clone();
        if let Some(uploader) = &self.uploader {
            uploader.offer(batch);
        }
        let Some(encoder) = Encoder::new(batch, &limits, self.content) else {
            let text = "the batch has no cpu/nanoseconds".to_owned();
            return Answer::Rejected { reason: Failure::Defect, text };
        };
        self.plan.begin(batch, || encoder.pieces());
        while self.plan.front().is_some() {
            let profiles = self.encode_front(&encoder);
            if profiles.is_empty() {
                continue; // all of it was rejected
            }
            let result = self.push(&profiles).await;
            if let Some(answer) = self.follow(result, &profiles) {
                return answer;
            }
        }
        self.answer(encoder.losses())
    }

    /// Encodes as many pieces of the front request as fit, and leaves the others for the next.
    fn encode_front(&mut self, encoder: &Encoder) -> Vec<EncodedProfile> {
        let (mut profiles, mut bytes) = (Vec::new(), 0);
        while profiles.len() < PROFILES_MAX
            && let Some(piece) = self.plan.front().and_then(|pieces| pieces.get(profiles.len()))
        {
            let Some(profile) = encoder.profile(piece) else {
                let text = "a single stack is larger than the server takes";
                self.plan.split_piece(profiles.len(), text);
                continue;
            };
            bytes += profile.bytes();
            if bytes > self.limits.burst_bytes as usize && !profiles.is_empty() {
                break;
            }
            profiles.push(profile);
        }
        self.plan.shorten_front(profiles.len());
        profiles
    }

    /// Sends one request.
    async fn push(&mut self, profiles: &[EncodedProfile]) -> PushResult {
        self.rate_limiter.take(profiles.iter().map(EncodedProfile::bytes).sum()).await;
        let body = encode::request(profiles).encode_to_vec();
        let result = self.http.post(PATH, "application/proto", body.into()).await;
        self.rate_limiter.response_received();
        match result {
            Ok(reply) => {
                self.plan.add_sent_bytes(reply.sent_bytes);
                judge(&reply, profiles.len())
            }
            Err(error) => PushResult::Failed(FailedRequest {
                disposition: Disposition::Retry(error.reason()),
                after: None,
                text: error.to_string(),
            }),
        }
    }

    /// Follows the result of a request. Returns an answer if that ends the attempt.
    fn follow(&mut self, result: PushResult, profiles: &[EncodedProfile]) -> Option<Answer> {
        let failed = match result {
            PushResult::Accepted => {
                self.plan.accepted(0, 0, "");
                return None;
            }
            PushResult::AcceptedExcept(ids) => {
                self.plan.accepted_except(&failed_indices(&ids, profiles));
                return None;
            }
            PushResult::Failed(failed) => failed,
        };
        match failed.disposition {
            Disposition::Retry(Failure::Throttled) => self.rate_limiter.drain(),
            Disposition::Reject(reason)
                if profiles.len() == 1 && is_outside_window(&failed.text) =>
            {
                self.warn_of_window(&failed.text);
                self.plan.reject_all(reason, &failed.text);
                return None;
            }
            _ => {}
        }
        self.plan.failed(failed, profiles.iter().map(EncodedProfile::bytes).sum())
    }

    /// Returns the answer when no request is left. `losses`: what the server's limits cost.
    fn answer(&self, losses: Option<String>) -> Answer {
        let with_losses = |text: String| match &losses {
            Some(losses) => shorten(&format!("{text}; {losses}")),
            None => shorten(&text),
        };
        match self.plan.answer() {
            Answer::Delivered { bytes } => match losses {
                Some(losses) => Answer::Partly { bytes, rejected: 0, text: shorten(&losses) },
                None => Answer::Delivered { bytes },
            },
            Answer::Partly { bytes, rejected, text } => {
                Answer::Partly { bytes, rejected, text: with_losses(text) }
            }
            Answer::Rejected { text, .. } => {
                Answer::Rejected { reason: Failure::Rejected, text: with_losses(text) }
            }
            later => later,
        }
    }

    /// Warns once: old windows are rejected after a long outage, and all where a clock is wrong.
    fn warn_of_window(&mut self, text: &str) {
        if !self.has_warned_of_window {
            tracing::warn!(
                "Pyroscope rejects windows outside its ingestion window; they are lost: {text}; \
                 compare the clocks of this machine and the server"
            );
            self.has_warned_of_window = true;
        }
    }
}

/// Returns which profiles have these IDs. An ID that was not sent makes all of them doubtful.
fn failed_indices(ids: &[String], profiles: &[EncodedProfile]) -> Vec<usize> {
    let is_sent = |id: &String| profiles.iter().any(|profile| profile.id == *id);
    let are_ours = ids.iter().all(is_sent);
    let has_failed = |profile: &EncodedProfile| !are_ours || ids.contains(&profile.id);
    let indices = profiles.iter().enumerate().filter(|(_, profile)| has_failed(profile));
    indices.map(|(index, _)| index).collect()
}
