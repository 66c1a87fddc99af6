//! Synthetic windows with everything that an agent writes: several processes, kernel frames,
//! inlined functions, frames without symbols, a mapping that is split into a symbolized and an
//! unsymbolized half, and cut and guessed stacks.

use std::collections::HashMap;

use profile::pprof::proto as pb;
use upload::Batch;

/// Start of window 0, in nanoseconds since 1970.
pub const START: i64 = 1_790_000_000_000_000_000;
/// Length of a window, in nanoseconds.
pub const DURATION: i64 = 10_000_000_000;
/// Nanoseconds between samples at 19 Hz.
pub const PERIOD: i64 = 52_631_579;
/// Build ID of the executable of all processes.
pub const BUILD_ID: &str = "00112233445566778899aabbccddeeff00112233";

struct ProfileBuilder {
    profile: pb::Profile,
    string_indexes: HashMap<String, i64>,
}

impl ProfileBuilder {
    fn text(&mut self, text: &str) -> i64 {
        let next = self.profile.string_table.len() as i64;
        let index = *self.string_indexes.entry(text.to_owned()).or_insert(next);
        if index == next {
            self.profile.string_table.push(text.to_owned());
        }
        index
    }

    fn value_type(&mut self, quantity: &str, unit: &str) -> pb::ValueType {
        pb::ValueType { r#type: self.text(quantity), unit: self.text(unit) }
    }

    fn mapping(&mut self, name: &str, build_id: &str, has_functions: bool) -> u64 {
        let id = self.profile.mapping.len() as u64 + 1;
        let (filename, build_id) = (self.text(name), self.text(build_id));
        self.profile.mapping.push(pb::Mapping {
            id,
            filename,
            build_id,
            has_functions,
            ..Default::default()
        });
        id
    }

    fn function(&mut self, name: &str) -> u64 {
        let id = self.profile.function.len() as u64 + 1;
        let (system_name, filename) = (self.text(&format!("_Z{name}")), self.text("app.rs"));
        let name = self.text(name);
        self.profile.function.push(pb::Function { id, name, system_name, filename, start_line: 0 });
        id
    }

    fn location(&mut self, mapping_id: u64, address: u64, functions: &[u64]) -> u64 {
        let id = self.profile.location.len() as u64 + 1;
        let line = functions.iter().map(|f| pb::Line { function_id: *f, line: 7 }).collect();
        self.profile.location.push(pb::Location { id, mapping_id, address, line });
        id
    }

    fn sample(&mut self, stack: Vec<u64>, count: i64, labels: &[(&str, &str)]) {
        let mut label = |(key, text): &(&str, &str)| pb::Label {
            key: self.text(key),
            str: self.text(text),
            ..pb::Label::default()
        };
        let label = labels.iter().map(&mut label).collect();
        let value = vec![count, count * PERIOD];
        self.profile.sample.push(pb::Sample { location_id: stack, value, label });
    }
}

/// Returns window `number`, counted from [`START`]. Each process has samples of all functions:
/// `f + 1` samples of function `f`.
pub fn window(number: i64, processes: usize, functions: usize) -> Batch {
    let mut builder =
        ProfileBuilder { profile: pb::Profile::default(), string_indexes: HashMap::new() };
    builder.text("");
    let types = [("samples", "count"), ("cpu", "nanoseconds")];
    builder.profile.sample_type =
        types.map(|(quantity, unit)| builder.value_type(quantity, unit)).into();
    builder.profile.period_type = Some(builder.value_type("cpu", "nanoseconds"));
    builder.profile.default_sample_type = builder.text("cpu");
    builder.profile.time_nanos = START + number * DURATION;
    builder.profile.duration_nanos = DURATION;
    builder.profile.period = PERIOD;
    let comment = builder.text("ticks = 1");
    builder.profile.comment.push(comment);

    let kernel = builder.mapping("[kernel.kallsyms]", "", true);
    let symbolized = builder.mapping("/usr/bin/app", BUILD_ID, true);
    let unsymbolized = builder.mapping("/usr/bin/app", BUILD_ID, false);
    let syscall = builder.function("do_syscall_64");
    let inlined = builder.function("inlined");
    let root = builder.function("main");
    let kernel = builder.location(kernel, 0xffff_ffff_8100_0000, &[syscall]);
    let root = builder.location(symbolized, 0x1000, &[root]);
    let bare = builder.location(unsymbolized, 0x9000, &[]);
    let leaves: Vec<u64> = (0..functions)
        .map(|f| {
            let function = builder.function(&format!("function_{f:05}"));
            builder.location(symbolized, 0x2000 + 16 * f as u64, &[inlined, function])
        })
        .collect();
    for process in 0..processes {
        let comm = format!("worker-{process:04}");
        let executable = format!("app-{process:04}");
        let base = [("node", "n1"), ("comm", comm.as_str()), ("executable", executable.as_str())];
        for (f, leaf) in leaves.iter().enumerate() {
            let mut labels = base.to_vec();
            let mut stack = vec![*leaf, root];
            match f % 4 {
                1 => stack.insert(0, kernel),
                2 => labels.push(("guessed", "frame pointers")),
                3 => {
                    stack = vec![*leaf, bare];
                    labels.push(("cut", "user: no unwind row"));
                }
                _ => {}
            }
            builder.sample(stack, f as i64 + 1, &labels);
        }
    }
    Batch { profile: builder.profile }
}

/// Adds labels to each sample of a batch.
pub fn with_labels(mut batch: Batch, labels: &[(&str, &str)]) -> Batch {
    let profile = &mut batch.profile;
    for (key, text) in labels {
        let at = profile.string_table.len() as i64;
        profile.string_table.extend([(*key).to_owned(), (*text).to_owned()]);
        let label = pb::Label { key: at, str: at + 1, ..pb::Label::default() };
        profile.sample.iter_mut().for_each(|sample| sample.label.push(label));
    }
    batch
}

/// Returns the number of samples of one process in a window: the sum of 1 to `functions`.
pub fn samples(functions: usize) -> i64 {
    (functions * (functions + 1) / 2) as i64
}
