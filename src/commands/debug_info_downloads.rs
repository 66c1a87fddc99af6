//! Debug info from servers in a recording: requested when its names are looked up, and waited for,
//! because there is no next window.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use profile::pluralize;

use super::cli::RecordArguments;
use super::stop::StopWatcher;
use super::terminal;
use crate::debuginfod::{Downloads, default_directory, directory_below};
use crate::symbolization::SymbolizeMode;

/// How long lookups are waited for.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Shorter waits are not announced.
const SHORT: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Starts the downloads if servers are given.
pub(super) fn start(arguments: &RecordArguments) -> Result<Option<Arc<Downloads>>> {
    let Some(servers) = &arguments.debuginfod else { return Ok(None) };
    anyhow::ensure!(
        arguments.symbolize != SymbolizeMode::AddressesOnly,
        "--debuginfod is of no use with --symbolize none, which reads no file; use --symbolize \
         names"
    );
    let cache = arguments.cache_dir.as_deref().map(directory_below);
    let directory = cache.or_else(default_directory).context(
        "cannot download debug info: neither $XDG_CACHE_HOME nor $HOME has a directory for files; \
         give one by --cache-dir",
    )?;
    Ok(Some(Arc::new(Downloads::start(servers, &directory)?)))
}

/// Waits until no lookup is pending, for a bounded time and until a signal.
pub(super) fn wait(downloads: &Downloads, stop: &StopWatcher, is_quiet: bool) {
    let start = Instant::now();
    let mut is_announced = is_quiet;
    let _wait = stop.interruptible_wait();
    while !stop.is_wait_interrupted() && start.elapsed() < WAIT_MAX {
        let pending = downloads.counts().pending;
        if pending == 0 {
            return;
        }
        if !is_announced && start.elapsed() >= SHORT {
            let executables = pluralize(pending, "executable", "executables");
            let seconds = WAIT_MAX.as_secs();
            terminal::line(&format!(
                "everytick: waiting up to {seconds} s for debug info of {executables}; Ctrl-C to \
                 go on without"
            ));
            is_announced = true;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
