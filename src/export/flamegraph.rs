//! A flame graph (SVG) of the background samples, drawn by inferno.

use std::io;

use inferno::flamegraph::{Direction, Options, from_lines};

use super::folded::Folded;
use super::{Exporter, View};
use crate::model::Report;

/// Frames narrower than this share of the graph, in percent, are left out, as in py-spy: they are
/// about a pixel wide. Cutting them before inferno sees them also bounds its memory.
const MIN_WIDTH_PERCENT: f64 = 0.1;
/// The same as a fraction: one part in this many.
const MIN_WIDTH_PART: u64 = 1000;

/// Drawn when no sample is to be shown; inferno calls that an error.
const EMPTY: &str = concat!(
    r#"<?xml version="1.0" standalone="no"?>"#,
    "\n",
    r#"<svg version="1.1" width="1200" height="60" xmlns="http://www.w3.org/2000/svg">"#,
    r#"<text x="20" y="35" font-family="monospace" font-size="14">"#,
    "stallspy: no samples to show (threads that sleep are left out without -i)</text></svg>\n",
);

/// Draws a flame graph.
#[derive(Debug)]
pub(super) struct Flamegraph;

impl Exporter for Flamegraph {
    fn write(&self, report: &Report, view: &View, out: &mut dyn io::Write) -> io::Result<()> {
        let folded = Folded::new(report, view);
        let total = folded.total();
        if total == 0 {
            return out.write_all(EMPTY.as_bytes());
        }
        let mut lines = Vec::new();
        folded.write(total / MIN_WIDTH_PART, &mut lines)?;
        drop(folded);
        let lines = String::from_utf8_lossy(&lines);
        let mut options = Options::default();
        options.title = "stallspy".to_owned();
        options.subtitle = Some(subtitle(report, view));
        options.count_name = "samples".to_owned();
        options.direction = Direction::Inverted;
        options.min_width = MIN_WIDTH_PERCENT;
        options.deterministic = true;
        // Our order keeps all stacks below one frame together even where the order of the joined
        // lines would not. This option takes lines as they come, but from the last to the first.
        options.flame_chart = true;
        from_lines(&mut options, lines.lines().rev(), out)
    }
}

fn subtitle(report: &Report, view: &View) -> String {
    let threads = match (view.gil, view.idle) {
        (true, _) => "threads that hold the GIL",
        (false, true) => "all threads",
        (false, false) => "threads that run",
    };
    let recording = &report.recording;
    format!(
        "{threads}, {} looks a second for {:.1} s",
        recording.settings.rate_hz,
        recording.length().as_secs_f64()
    )
}
