//! Pictures of profiles, read back by an XML parser.

use std::collections::HashMap;
use std::process::Command;

use profile::{
    BusyShare, CaptureContext, CaptureLedger, ClockScope, Cpu, CpuTicks, FileAddr, Function,
    InterpretedLanguage, Line, Mapping, MappingKind, Pid, Profile, SampleCount, SampleKey,
    StackEnd, StackId, SymbolizedFrame, Task, TaskId, TickOutcome, Tid,
};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::kind::FrameKind;
use super::text::fit_name;
use super::*;

/// A frame as the picture shows it.
#[derive(Clone, Debug, Default, PartialEq)]
struct ShownFrame {
    class: String,
    x: u64,
    width: u64,
    depth: u64,
    fill: String,
    /// Lines of the tooltip; the first is the name.
    lines: Vec<String>,
    /// What fits of the name.
    text: String,
}

/// A picture that was parsed as XML.
struct Picture {
    height: u64,
    frames: Vec<ShownFrame>,
    /// All other texts.
    texts: Vec<String>,
}

fn attributes(element: &BytesStart<'_>) -> HashMap<String, String> {
    let pairs = element.attributes().map(|attribute| {
        let attribute = attribute.expect("a valid attribute");
        let key = String::from_utf8(attribute.key.as_ref().to_vec()).expect("UTF-8");
        let value = String::from_utf8(attribute.value.to_vec()).expect("UTF-8");
        (key, quick_xml::escape::unescape(&value).expect("escaped").into_owned())
    });
    pairs.collect()
}

impl Picture {
    /// Parses a picture; fails the test if it is no valid XML.
    fn parse(svg: &[u8]) -> Self {
        let text = std::str::from_utf8(svg).expect("UTF-8");
        // The characters of XML 1.0, without tabs and carriage returns.
        let is_allowed = |c| c == '\n' || (c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}'));
        assert!(text.chars().all(is_allowed), "a character that XML does not allow");
        let mut picture = Self { height: 0, frames: Vec::new(), texts: Vec::new() };
        let mut reader = Reader::from_str(text);
        reader.config_mut().check_end_names = true;
        let (mut open, mut content) = (Vec::new(), String::new());
        loop {
            match reader.read_event().expect("valid XML") {
                Event::Eof => break,
                Event::Start(element) => {
                    let attributes = attributes(&element);
                    picture.open(&element, &attributes);
                    open.push((element.name().as_ref().to_vec(), attributes));
                    content.clear();
                }
                Event::Empty(element) => picture.open(&element, &attributes(&element)),
                Event::Text(text) => content += &text.decode().expect("UTF-8"),
                Event::GeneralRef(name) => {
                    let name = String::from_utf8(name.to_vec()).expect("UTF-8");
                    content += &quick_xml::escape::unescape(&format!("&{name};")).expect("known");
                }
                Event::End(_) => {
                    let (name, _) = open.pop().expect("an element is open");
                    picture.close(&name, std::mem::take(&mut content), &open);
                }
                _ => {}
            }
        }
        assert!(open.is_empty(), "elements are not closed");
        picture
    }

    fn open(&mut self, element: &BytesStart<'_>, attributes: &HashMap<String, String>) {
        let number = |name: &str| attributes[name].parse().expect("a number");
        match element.name().as_ref() {
            b"svg" if self.height == 0 => self.height = number("height"),
            b"g" if attributes.contains_key("data-x") => self.frames.push(ShownFrame {
                class: attributes["class"].clone(),
                x: number("data-x"),
                width: number("data-w"),
                depth: number("data-d"),
                ..ShownFrame::default()
            }),
            b"rect" => {
                if let Some(frame) = self.frames.last_mut().filter(|one| one.fill.is_empty()) {
                    frame.fill = attributes["fill"].clone();
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, name: &[u8], text: String, open: &[(Vec<u8>, HashMap<String, String>)]) {
        let is_frame = open.last().is_some_and(|(_, outer)| outer.contains_key("data-x"));
        match (name, self.frames.last_mut().filter(|_| is_frame)) {
            (b"title", Some(frame)) => frame.lines = text.lines().map(str::to_owned).collect(),
            (b"text", Some(frame)) => frame.text = text,
            (b"title" | b"text" | b"desc", None) => self.texts.push(text),
            _ => {}
        }
    }

    fn named(&self, name: &str) -> &ShownFrame {
        let found = self.frames.iter().find(|frame| frame.lines[0] == name);
        found.unwrap_or_else(|| panic!("no {name} in {:#?}", self.frames))
    }

    fn has_text(&self, part: &str) -> bool {
        self.texts.iter().any(|text| text.contains(part))
    }
}

/// A function of a test stack: its mapping, and its name; an empty one has no symbol.
type TestFrame<'a> = (MappingKind, &'a str);

/// Builds profiles from stacks of names.
#[derive(Default)]
struct Stacks(Profile);

impl Stacks {
    fn new() -> Self {
        let mut cpu = CpuTicks::at_full_rate(Cpu(0), 1_000, 1_000);
        cpu.ticks = 990;
        let mut ledger = CaptureLedger { cpus: vec![cpu], ..CaptureLedger::default() };
        ledger.outcomes[TickOutcome::SkippedIdle as usize] = 490;
        ledger.outcomes[TickOutcome::Delivered as usize] = 490;
        ledger.outcomes[TickOutcome::SkippedProcess as usize] = 10;
        Self(Profile {
            start_unix_ns: 1_795_000_000_000_000_000,
            duration_ns: 10_000_000_000,
            period_ns: 10_000_000,
            ledger,
            ..Profile::default()
        })
    }

    /// Adds a stack, outermost frame first. Its inlined functions begin with `inlined `.
    fn add(mut self, comm: &str, stack: &[TestFrame<'_>], count: u64) -> Self {
        self.add_with(comm, stack, count, StackEnd::Complete, false);
        self
    }

    fn add_with(
        &mut self,
        comm: &str,
        stack: &[TestFrame<'_>],
        count: u64,
        user_end: StackEnd,
        guessed: bool,
    ) {
        let profile = &mut self.0;
        let mut frames: Vec<u32> = Vec::new();
        for (kind, name) in stack {
            let mapping = profile.mappings.iter().position(|mapping| mapping.kind == *kind);
            let mapping = mapping.unwrap_or_else(|| {
                let name = match kind {
                    MappingKind::Kernel => MappingKind::KERNEL,
                    MappingKind::Vdso => MappingKind::VDSO,
                    MappingKind::Unknown => MappingKind::UNKNOWN,
                    MappingKind::Memory => "[jit]",
                    MappingKind::Interpreted(language) => language.mapping_name(),
                    MappingKind::Interpreter => "/usr/bin/app [interpreter]",
                    MappingKind::File => "/usr/bin/app",
                };
                profile.mappings.push(Mapping { name: name.into(), build_id: None, kind: *kind });
                profile.mappings.len() - 1
            });
            let line = Line { function: profile.functions.len() as u32, line: 7 };
            profile.functions.push(Function {
                name: (*name).into(),
                file: "src/app.c".into(),
                ..Function::default()
            });
            if name.starts_with("inlined ") {
                let caller = frames.last().expect("a caller");
                profile.frames[*caller as usize].lines.insert(0, line);
                continue;
            }
            frames.push(profile.frames.len() as u32);
            profile.frames.push(SymbolizedFrame {
                mapping: mapping as u32,
                address: FileAddr(profile.frames.len() as u64),
                lines: if name.is_empty() { Vec::new() } else { vec![line] },
            });
        }
        frames.reverse();
        profile.stacks.push(frames.into());
        profile.tasks.push(Task {
            pid: Pid(1),
            tid: Tid(1),
            comm: comm.into(),
            thread: comm.into(),
            cgroup_id: 0,
            labels: Default::default(),
        });
        let key = SampleKey {
            task: TaskId(profile.tasks.len() as u32 - 1),
            stack: StackId(profile.stacks.len() as u32 - 1),
            kernel_end: StackEnd::Absent,
            user_end,
            guessed,
        };
        profile.samples.push(SampleCount { key, count });
    }

    fn draw(&self) -> Picture {
        self.draw_in(Direction::TopDown)
    }

    fn draw_in(&self, direction: Direction) -> Picture {
        let svg = draw(&self.0, StackRoot::Process, direction, SampleUnit::Samples);
        Picture::parse(&svg.expect("drawn"))
    }
}

const FILE: MappingKind = MappingKind::File;

fn mixed() -> Stacks {
    let whole = [(FILE, "main"), (FILE, "inlined fast"), (MappingKind::Kernel, "read")];
    let jit = [(FILE, "main"), (MappingKind::Memory, "js"), (MappingKind::Memory, "")];
    let unnamed = [(FILE, ""), (MappingKind::Unknown, "")];
    let mut stacks = Stacks::new()
        .add("app", &whole, 100)
        .add("app", &jit, 50)
        .add("app", &unnamed, 40)
        .add("app", &[(MappingKind::Vdso, "gettime")], 30);
    stacks.add_with("app", &[(FILE, "tail")], 20, StackEnd::NoRow, false);
    stacks.add_with("app", &[(MappingKind::Memory, "js")], 10, StackEnd::Complete, true);
    stacks
}

#[test]
fn kinds_come_from_the_model_and_have_their_colours() {
    let picture = mixed().draw();
    for (name, kind) in [
        ("app", FrameKind::Task),
        ("main", FrameKind::Native),
        ("inlined fast", FrameKind::Inlined),
        ("read", FrameKind::Kernel),
        ("js", FrameKind::Jit),
        ("[JIT code without a name]", FrameKind::Jit),
        ("[app, no symbol]", FrameKind::Unnamed),
        ("[code of no known mapping]", FrameKind::Unnamed),
        ("gettime", FrameKind::Native),
        ("[cut: no unwind row]", FrameKind::Cut),
        ("[guessed: frame pointers]", FrameKind::Guessed),
    ] {
        let frame = picture.named(name);
        assert_eq!(frame.class, kind.label(), "{name}");
        let is_pattern = FrameKind::WITH_PATTERN.contains(&kind);
        let pattern = format!("url(#{})", kind.label());
        assert_eq!(frame.fill, if is_pattern { &pattern } else { kind.color() }, "{name}");
    }
    for kind in FrameKind::LEGEND {
        let label = kind.label();
        let is_explained = !FrameKind::EXPLAINED_IF_DRAWN.contains(&kind);
        assert_eq!(picture.has_text(&format!("{label} ")), is_explained, "{label}");
        assert_eq!(picture.has_text(kind.meaning()), is_explained, "{label}");
    }
    let lookalikes =
        [(FILE, "read_[k]"), (FILE, "std::x"), (FILE, "[cut: a lie]"), (FILE, "x_[i]")];
    let picture = Stacks::new().add("[guessed: frame pointers]", &lookalikes, 9).draw();
    let classes: Vec<&str> = picture.frames.iter().map(|frame| frame.class.as_str()).collect();
    assert_eq!(classes, ["task", "task", "native", "native", "native", "native"]);
}

#[test]
fn python_functions_have_their_place_and_machinery_has_a_colour_of_its_own() {
    let python = MappingKind::Interpreted(InterpretedLanguage::Python);
    let eval = (MappingKind::Interpreter, "_PyEval_EvalFrameDefault");
    let outer = [(MappingKind::Interpreter, ""), eval, (python, "<module>")];
    let inner = [eval, (python, "Worker.work"), (FILE, "encode")];
    let stacks = Stacks::new().add("python3", &[&outer[..], &inner[..]].concat(), 60).add(
        "python3",
        &[(python, "")],
        40,
    );
    let picture = stacks.draw();
    for (name, kind) in [
        ("<module> (app.c:7)", FrameKind::Python),
        ("Worker.work (app.c:7)", FrameKind::Python),
        ("[Python code without a name]", FrameKind::Python),
        ("_PyEval_EvalFrameDefault", FrameKind::Interpreter),
        ("[app, no symbol]", FrameKind::Interpreter),
        ("encode", FrameKind::Native),
    ] {
        let frame = picture.named(name);
        assert_eq!((&*frame.class, &*frame.fill), (kind.label(), kind.color()), "{name}");
    }
    let work = &picture.named("Worker.work (app.c:7)").lines;
    assert_eq!(work[2], "Python, [python], src/app.c:7");
    for text in ["Python 40.0 %", "interpreter 0 %", FrameKind::Interpreter.meaning()] {
        assert!(picture.has_text(text), "no {text:?} in {:#?}", picture.texts);
    }
}

#[test]
fn frames_lie_within_their_callers_and_widths_add_up() {
    let (mut stacks, mut total) = (Stacks::new(), 0);
    for n in 0..2_000u64 {
        let (a, b) = (format!("a{}", n % 7), format!("b{}", n * n % 131));
        let count = 1 + n * 37 % 400;
        stacks.add_with("p", &[(FILE, &a), (FILE, &b)], count, StackEnd::Complete, false);
        total += count;
    }
    for n in 0..200u64 {
        let name = format!("narrow{n}");
        stacks.add_with("p", &[(FILE, "a0"), (FILE, &name)], 1, StackEnd::Complete, false);
        total += 1;
    }
    let picture = stacks.draw();
    assert_eq!(picture.frames[0].width, total);
    let mut callers: Vec<&ShownFrame> = Vec::new();
    let mut below: HashMap<(u64, u64), u64> = HashMap::new();
    for frame in &picture.frames {
        callers.truncate(frame.depth as usize);
        if let Some(caller) = callers.last() {
            assert!(frame.x >= caller.x && frame.x + frame.width <= caller.x + caller.width);
            *below.entry((caller.depth, caller.x)).or_default() += frame.width;
        }
        callers.push(frame);
    }
    let with_children = picture.frames.iter().filter(|frame| frame.depth < 3);
    for frame in with_children {
        let children = below[&(frame.depth, frame.x)];
        assert!(frame.width - children <= total / 5_000, "{frame:?} has {children} below it");
    }
    assert!(picture.frames.iter().any(|frame| frame.class == "narrow"), "none is that narrow");
}

#[test]
fn process_widths_are_those_of_inferno() {
    let stacks = mixed().add("other", &[(FILE, "main")], 77);
    let text = crate::output::folded(&stacks.0, StackRoot::Process);
    let mut svg = Vec::new();
    let mut options = inferno::flamegraph::Options::default();
    inferno::flamegraph::from_lines(&mut options, text.lines(), &mut svg).expect("drawn");
    let theirs = String::from_utf8(svg).expect("UTF-8");
    let picture = stacks.draw();
    for name in ["app", "other"] {
        let width = picture.named(name).width;
        assert!(theirs.contains(&format!("{name} ({width} samples")), "{name} {width}");
    }
    assert!(theirs.contains(&format!("all ({} samples", picture.frames[0].width)));
}

#[test]
fn heading_tells_where_when_and_how_busy() {
    let mut stacks = mixed();
    let context = CaptureContext {
        host: "build-7".into(),
        kernel: "6.1.0".into(),
        frequency: 99,
        clocks: ClockScope::Cpus,
        cpus: 2,
        selects_cpus: false,
        scope: "make -j8 and its descendants".into(),
    };
    stacks.0.comments.push(context.to_string());
    let picture = stacks.draw();
    for text in [
        "CPU time on build-7: make -j8 and its descendants",
        "2026-11-18 11:06:40 UTC, 10.0 s at 99 Hz on 2 CPUs, Linux 6.1.0",
        "250 samples = 2.50 s of CPU time; the machine was 50.0 % busy, 50.0 % idle",
        "8.00 % with cut stacks, 4.00 % with guessed frames",
    ] {
        assert!(picture.has_text(text), "no {text:?} in {:#?}", picture.texts);
    }
    stacks.0.comments = vec![CaptureContext { selects_cpus: true, ..context }.to_string()];
    let picture = stacks.draw();
    for text in ["at 99 Hz on 2 selected CPUs", "the selected CPUs were 50.0 % busy, 50.0 % idle"] {
        assert!(picture.has_text(text), "no {text:?} in {:#?}", picture.texts);
    }
    let read = &picture.named("read").lines;
    assert_eq!(read[1], "1.00 s (100 samples), 40.00 % of all");
    assert_eq!(read[2], "kernel, [kernel.kallsyms], src/app.c:7");
}

#[test]
fn what_a_profile_does_not_know_is_named_unknown() {
    let mut stacks = mixed();
    (stacks.0.ledger, stacks.0.start_unix_ns) = (CaptureLedger::default(), 0);
    let picture = stacks.draw();
    for text in [
        "CPU time (the profile does not say of what, and on which host)",
        "date unknown, 10.0 s at frequency unknown",
        "how busy the machine was is unknown: the profile has no ledger",
    ] {
        assert!(picture.has_text(text), "no {text:?} in {:#?}", picture.texts);
    }
}

#[test]
fn clocks_of_tasks_do_not_know_how_busy_the_machine_was() {
    let mut stacks = mixed();
    stacks.0.ledger.clocks = ClockScope::Tasks;
    let text = "how busy the machine was is unknown: only selected tasks had clocks";
    assert!(stacks.draw().has_text(text), "{:#?}", stacks.draw().texts);
    let mut none = Stacks::new();
    none.0.ledger.clocks = ClockScope::Tasks;
    none.0.ledger.cpus = vec![CpuTicks::at_full_rate(Cpu(0), 7, 0)];
    assert!(none.draw().has_text("no samples: 7 due ticks did not come"));
}

#[test]
fn idle_machine_is_mostly_idle_in_its_picture() {
    let mut stacks = Stacks::new().add("kworker", &[(MappingKind::Kernel, "work")], 4);
    let ledger = &mut stacks.0.ledger;
    ledger.outcomes[TickOutcome::SkippedIdle as usize] = 986;
    ledger.outcomes[TickOutcome::Delivered as usize] = 4;
    ledger.outcomes[TickOutcome::SkippedProcess as usize] = 0;
    let share = stacks.0.busy_share().expect("known");
    assert_eq!(share, BusyShare { due: 1_000, busy: 4, missed: 10 });
    let picture = stacks.draw();
    let idle = picture.named("idle");
    assert_eq!((idle.width, idle.class.as_str(), idle.text.as_str()), (996, "idle", "idle"));
    assert_eq!(picture.named("work").width, 4);
    assert!(picture.has_text("the machine was 0.4 % busy, 99.6 % idle"), "{:#?}", picture.texts);
    // A filter left ticks out: the recording is of a part of the machine.
    stacks.0.ledger.outcomes[TickOutcome::SkippedProcess as usize] = 10;
    stacks.0.ledger.outcomes[TickOutcome::SkippedIdle as usize] = 976;
    assert!(stacks.draw().frames.iter().all(|frame| frame.class != "idle"));
}

#[test]
fn deep_stack_leaves_the_root_at_the_start_of_the_view() {
    let names: Vec<String> = (0..240).map(|n| format!("f{n}")).collect();
    let deep: Vec<TestFrame<'_>> = names.iter().map(|name| (FILE, name.as_str())).collect();
    let stacks = Stacks::new().add("p", &[(FILE, "main")], 999).add("p", &deep, 1);
    let picture = stacks.draw();
    assert_eq!((picture.frames[0].depth, picture.frames[0].lines[0].as_str()), (0, "all"));
    assert!(picture.named("f239").depth == 241 && picture.height > 241 * 17);
    assert_eq!(picture.named("main").text, "main");
    let upward = stacks.draw_in(Direction::BottomUp);
    assert_eq!(upward.frames, picture.frames);
}

#[test]
fn recursion_is_one_frame_with_its_depth() {
    let recursion = |depth| [vec![(FILE, "main")], vec![(FILE, "fib"); depth]].concat();
    let picture = Stacks::new()
        .add("p", &recursion(1_000), 9)
        .add("p", &recursion(500), 3)
        .add("p", &recursion(2), 1)
        .draw();
    let fib = picture.named("fib \u{d7}1000");
    assert_eq!((fib.width, fib.depth), (13, 3));
    assert!(fib.lines.contains(&"up to 1000 times in a row, drawn once".into()));
    assert_eq!(picture.frames.len(), 5);
}

#[test]
fn names_keep_their_head() {
    let long = "std::_Rb_tree<std::string, std::pair<int, int>, std::less<void>>::find(int)";
    let stacks = Stacks::new().add("p", &[(FILE, long)], 100).add("p", &[(FILE, "other")], 900);
    let picture = stacks.draw();
    let frame = picture.named(long);
    assert!(
        frame.text.starts_with("std::_Rb_tre") && frame.text.ends_with('\u{2026}'),
        "{frame:?}"
    );
}

/// The script runs in a browser; node, which `./dev setup test` installs, runs this part of it.
#[test]
fn script_shortens_names_as_the_picture_does() {
    let names = [
        "std::_Rb_tree<std::string, std::pair<int, int>, std::less<void>>::find(int)",
        "f(int, long)::{lambda(int)#1}::operator()(int) const",
        "<alloc::vec::Vec<T> as core::iter::FromIterator<T>>::from_iter::<std::io::Lines<R>>",
        "A<B>::operator<< <C>(D)::E::operator->()::f<g>",
        "(anonymous namespace)::f(a < b)::<lambda()>::g",
        "net/http.(*Client).Do",
        "cooperator<A, B>::gr\u{f6}\u{df}e<\u{3bb}>::\u{6f22}\u{5b57}(\u{1f980})",
        "a<(b>c)::d>>e::f",
        "</script>::\"'\\u{1b}",
    ];
    let columns = 0..90;
    let script = format!(
        "{}; const all = {}; console.log(JSON.stringify(all.map((name) => \
         [...Array({}).keys()].map((columns) => names.fitName(name, columns)))));",
        include_str!("names.js"),
        serde_json::to_string(&names).expect("JSON"),
        columns.end,
    );
    let output = Command::new("node").arg("-e").arg(script).output().expect("node is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: Vec<Vec<String>> = serde_json::from_slice(&output.stdout).expect("JSON");
    let fitted = |name| columns.clone().map(|columns| fit_name(name, columns)).collect();
    let ours: Vec<Vec<String>> = names.into_iter().map(fitted).collect();
    assert_eq!(theirs, ours);
}

#[test]
fn hostile_names_leave_valid_xml() {
    let long = "\u{202e}<".repeat(1 << 19);
    for name in [
        "</script><script>alert(1)</script>",
        "]]>",
        "\"'&<>&amp;--><!--",
        "two\nlines\r\tand\u{2028}more",
        "\0\u{1}\u{1b}[31m\u{7f}\u{9b}",
        "\u{202e}right to left\u{2066}\u{200f}",
        "\u{fffe}\u{ffff}\u{1fffe}\u{fdd0}\u{feff}",
        "invalid \u{fffd} UTF-8",
        "\u{6f22}\u{5b57} \u{1f980}",
        &long,
        "",
    ] {
        let mut stacks = Stacks::new().add(name, &[(FILE, name), (MappingKind::Kernel, name)], 5);
        stacks.0.mappings[0].name = name.into();
        stacks.0.functions[0].file = name.into();
        let context = CaptureContext {
            host: name.into(),
            kernel: name.into(),
            frequency: 1,
            clocks: ClockScope::Cpus,
            cpus: 1,
            selects_cpus: true,
            scope: name.into(),
        };
        stacks.0.comments = vec![context.to_string(), format!("host {name}")];
        let svg = draw(&stacks.0, StackRoot::Thread, Direction::TopDown, SampleUnit::Samples);
        let svg = svg.expect("drawn");
        assert!(svg.len() < 128 << 10, "{} bytes", svg.len());
        let picture = Picture::parse(&svg);
        assert_eq!(picture.frames.len(), 5, "{name:?}");
        assert!(picture.frames.iter().all(|frame| (2..5).contains(&frame.lines.len())));
        let text = String::from_utf8(svg).expect("UTF-8");
        assert_eq!(text.matches("<script").count(), 1, "{name:?}");
        assert_eq!(profile::printable(text.replace('\n', "").as_str()), text.replace('\n', ""));
    }
}

#[test]
fn profile_without_samples_is_a_picture() {
    let picture = Picture::parse(
        &draw(&Profile::default(), StackRoot::Process, Direction::TopDown, SampleUnit::Samples)
            .expect("drawn"),
    );
    assert_eq!(picture.frames.len(), 1);
    assert!(picture.has_text("0 samples = 0.000 s of CPU time"), "{:?}", picture.texts);
}

#[test]
fn large_profile_has_a_bounded_picture() {
    let mut stacks = Stacks::new();
    for n in 0..36_000u64 {
        let name = format!("f{}", n % 12_000);
        let comm = format!("p{}", n % 3);
        stacks.add_with(&comm, &[(FILE, &name)], 1, StackEnd::Complete, false);
    }
    let svg = draw(&stacks.0, StackRoot::Process, Direction::TopDown, SampleUnit::Samples);
    let picture = Picture::parse(&svg.expect("drawn"));
    assert!(picture.frames.len() < 10_100, "{}", picture.frames.len());
    assert_eq!(picture.frames.iter().filter(|frame| frame.class == "narrow").count(), 3);
}
