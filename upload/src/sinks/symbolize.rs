//! Who finds the names of functions: the agent, or the server by debug info that it is sent.

use std::collections::HashSet;

use profile::pprof::proto as pb;

use crate::batch::text_at;

crate::config! {
    /// Which side symbolizes, that is, finds the names of functions.
    pub enum Symbolize {
        /// The agent: all frames are sent with their names.
        Agent = "agent",
        /// The server: frames in files with a build ID are sent as addresses. Frames of the kernel, of JIT compilers
        /// and in files without a build ID keep the agent's names, because no server can find them.
        Server = "server",
    }
}

/// Takes the names of frames away that lie in a file with a build id: servers name those that have none.
pub(crate) fn leave_names_to_server(profile: &mut pb::Profile) {
    let is_nameable = |mapping: &pb::Mapping| {
        let name = text_at(profile, mapping.filename);
        !text_at(profile, mapping.build_id).is_empty() && !name.starts_with('[')
    };
    let ids: HashSet<u64> =
        profile.mapping.iter().filter(|mapping| is_nameable(mapping)).map(|m| m.id).collect();
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
