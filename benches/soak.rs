//! A session with many windows, which `benches/soak.py` measures.
//!
//!     cargo bench --bench soak -- SECONDS WINDOW_SECONDS HZ
//!
//! Each window is symbolized and dropped, as if it had been delivered. Prints a line for each:
//! samples, lost samples, complete stacks.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use everytick::kernel::{SamplerConfig, share_heap, trim_heap};
use everytick::session::{ClosedWindow, ScanScope, Session, SessionLimits};
use everytick::symbolization::{self, SymbolizerMemory, WindowSymbolizer};
use profile::StackEnd;

const PROGRAM: &str = env!("CARGO_BIN_EXE_everytick");

fn soak(
    length: Duration,
    window: Duration,
    frequency: u32,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut session = Session::start(
        PROGRAM,
        SamplerConfig::machine(frequency),
        ScanScope::All,
        SessionLimits::default(),
        None,
        None,
    )?;
    let mut symbolizer = WindowSymbolizer::new(PROGRAM, SymbolizerMemory::default());
    let end = Instant::now() + length;
    while Instant::now() < end {
        thread::sleep(window);
        let ClosedWindow { window, ledger, period, executables, .. } = session.close_window()?;
        ledger.check()?;
        let (profile, names) = symbolization::symbolize(
            &window,
            ledger.clone(),
            period,
            &executables,
            &mut symbolizer,
        );
        trim_heap();
        println!(
            "{} samples, {} lost, {} complete, {} stacks, {} executables without symbols",
            ledger.aggregated,
            ledger.lost_total(),
            ledger.user_ends[StackEnd::Complete as usize],
            profile.stacks.len(),
            names.failed.len(),
        );
    }
    session.finish()?.last.ledger.check()?;
    Ok(())
}

fn main() -> ExitCode {
    share_heap();
    let arguments: Vec<u32> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    let [length, window, frequency] = arguments[..] else {
        println!("soak: three numbers are needed: SECONDS WINDOW_SECONDS HZ");
        return ExitCode::FAILURE;
    };
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    match soak(seconds(length), seconds(window), frequency) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}
