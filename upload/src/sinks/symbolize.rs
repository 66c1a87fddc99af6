//! The choice of which side symbolizes: the agent, or the server with uploaded debug info.

use std::collections::HashSet;

use profile::pprof::proto as pb;

use crate::batch::text_at;

crate::config! {
    /// Which side symbolizes, that is, finds the names of functions.
    pub enum Symbolize {
        /// The agent: all frames are sent with their names.
        Agent = "agent",
        /// The server: frames in files with a build ID are sent as addresses. Frames of the kernel,
        /// of JIT compilers and in files without a build ID keep the agent's names, because no
        /// server can find them.
        Server = "server",
    }
}

/// Removes the names of frames in files with a build ID: servers symbolize frames without names.
pub(crate) fn leave_names_to_server(profile: &mut pb::Profile) {
    let has_build_id = |mapping: &pb::Mapping| {
        let name = text_at(profile, mapping.filename);
        !text_at(profile, mapping.build_id).is_empty() && !name.starts_with('[')
    };
    let ids: HashSet<u64> =
        profile.mapping.iter().filter(|mapping| has_build_id(mapping)).map(|m| m.id).collect();
    for location in &mut profile.location {
        if ids.contains(&location.mapping_id) {
            location.line.clear();
        }
    }
    for mapping in &mut profile.mapping {
        if ids.contains(&mapping.id) {
            mapping.has_functions = false;
            mapping.has_filenames = false;
            mapping.has_line_numbers = false;
            mapping.has_inline_frames = false;
        }
    }
}
