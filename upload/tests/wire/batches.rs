//! Synthetic windows with everything that an agent writes: several processes, kernel frames, inlined
//! functions, frames without names, two halves of one mapping, and cut and guessed stacks.

use std::collections::HashMap;

use profile::pprof::proto as pb;
use upload::Batch;

/// When windows begin, in nanoseconds since 1970.
pub const START: i64 = 1_790_000_000_000_000_000;
/// How long they are.
pub const DURATION: i64 = 10_000_000_000;
/// 19 Hz.
pub const PERIOD: i64 = 52_631_579;
/// The build id of the file that all processes run.
pub const BUILD_ID: &str = "00112233445566778899aabbccddeeff00112233";

struct Maker {
    profile: pb::Profile,
    places: HashMap<String, i64>,
}

impl Maker {
    fn text(&mut self, text: &str) -> i64 {
        let next = self.profile.string_table.len() as i64;
        let place = *self.places.entry(text.to_owned()).or_insert(next);
        if place == next {
            self.profile.string_table.push(text.to_owned());
        }
        place
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
        self.profile.function.push(pb::Function { id, name, system_name, filename });
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

/// A window that begins `number` windows after [`START`], of so many processes with so many functions each, of
/// which function `f` was seen `f + 1` times in each process.
pub fn window(number: i64, processes: usize, functions: usize) -> Batch {
    let mut maker = Maker { profile: pb::Profile::default(), places: HashMap::new() };
    maker.text("");
    let types = [("samples", "count"), ("cpu", "nanoseconds")];
    maker.profile.sample_type =
        types.map(|(quantity, unit)| maker.value_type(quantity, unit)).into();
    maker.profile.period_type = Some(maker.value_type("cpu", "nanoseconds"));
    maker.profile.default_sample_type = maker.text("cpu");
    maker.profile.time_nanos = START + number * DURATION;
    maker.profile.duration_nanos = DURATION;
    maker.profile.period = PERIOD;
    let comment = maker.text("ticks = 1");
    maker.profile.comment.push(comment);

    let kernel = maker.mapping("[kernel.kallsyms]", "", true);
    let named = maker.mapping("/usr/bin/app", BUILD_ID, true);
    let unnamed = maker.mapping("/usr/bin/app", BUILD_ID, false);
    let syscall = maker.function("do_syscall_64");
    let inlined = maker.function("inlined");
    let root = maker.function("main");
    let kernel = maker.location(kernel, 0xffff_ffff_8100_0000, &[syscall]);
    let root = maker.location(named, 0x1000, &[root]);
    let bare = maker.location(unnamed, 0x9000, &[]);
    let leaves: Vec<u64> = (0..functions)
        .map(|f| {
            let function = maker.function(&format!("function_{f:05}"));
            maker.location(named, 0x2000 + 16 * f as u64, &[inlined, function])
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
            maker.sample(stack, f as i64 + 1, &labels);
        }
    }
    Batch { profile: maker.profile }
}

/// The same with more labels on each sample.
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

/// Samples of one process in a window: the sum of 1 to `functions`.
pub fn samples(functions: usize) -> i64 {
    (functions * (functions + 1) / 2) as i64
}
