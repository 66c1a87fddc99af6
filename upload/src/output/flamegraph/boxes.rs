//! Where each frame of the picture is: its row, and its part of the width.

use super::tree::CallTree;

/// Frames below this part of all are not drawn one by one: at 1,200 pixels, a quarter of a pixel.
const SMALLEST_PART: f64 = 1.0 / 5_000.0;
/// Frames that a picture has at most, about 3 MB. Beyond it, the narrowest are left out.
const BOXES_MAX: usize = 10_000;

/// What a box shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BoxContent {
    /// A node of the tree.
    Node(u32),
    /// This many calls of the frame above, each too narrow to be drawn.
    Rest(usize),
}

/// A rectangle of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameBox {
    pub content: BoxContent,
    /// Row from 0, the root's.
    pub depth: u32,
    /// Count of the samples to its left.
    pub start: u64,
    /// Count of its samples.
    pub width: u64,
}

/// Returns the boxes of a tree; each comes after its caller. Widths are samples, the widest frame
/// is the leftmost, and the frames below one fill it up to the samples that end in it.
pub(super) fn boxes_of(tree: &CallTree<'_>) -> Vec<FrameBox> {
    let min = smallest_width(tree);
    let mut boxes = Vec::new();
    let root =
        FrameBox { content: BoxContent::Node(0), depth: 0, start: 0, width: tree.nodes[0].total };
    let mut open = vec![root];
    while let Some(one) = open.pop() {
        boxes.push(one);
        let BoxContent::Node(node) = one.content else { continue };
        open.extend(boxes_below(tree, node, one, min).into_iter().rev());
    }
    boxes
}

fn boxes_below(tree: &CallTree<'_>, node: u32, above: FrameBox, min: u64) -> Vec<FrameBox> {
    let mut children: Vec<u32> = tree.nodes[node as usize].children.clone();
    children.sort_by_cached_key(|child| {
        let child = &tree.nodes[*child as usize];
        (u64::MAX - child.total, tree.name_of(child), child.key.kind)
    });
    let total = |child: &u32| tree.nodes[*child as usize].total;
    let narrow = children.split_off(children.partition_point(|child| total(child) >= min));
    let (depth, mut start) = (above.depth + 1, above.start);
    let mut boxes = Vec::new();
    let contents = children.iter().map(|child| (BoxContent::Node(*child), total(child)));
    let rest = (BoxContent::Rest(narrow.len()), narrow.iter().map(total).sum());
    for (content, width) in contents.chain([rest].into_iter().filter(|(_, width)| *width >= min)) {
        boxes.push(FrameBox { content, depth, start, width });
        start += width;
    }
    boxes
}

/// Returns the count from which on a frame is drawn.
fn smallest_width(tree: &CallTree<'_>) -> u64 {
    let min = (tree.nodes[0].total as f64 * SMALLEST_PART).ceil() as u64;
    let mut totals: Vec<u64> = tree.nodes.iter().map(|node| node.total).collect();
    if totals.len() <= BOXES_MAX {
        return min.max(1);
    }
    let (_, last_drawn, _) = totals.select_nth_unstable_by(BOXES_MAX - 1, |a, b| b.cmp(a));
    min.max(*last_drawn + u64::from(*last_drawn < tree.nodes[0].total)).max(1)
}
