//! Pages as they were built last: each is built once a second at most, whatever is requested.
//!
//! A page is built on another thread than that of the connections. If it takes long, requests wait
//! for the same build, and are answered with 503 after a while.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync;
use tokio::task::{self, JoinHandle};
use tokio::time;

use super::page::{Handler, Page, PagePath};
use crate::limits::TimeShare;

/// Time for which a page is answered again.
const LIFETIME: Duration = Duration::from_secs(1);
/// Time that a request waits for its page.
pub(super) const BUILD_TIME: Duration = Duration::from_secs(5);

/// The pages, and their builder.
pub(super) struct PageCache {
    handler: Arc<Handler>,
    cpu: Arc<Mutex<TimeShare>>,
    pages: Vec<(PagePath, sync::Mutex<CachedPage>)>,
}

/// A page as it was built last, and as it is being built.
#[derive(Default)]
struct CachedPage {
    built: Option<(Instant, Page)>,
    build: Option<JoinHandle<Page>>,
}

impl PageCache {
    pub fn new(paths: &[PagePath], handler: Arc<Handler>, cpu: Arc<Mutex<TimeShare>>) -> Self {
        let pages = paths.iter().map(|path| (*path, sync::Mutex::default())).collect();
        Self { handler, cpu, pages }
    }

    /// Returns the path if it is offered.
    pub fn find(&self, path: &str) -> Option<PagePath> {
        self.pages.iter().map(|(offered, _)| *offered).find(|offered| offered.path == path)
    }

    /// Returns the page at an offered path.
    pub async fn page(&self, path: PagePath) -> Page {
        let Some((_, cached)) = self.pages.iter().find(|(offered, _)| offered.path == path.path)
        else {
            return Page::text(404, "There is no such page; / lists the pages.\n");
        };
        // A request that has waited for the lock finds the page that was built meanwhile.
        let mut cached = cached.lock().await;
        if let Some((at, page)) = &cached.built
            && at.elapsed() < LIFETIME
        {
            return page.clone();
        }
        let build = cached.build.get_or_insert_with(|| self.start_build(path));
        let Ok(built) = time::timeout(BUILD_TIME, build).await else {
            return Page::text(503, "The page could not be built in time.\n");
        };
        cached.build = None;
        let page = built.unwrap_or_else(|_| Page::text(500, "The page could not be built.\n"));
        cached.built = Some((Instant::now(), page.clone()));
        page
    }

    fn start_build(&self, path: PagePath) -> JoinHandle<Page> {
        let (handler, cpu) = (Arc::clone(&self.handler), Arc::clone(&self.cpu));
        task::spawn_blocking(move || {
            let before = thread_cpu();
            let page = handler(path.path);
            charge(&cpu, thread_cpu().saturating_sub(before));
            page
        })
    }
}

/// Returns the CPU time of the calling thread.
pub(super) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Takes CPU time from the server's share.
pub(super) fn charge(cpu: &Mutex<TimeShare>, used: Duration) {
    cpu.lock().unwrap_or_else(PoisonError::into_inner).charge(used, Instant::now());
}
