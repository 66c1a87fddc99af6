//! The SVG document.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesCData, BytesText};

use super::boxes::{BoxContent, FrameBox};
use super::direction::Direction;
use super::heading::Heading;
use super::kind::FrameKind;
use super::text::{CountScale, clean, clean_path, fit, fit_name, percent};
use super::tree::{CallNode, CallTree};

/// Width of the picture until its script adapts it to the window.
const WIDTH: u32 = 1200;
/// Space at the sides.
const MARGIN: u32 = 10;
/// Height of a row of frames, with a pixel of space.
const ROW: u32 = 17;
/// Width of a character, in pixels, of the widest of the usual fonts.
const CHARACTER: f64 = 7.25;
/// Space between the start of a frame and its text.
const TEXT_INDENT: f64 = 3.0;
/// Height of a line of the heading.
const LINE: u32 = 17;

const STYLE: &str = include_str!("view.css");
const SCRIPT: &str = concat!(include_str!("names.js"), include_str!("view.js"));

/// All that the document shows.
pub(super) struct Drawing<'a> {
    pub heading: Heading,
    pub tree: CallTree<'a>,
    pub boxes: Vec<FrameBox>,
    pub scale: CountScale,
    pub direction: Direction,
}

type Xml = Writer<Vec<u8>>;

/// Writes the document.
///
/// # Errors
/// As the XML library does.
pub(super) fn write(drawing: &Drawing<'_>) -> io::Result<Vec<u8>> {
    let rows = drawing.boxes.iter().map(|one| one.depth).max().unwrap_or(0) + 1;
    let header = header_height(&drawing.heading);
    let height = header + rows * ROW + MARGIN;
    let mut xml = Writer::new(Vec::with_capacity(1 << 18));
    let direction = match drawing.direction {
        Direction::TopDown => "top-down",
        Direction::BottomUp => "bottom-up",
    };
    xml.create_element("svg")
        .with_attributes([
            ("xmlns", "http://www.w3.org/2000/svg"),
            ("width", &*WIDTH.to_string()),
            ("height", &*height.to_string()),
            ("viewBox", &*format!("0 0 {WIDTH} {height}")),
            ("data-direction", direction),
        ])
        .write_inner_content(|xml| {
            text_element(xml, "title", &[], &drawing.heading.title)?;
            text_element(xml, "desc", &[], &drawing.heading.lines.join("\n"))?;
            text_element(xml, "style", &[], STYLE)?;
            patterns(xml)?;
            rectangle(xml, &[("width", "100%"), ("height", "100%"), ("fill", "#ffffff")])?;
            frames(xml, drawing, header, rows)?;
            heading(xml, drawing, header)?;
            let script = xml.create_element("script");
            script.write_cdata_content(BytesCData::new(SCRIPT)).map(drop)
        })?;
    let mut bytes = xml.into_inner();
    bytes.push(b'\n');
    Ok(bytes)
}

/// Returns the height of the heading: its title, its lines, the legend, and the details of a frame.
fn header_height(heading: &Heading) -> u32 {
    28 + (heading.lines.len() as u32 + 2) * LINE + 10
}

/// Defines the patterns on the colours of kinds that are no code.
fn patterns(xml: &mut Xml) -> io::Result<()> {
    xml.create_element("defs")
        .write_inner_content(|xml| {
            for kind in FrameKind::WITH_PATTERN {
                pattern(xml, kind)?;
            }
            Ok(())
        })
        .map(drop)
}

fn pattern(xml: &mut Xml, kind: FrameKind) -> io::Result<()> {
    let lines = match kind {
        FrameKind::Cut => "M0 8L8 0",
        FrameKind::Guessed => "M2 4h2",
        _ => "M0 0L8 8",
    };
    xml.create_element("pattern")
        .with_attributes([
            ("id", kind.label()),
            ("width", "8"),
            ("height", "8"),
            ("patternUnits", "userSpaceOnUse"),
        ])
        .write_inner_content(|xml| {
            rectangle(xml, &[("width", "8"), ("height", "8"), ("fill", kind.color())])?;
            let stroke = if kind == FrameKind::Idle { "#d8d8d8" } else { "#ffffff" };
            let path = [("d", lines), ("stroke", stroke), ("stroke-opacity", "0.5")];
            xml.create_element("path").with_attributes(path).write_empty().map(drop)
        })
        .map(drop)
}

fn fill_of(kind: FrameKind) -> String {
    match FrameKind::WITH_PATTERN.contains(&kind) {
        true => format!("url(#{})", kind.label()),
        false => kind.color().into(),
    }
}

fn frames(xml: &mut Xml, drawing: &Drawing<'_>, header: u32, rows: u32) -> io::Result<()> {
    xml.create_element("svg")
        .with_attributes([
            ("id", "frames"),
            ("x", &*MARGIN.to_string()),
            ("y", &*header.to_string()),
            ("width", &*(WIDTH - 2 * MARGIN).to_string()),
            ("height", &*(rows * ROW).to_string()),
        ])
        .write_inner_content(|xml| {
            let row = |depth| match drawing.direction {
                Direction::TopDown => depth * ROW,
                Direction::BottomUp => (rows - 1 - depth) * ROW,
            };
            drawing.boxes.iter().try_for_each(|one| frame(xml, drawing, one, row(one.depth)))
        })
        .map(drop)
}

/// Writes one frame: what it is, its rectangle, and as much of its name as fits.
fn frame(xml: &mut Xml, drawing: &Drawing<'_>, one: &FrameBox, y: u32) -> io::Result<()> {
    let all = drawing.boxes[0].width.max(1) as f64;
    let (x, width) = (100.0 * one.start as f64 / all, 100.0 * one.width as f64 / all);
    let pixels = f64::from(WIDTH - 2 * MARGIN) * width / 100.0;
    let (kind, name) = match one.content {
        BoxContent::Node(node) => {
            let node = &drawing.tree.nodes[node as usize];
            (node.key.kind, name_of(drawing, node))
        }
        BoxContent::Rest(frames) => (FrameKind::Rest, format!("({frames} narrower)")),
    };
    xml.create_element("g")
        .with_attributes([
            ("class", kind.label()),
            ("data-x", &*one.start.to_string()),
            ("data-w", &*one.width.to_string()),
            ("data-d", &*one.depth.to_string()),
        ])
        .write_inner_content(|xml| {
            text_element(xml, "title", &[], &tooltip(drawing, one, kind, &name))?;
            rectangle(
                xml,
                &[
                    ("x", &format!("{x:.4}%")),
                    ("y", &y.to_string()),
                    ("width", &format!("{width:.4}%")),
                    ("height", &(ROW - 1).to_string()),
                    ("fill", &fill_of(kind)),
                ],
            )?;
            let columns = ((pixels - 2.0 * TEXT_INDENT) / CHARACTER).max(0.0) as usize;
            let at = format!("{:.4}%", x + 100.0 * TEXT_INDENT / f64::from(WIDTH - 2 * MARGIN));
            let place = [("x", at.as_str()), ("y", &*(y + 12).to_string())];
            match fit_name(&name, columns) {
                text if text.is_empty() => Ok(()),
                text => text_element(xml, "text", &place, &text),
            }
        })
        .map(drop)
}

/// Returns the name of a frame, with the number of its repetitions.
fn name_of(drawing: &Drawing<'_>, node: &CallNode) -> String {
    let name = clean(drawing.tree.name_of(node));
    match (node.times, node.period) {
        (1, _) => name,
        (times, 1) => format!("{name} \u{d7}{times}"),
        (times, period) => format!("{name} \u{d7}{times} (with the next {})", period - 1),
    }
}

/// Returns all that is known of a frame, in lines: its name, its time, what and where it is.
fn tooltip(drawing: &Drawing<'_>, one: &FrameBox, kind: FrameKind, name: &str) -> String {
    let time = drawing.scale.time_and_count(one.width);
    let of_all = percent(one.width, drawing.boxes[0].width);
    let mut text = format!("{name}\n{time}, {of_all} of all");
    let BoxContent::Node(node) = one.content else {
        return text + "\n" + kind.meaning();
    };
    let node = &drawing.tree.nodes[node as usize];
    text += "\n";
    text += match kind {
        FrameKind::Cut | FrameKind::Guessed | FrameKind::Idle | FrameKind::Task => kind.meaning(),
        _ => kind.label(),
    };
    if let Some(module) = drawing.tree.module_of(node) {
        text += &format!(", {}", clean_path(module));
    }
    match drawing.tree.line_of(node) {
        Some((file, 0)) => text += &format!(", {}", clean_path(file)),
        Some((file, line)) => text += &format!(", {}:{line}", clean_path(file)),
        None => {}
    }
    if node.times > 1 {
        text += &format!("\nup to {} times in a row, drawn once", node.times);
    }
    text
}

/// Writes what is above the frames. The script keeps it in view.
fn heading(xml: &mut Xml, drawing: &Drawing<'_>, height: u32) -> io::Result<()> {
    let Heading { title, lines } = &drawing.heading;
    let columns = (f64::from(WIDTH - 2 * MARGIN) / CHARACTER) as usize;
    let margin = MARGIN.to_string();
    xml.create_element("g")
        .with_attribute(("id", "header"))
        .write_inner_content(|xml| {
            let size = [("width", "100%"), ("height", &*(height - 2).to_string())];
            rectangle(xml, &[size[0], size[1], ("fill", "#ffffff")])?;
            let place = [("id", "title"), ("x", &*margin), ("y", "21")];
            text_element(xml, "text", &place, &fit(title, columns * 12 / 16))?;
            let mut y = 28 + LINE - 5;
            for line in lines {
                let place = [("x", margin.as_str()), ("y", &*y.to_string())];
                text_element(xml, "text", &place, &fit(line, columns))?;
                y += LINE;
            }
            legend(xml, drawing, y)?;
            let place = [("id", "details"), ("x", &*margin), ("y", &*(y + LINE + 3).to_string())];
            text_element(xml, "text", &place, "")
        })
        .map(drop)
}

/// Writes the legend: the colour of each kind, and the part of the CPU time that it has itself.
fn legend(xml: &mut Xml, drawing: &Drawing<'_>, y: u32) -> io::Result<()> {
    let mut x = MARGIN;
    let is_drawn = |kind| drawing.tree.nodes.iter().any(|node| node.key.kind == kind);
    let is_explained =
        |kind: &FrameKind| !FrameKind::EXPLAINED_IF_DRAWN.contains(kind) || is_drawn(*kind);
    for kind in FrameKind::LEGEND.into_iter().filter(is_explained) {
        let text = format!("{} {}", kind.label(), part_of(drawing, kind));
        xml.create_element("g").with_attribute(("class", "legend")).write_inner_content(|xml| {
            text_element(xml, "title", &[], kind.meaning())?;
            let (left, top) = (x.to_string(), (y - 10).to_string());
            let place = [("x", &*left), ("y", &*top), ("width", "12"), ("height", "12")];
            let fill = fill_of(kind);
            rectangle(xml, &[place[0], place[1], place[2], place[3], ("fill", &fill)])?;
            let place = [("x", &*(x + 16).to_string()), ("y", &*y.to_string())];
            text_element(xml, "text", &place, &text)
        })?;
        x += 16 + (text.len() as f64 * CHARACTER) as u32 + 18;
    }
    Ok(())
}

/// Returns the part of all samples that end in frames of a kind, or that are marked by it.
fn part_of(drawing: &Drawing<'_>, kind: FrameKind) -> String {
    let tree = &drawing.tree;
    let own = || {
        let nodes = tree.nodes.iter().filter(|node| node.key.kind == kind);
        nodes.map(|node| node.own).sum()
    };
    let part: u64 = match kind {
        FrameKind::Cut => tree.cut,
        FrameKind::Guessed => tree.guessed,
        _ => own(),
    };
    let idle = tree.nodes.iter().filter(|node| node.key.kind == FrameKind::Idle);
    let all = tree.nodes[0].total - idle.map(|node| node.total).sum::<u64>();
    match part {
        0 => "0 %".into(),
        part => format!("{:.1} %", 100.0 * part as f64 / all.max(1) as f64),
    }
}

fn text_element(
    xml: &mut Xml,
    name: &str,
    attributes: &[(&str, &str)],
    text: &str,
) -> io::Result<()> {
    xml.create_element(name)
        .with_attributes(attributes.iter().copied())
        .write_text_content(BytesText::new(text))
        .map(drop)
}

fn rectangle(xml: &mut Xml, attributes: &[(&str, &str)]) -> io::Result<()> {
    xml.create_element("rect").with_attributes(attributes.iter().copied()).write_empty().map(drop)
}
