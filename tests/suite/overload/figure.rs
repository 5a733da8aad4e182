//! The table and the picture of `docs/operations/overload.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::tally::{Tally, count, ms};

/// One step of load.
pub struct Row {
    /// In parts of what the server can do.
    pub times: f64,
    /// Long lists in a second.
    pub offered: f64,
    /// Of them answered in time.
    pub goodput: f64,
    pub lists: Tally,
    pub greedy: Tally,
    pub polite: Tally,
    pub checks: Tally,
    pub writes: Tally,
    pub health: Tally,
    /// Bytes, at most.
    pub resident: usize,
}

impl Row {
    /// For whoever runs it.
    pub fn line(&self) -> String {
        format!(
            "{:.1} times: {:.0} lists/s asked for, {:.0} answered in time, {:.0} refused (half of them within {} ms, 99 % within {} ms), {} late; of the greedy store {:.0} % answered, of the polite {:.0} %, 99 % within {} ms; 99 % of checks within {} ms ({:.1} % answered), of writes {} ms, of health {} ms; {} MiB",
            self.times,
            self.offered,
            self.goodput,
            self.offered * count(self.lists.refused) / count(self.lists.asked.max(1)),
            ms(self.lists.refused_after().0),
            ms(self.lists.refused_after().1),
            self.lists.late,
            self.greedy.share() * 100.0,
            self.polite.share() * 100.0,
            ms(self.polite.p99()),
            ms(self.checks.p99()),
            self.checks.share() * 100.0,
            ms(self.writes.p99()),
            ms(self.health.p99()),
            self.resident >> 20,
        )
    }

    fn cells(&self) -> String {
        format!(
            "| {:.1} × | {:.0} | {:.0} | {} | {:.0} % | {:.0} % | {} | {} | {} | {} | {} |",
            self.times,
            self.offered,
            self.goodput,
            if self.lists.refused == 0 { "–".to_owned() } else { ms(self.lists.refused_after().0) },
            self.greedy.share() * 100.0,
            self.polite.share() * 100.0,
            ms(self.polite.p99()),
            ms(self.checks.p99()),
            ms(self.writes.p99()),
            ms(self.health.p99()),
            self.resident >> 20,
        )
    }
}

/// What was measured with one kind of list.
pub struct Page {
    /// Of its part of the page and of its picture.
    pub name: &'static str,
    /// Lists in a second if it is always asked for some more.
    pub capacity: f64,
    /// What one list takes when nothing else happens.
    pub idle: Duration,
    pub deadline: Duration,
    pub rows: Vec<Row>,
    /// Until a list takes as long as before the load.
    pub recovered: Duration,
}

impl Page {
    /// For whoever runs it.
    pub fn head(&self) -> String {
        format!(
            "One {} list takes {} ms when nothing else happens; {:.0} of them are done in a second if some more are always\nasked for. Deadline {} ms.",
            self.name,
            ms(self.idle),
            self.capacity,
            ms(self.deadline)
        )
    }

    /// Writes table and picture into `docs/operations/`.
    pub fn publish(&self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations");
        let mut table = format!(
            "{} After the last step a list took as long as before within {} ms.\n\n",
            self.head(),
            ms(self.recovered)
        );
        table.push_str("| Load | lists/s asked for | answered in time | refused after, ms | of the greedy store | of the polite ones | their p99, ms | p99 of Checks, ms | of writes, ms | of health, ms | memory, MiB |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
        for row in &self.rows {
            let _ = writeln!(table, "{}", row.cells());
        }
        let path = folder.join("overload.md");
        let page = fs::read_to_string(&path).expect("the page");
        let begin = format!("<!-- measured: {} -->", self.name);
        let (before, rest) = page.split_once(&begin).expect("where the table begins");
        let (_, after) = rest.split_once(END).expect("where it ends");
        fs::write(path, format!("{before}{begin}\n{table}{END}{after}")).expect("written");
        fs::write(folder.join(format!("overload-{}.svg", self.name)), picture(self)).expect("written");
    }
}

const END: &str = "<!-- /measured -->";

/// Lists answered in a second over lists asked for, and the line on which all are answered.
fn picture(page: &Page) -> String {
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 320.0;
    const LEFT: f64 = 60.0;
    const BOTTOM: f64 = 40.0;
    let rows = &page.rows;
    let most_asked = rows.iter().map(|row| row.offered).fold(1.0, f64::max);
    let peak = rows.iter().map(|row| row.goodput).fold(1.0, f64::max);
    let top = peak * 1.25;
    let x = |offered: f64| LEFT + offered / most_asked * (WIDTH - LEFT - 20.0);
    let y = |goodput: f64| HEIGHT - BOTTOM - goodput / top * (HEIGHT - BOTTOM - 20.0);
    let points = |value: fn(&Row) -> f64| {
        let points = rows.iter().map(|row| format!("{:.1},{:.1}", x(row.offered), y(value(row))));
        points.collect::<Vec<_>>().join(" ")
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<title>{} lists answered in time, over lists asked for</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n",
        page.name
    );
    let _ = writeln!(
        svg,
        "<path d=\"M {LEFT} 20 V {0} H {1}\" fill=\"none\" stroke=\"black\"/>",
        HEIGHT - BOTTOM,
        WIDTH - 20.0
    );
    let _ = writeln!(
        svg,
        "<path d=\"M {:.1} {:.1} H {:.1}\" stroke=\"gray\" stroke-dasharray=\"4\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"gray\">0.8 of the peak</text>",
        LEFT,
        y(peak * 0.8),
        WIDTH - 20.0,
        WIDTH - 20.0,
        y(peak * 0.8) + 16.0
    );
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#1f77b4\" stroke-width=\"2\"/>",
        points(|row| row.goodput)
    );
    for row in rows {
        let _ = writeln!(
            svg,
            "<circle cx=\"{0:.1}\" cy=\"{1:.1}\" r=\"3\" fill=\"#1f77b4\"/><text x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"middle\">{3:.0}</text><text x=\"{0:.1}\" y=\"{4}\" text-anchor=\"middle\">{5:.1} ×</text>",
            x(row.offered),
            y(row.goodput),
            y(row.goodput) - 8.0,
            row.goodput,
            HEIGHT - BOTTOM + 16.0,
            row.times
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} lists asked for, in parts of what the server can do</text>\n<text x=\"16\" y=\"{:.1}\" transform=\"rotate(-90 16 {:.1})\" text-anchor=\"middle\">answered in time, per second</text>\n</svg>",
        WIDTH / 2.0,
        HEIGHT - 6.0,
        page.name,
        HEIGHT / 2.0,
        HEIGHT / 2.0
    );
    svg
}
