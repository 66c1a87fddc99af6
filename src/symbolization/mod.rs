//! Names the frames of closed windows. A frame stays an address where nothing better is known, and
//! has its executable and its address; the profile never fails as a whole.
//!
//! 1. Frames are grouped by executable, so that each file is read for all its addresses at once.
//! 2. [`WindowSymbolizer`] looks each address up in its cache; the symbolizer, a worker process,
//!    is asked for the rest. Owners take turns, and executables that are known to be slow come
//!    last, so that a few files do not keep the others from having names.
//! 3. Debug info that is missing is requested from servers, if so configured (`crate::debuginfod`).
//!    A window does not wait for it: when it is there, the executable is symbolized again.
//! 4. The functions found become the tables of a [`Profile`], as far as their bytes allow.

mod accounts;
mod cache;
mod client;
mod comments;
mod debug_info_requests;
mod file_key;
mod groups;
mod limits;
mod mode;
mod name_space;
mod period;
mod profile_builder;
mod reason;
mod refusals;
mod window_symbolizer;

use std::collections::VecDeque;

use profile::{CaptureLedger, MappingKind, Profile, SymbolizedFrame, Window};

use crate::processes::WindowExecutables;
pub use client::{SymbolizeError, TimeLimit, serve};
pub use comments::{capture_context, comments, host_name, quality};
pub use groups::AddressGroup;
use groups::{group_by_executable, loading_order};
pub use limits::{FileLimits, SymbolizerLimits, SymbolizerMemory};
pub use mode::SymbolizeMode;
use name_space::NameSpace;
pub use period::Period;
use profile_builder::{GroupNames, ProfileBuilder};
pub use reason::{NameCounts, UnsymbolizedReason};
pub use symbolizer::KernelAccess;
pub use window_symbolizer::WindowSymbolizer;

/// Attempts at an executable in one window: in a short time, by its debug info, by its symbols.
const ATTEMPTS_MAX: u8 = 3;

/// An executable whose frames have no symbols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsymbolizedExecutable {
    /// The executable.
    pub executable: Box<str>,
    /// Why.
    pub reason: SymbolizeError,
}

/// What the names of a window lack.
#[derive(Clone, Debug, Default)]
pub struct WindowNames {
    /// Executables whose frames have no symbols.
    pub failed: Vec<UnsymbolizedExecutable>,
    /// Frames with and without a symbol.
    pub counts: NameCounts,
}

/// Symbolizes a window; also returns what its names lack.
pub fn symbolize(
    window: &Window,
    ledger: CaptureLedger,
    period: Period,
    executables: &WindowExecutables,
    symbolizer: &mut WindowSymbolizer,
) -> (Profile, WindowNames) {
    symbolizer.renew();
    let groups = group_by_executable(window);
    let of_window = executables;
    let executables: Vec<_> = groups.iter().map(|group| of_window.get(group.executable)).collect();
    let traits: Vec<_> = groups
        .iter()
        .zip(&executables)
        .map(|(group, executable)| symbolizer.traits(group.executable, executable, group.cgroup))
        .collect();
    let mut space = NameSpace::new(symbolizer.names_max());
    let mut builder =
        ProfileBuilder::new(window, groups.iter().zip(executables.iter().map(|one| &***one)));
    let mut failed = Vec::new();
    let mut attempts = vec![0; groups.len()];
    let mut order = VecDeque::from(loading_order(&groups, &traits));
    while let Some(index) = order.pop_front() {
        let (group, executable) = (&groups[index], executables[index]);
        let code_names = group.code_names(of_window);
        let addresses = group.addresses_without(&code_names);
        let mut names = space.of_executable(traits[index].owner);
        let result = symbolizer.load(&AddressGroup {
            id: group.executable,
            executable,
            cgroup: group.cgroup,
            samples: group.leaf_samples,
            addresses: &addresses,
            names_max: names.left(),
        });
        attempts[index] += 1;
        if matches!(&result, Err(error) if error.has_another_way())
            && attempts[index] < ATTEMPTS_MAX
        {
            order.push_back(index); // after those that were not tried yet
            continue;
        }
        let knows_kernel_code = of_window.knows_kernel_code;
        let found =
            GroupNames { executable, code_names: &code_names, knows_kernel_code, result: &result };
        builder.add_frames(index, group, &found, &mut names, symbolizer);
        if let Err(reason) = result
            && reason != SymbolizeError::NotWanted
        {
            failed.push(UnsymbolizedExecutable { executable: executable.name.clone(), reason });
        }
    }
    symbolizer.end_window(&mut builder.counts);
    let names = WindowNames { failed, counts: builder.counts };
    (builder.finish(window, ledger, period), names)
}

/// Returns whether a profile has kernel frames and none of them has a symbol: the kernel hides
/// them.
pub fn is_kernel_unsymbolized(profile: &Profile) -> bool {
    let is_kernel =
        |frame: &&SymbolizedFrame| profile.mapping_of(frame).kind == MappingKind::Kernel;
    let mut frames = profile.frames.iter().filter(is_kernel).peekable();
    frames.peek().is_some() && frames.all(|frame| frame.lines.is_empty())
}
