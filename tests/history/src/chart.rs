//! Draws samples as an SVG: one panel for each figure, one line for each node.

use std::fmt::Write as _;

use crate::samples::{Node, Samples};

const WIDTH: f64 = 720.0;
const PANEL: f64 = 150.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 30.0;
const COLOURS: [&str; 3] = ["#1f5fa8", "#c2571a", "#3a8a3a"];
/// A figure of a node.
type Of = fn(&Node) -> u64;

const PANELS: [(&str, Of); 3] = [
    ("resident memory of each node, MiB", |node| node.rss),
    ("directory of each node, MiB", |node| node.log),
    ("in no pack yet, by leader, MiB", |node| node.unpacked),
];

pub(crate) fn draw(samples: &Samples) -> String {
    let seconds = samples.nodes.last().map_or(1.0, |(at, _)| at.max(1.0));
    let height = TOP + PANELS.len() as f64 * (PANEL + TOP) + 20.0;
    let (full, right) = (LEFT + WIDTH + 20.0, LEFT + WIDTH);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {full} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{full}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let x = |at: f64| LEFT + at / seconds * WIDTH;
    for (panel, (title, of)) in PANELS.iter().enumerate() {
        let top = TOP + panel as f64 * (PANEL + TOP);
        let bottom = top + PANEL;
        let most = (samples.most(*of) as f64 / 1_048_576.0).max(1.0);
        let lines = [
            format!("<text x=\"{LEFT}\" y=\"{}\">{title}</text>", top - 6.0),
            format!("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{most:.0}</text>", LEFT - 6.0, top + 8.0),
            format!("<text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">0</text>", LEFT - 6.0),
            format!("<path d=\"M{LEFT} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#888\"/>"),
        ];
        lines.iter().for_each(|line| push(&mut svg, line));
        for (node, colour) in COLOURS.iter().enumerate() {
            let points = samples.nodes.iter().filter_map(|(at, nodes)| {
                let value = of(nodes.get(node)?) as f64 / 1_048_576.0;
                Some(format!("{:.1},{:.1}", x(*at), bottom - value / most * PANEL))
            });
            let points = points.collect::<Vec<_>>().join(" ");
            push(&mut svg, &format!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\"/>"));
        }
        for (at, what) in &samples.notes {
            let x = x(*at);
            push(&mut svg, &format!("<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#bbb\" stroke-dasharray=\"3\"/>"));
            if panel == 0 {
                push(&mut svg, &format!("<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"end\">{what}</text>", top + 20.0));
            }
        }
    }
    push(&mut svg, &format!("<text x=\"{right}\" y=\"{}\" text-anchor=\"end\">{seconds:.0} s</text>", height - 24.0));
    svg.push_str("</svg>\n");
    svg
}

fn push(svg: &mut String, line: &str) {
    // Writing to a text does not fail.
    let _ = writeln!(svg, "{line}");
}
