//! Builds batches with known stacks, counts and labels, for tests of sinks.
#![allow(dead_code)] // each test uses a part

use std::collections::BTreeMap;

use profile::pprof::proto as pb;
use upload::Batch;

/// Nanoseconds between samples at 19 Hz.
pub const PERIOD: i64 = 1_000_000_000 / 19;

/// Builds a window in the form in which the agent closes it.
pub struct WindowBuilder {
    profile: pb::Profile,
    string_indexes: BTreeMap<String, i64>,
    frames: BTreeMap<String, u64>,
}

impl WindowBuilder {
    /// Starts an empty window of ten seconds.
    pub fn new(start_unix_ns: u64) -> Self {
        let mut window = Self {
            profile: pb::Profile::default(),
            string_indexes: BTreeMap::new(),
            frames: BTreeMap::new(),
        };
        window.text("");
        let samples = window.value_type("samples", "count");
        let cpu = window.value_type("cpu", "nanoseconds");
        window.profile.sample_type = vec![samples, cpu];
        window.profile.period_type = Some(cpu);
        window.profile.period = PERIOD;
        window.profile.default_sample_type = cpu.r#type;
        window.profile.time_nanos = i64::try_from(start_unix_ns).unwrap();
        window.profile.duration_nanos = 10_000_000_000;
        window
    }

    /// Returns the frame of a named function in `/usr/bin/app`.
    pub fn function(&mut self, name: &str) -> u64 {
        if let Some(id) = self.frames.get(name) {
            return *id;
        }
        let mapping_id = self.mapping("/usr/bin/app", "a1b2c3d4e5f60718", true);
        let function = pb::Function {
            id: self.profile.function.len() as u64 + 1,
            name: self.text(name),
            system_name: self.text(name),
            filename: self.text("app.c"),
            start_line: 10,
        };
        self.profile.function.push(function);
        let line = pb::Line { function_id: function.id, line: 10 + function.id as i64 };
        let id = self.location(mapping_id, 0x1000 + 0x100 * function.id, vec![line]);
        self.frames.insert(name.to_owned(), id);
        id
    }

    /// Adds a frame without a symbol: an address in an ELF file.
    pub fn address(&mut self, file: &str, build_id: &str, address: u64) -> u64 {
        let mapping_id = self.mapping(file, build_id, false);
        self.location(mapping_id, address, Vec::new())
    }

    /// Adds samples of a stack, innermost frame first.
    pub fn sample(&mut self, labels: &[(&str, &str)], stack: &[u64], count: i64) {
        let label = labels
            .iter()
            .map(|(key, value)| pb::Label {
                key: self.text(key),
                str: self.text(value),
                ..pb::Label::default()
            })
            .collect();
        let value = vec![count, count * PERIOD];
        self.profile.sample.push(pb::Sample { location_id: stack.to_vec(), value, label });
    }

    /// Adds samples of a function that is called by `main`.
    pub fn call(&mut self, labels: &[(&str, &str)], name: &str, count: i64) {
        let stack = [self.function(name), self.function("main")];
        self.sample(labels, &stack, count);
    }

    pub fn build(self) -> Batch {
        Batch { profile: self.profile }
    }

    fn text(&mut self, text: &str) -> i64 {
        if let Some(index) = self.string_indexes.get(text) {
            return *index;
        }
        let index = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.string_indexes.insert(text.to_owned(), index);
        index
    }

    fn value_type(&mut self, r#type: &str, unit: &str) -> pb::ValueType {
        pb::ValueType { r#type: self.text(r#type), unit: self.text(unit) }
    }

    fn mapping(&mut self, file: &str, build_id: &str, has_functions: bool) -> u64 {
        let (filename, build_id) = (self.text(file), self.text(build_id));
        let existing = self.profile.mapping.iter().find(|mapping| {
            (mapping.filename, mapping.build_id, mapping.has_functions)
                == (filename, build_id, has_functions)
        });
        if let Some(mapping) = existing {
            return mapping.id;
        }
        let id = self.profile.mapping.len() as u64 + 1;
        self.profile.mapping.push(pb::Mapping {
            id,
            filename,
            build_id,
            has_functions,
            has_filenames: has_functions,
            has_line_numbers: has_functions,
            has_inline_frames: has_functions,
            ..pb::Mapping::default()
        });
        id
    }

    fn location(&mut self, mapping_id: u64, address: u64, line: Vec<pb::Line>) -> u64 {
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(pb::Location { id, mapping_id, address, line });
        id
    }
}

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(elapsed.as_nanos()).unwrap()
}
