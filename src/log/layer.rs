//! The layer of the subscriber that queues a line for each event.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::counts::SUPPRESSED;
use super::event::LogEvent;
use super::pipeline::LogPipeline;

/// Queues a line for each event, unless it repeats one of the last minute.
pub(super) struct LogLayer(pub Arc<LogPipeline>);

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let LogPipeline { style, throttle, queue } = &*self.0;
        let site = event.metadata().callsite();
        match throttle.admit(site, LogEvent::of(event), Instant::now()) {
            Some(event) => queue.push(style.format(&event), *style),
            None => {
                SUPPRESSED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
