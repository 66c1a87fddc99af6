//! JSON of speedscope: one profile of counted stacks, rooted in their processes.
//!
//! Source: `src/lib/file-format-spec.ts` of speedscope.

use std::io::{self, Write};

use indexmap::IndexSet;
use profile::Profile;
use serde::Serialize;

use super::StackRoot;
use super::folded::root_names;
use super::named_frame::{functions_of, markers, shown};

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'a str,
    shared: Shared,
    profiles: [SampledProfile<'a>; 1],
    name: &'a str,
    active_profile_index: u32,
    exporter: &'a str,
}

#[derive(Serialize)]
struct Shared {
    frames: Vec<Frame>,
}

/// A function. The viewer takes two frames of one function for two functions, so that frames have
/// no line.
#[derive(Serialize, PartialEq, Eq, Hash)]
struct Frame {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SampledProfile<'a> {
    r#type: &'a str,
    name: &'a str,
    unit: &'a str,
    start_value: u64,
    end_value: u64,
    samples: Vec<Vec<u32>>,
    weights: Vec<u64>,
}

/// Writes a profile. Weights are nanoseconds of CPU time. `title`: what the profile is of.
///
/// # Errors
/// Those of `out`.
pub(super) fn write(
    profile: &Profile,
    root: StackRoot,
    title: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut frames = Frames::default();
    let samples = profile.samples.iter().map(|sample| {
        let mut stack = Vec::new();
        for name in root_names(profile, sample, root) {
            stack.push(frames.add(&name, None));
        }
        stack.extend(markers(sample).map(|marker| frames.add(&marker, None)));
        for frame in profile.frames_of(sample).rev() {
            for function in functions_of(profile, frame).rev() {
                let file = match function.file {
                    "" => &function.mapping.name,
                    file => file,
                };
                stack.push(frames.add(&function.text(), Some(file)));
            }
        }
        stack
    });
    let samples: Vec<Vec<u32>> = samples.collect();
    let weight = |count: u64| count.saturating_mul(profile.period_ns);
    let weights: Vec<u64> = profile.samples.iter().map(|sample| weight(sample.count)).collect();
    let file = File {
        schema: SCHEMA,
        shared: Shared { frames: frames.0.into_iter().collect() },
        profiles: [SampledProfile {
            r#type: "sampled",
            name: title,
            unit: "nanoseconds",
            start_value: 0,
            end_value: weights.iter().sum(),
            samples,
            weights,
        }],
        name: title,
        active_profile_index: 0,
        exporter: concat!("everytick@", env!("CARGO_PKG_VERSION")),
    };
    serde_json::to_writer(out, &file)?;
    Ok(())
}

/// The distinct frames.
#[derive(Default)]
struct Frames(IndexSet<Frame>);

impl Frames {
    fn add(&mut self, name: &str, file: Option<&str>) -> u32 {
        let file = file.map(|file| shown(file).into_owned());
        self.0.insert_full(Frame { name: shown(name).into_owned(), file }).0 as u32
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::RuntimeFrames;
    use super::super::folded::tests::example;
    use super::super::runtime_frames::tests::python_example;
    use super::*;

    #[test]
    fn python_functions_have_their_place() {
        let mut json = Vec::new();
        let profile = RuntimeFrames::Hide.of(&python_example()).into_owned();
        write(&profile, StackRoot::Process, "a title", &mut json).expect("written");
        let json: Value = serde_json::from_slice(&json).expect("JSON");
        let work = json!({ "name": "App.work (app.py:5)", "file": "/srv/app.py" });
        assert_eq!(json["shared"]["frames"][2], work);
        assert_eq!(json["profiles"][0]["samples"], json!([[0, 1, 2, 3], [0, 4, 5]]));
        assert_eq!(json["shared"]["frames"][5], json!({ "name": "[python]", "file": "[python]" }));
    }

    #[test]
    fn stacks_are_rooted_in_processes_and_weigh_cpu_time() {
        let mut json = Vec::new();
        write(&example(), StackRoot::Process, "a title", &mut json).expect("written");
        let json: Value = serde_json::from_slice(&json).expect("JSON");
        let frames = json["shared"]["frames"].as_array().expect("an array");
        let names: Vec<&Value> = frames.iter().map(|frame| &frame["name"]).collect();
        let expected = ["p;q", "app+0x1234", "outer", "inner", "vfs_read", "[cut: no unwind row]"];
        assert_eq!(names, expected);
        assert_eq!(frames[4], json!({ "name": "vfs_read", "file": "[kernel.kallsyms]" }));
        let profile = &json["profiles"][0];
        assert_eq!(profile["samples"], json!([[0, 1, 2, 3, 4], [0, 5, 1]]));
        assert_eq!(profile["weights"], json!([10_101_010, 10_101_010]));
        assert_eq!((&profile["unit"], &json["name"]), (&json!("nanoseconds"), &json!("a title")));
    }
}
