//! The boot report for people: a table for the terminal, a timeline as SVG.
//!
//! Both are pure functions of the report. It comes from the guest and is not
//! to be trusted: control characters are left out, and rows limited.

use std::fmt::Write as _;

use moby_bundle::report::{BootReport, Entry, Outcome, What};

/// How many entries are shown.
const ROWS: usize = 500;
/// How long a name may be, in characters.
const NAME: usize = 30;
/// How long an error may be, in characters.
const ERROR: usize = 60;

/// Writes the report as a table: when, how long, what, how it ended.
pub fn table(report: &BootReport) -> String {
    let mut text = String::new();
    let mut line = |start: &str, took: &str, what: &str, name: &str, outcome: &str| {
        let row = format!("{start:>9} {took:>9}  {what:<10} {name:<NAME$} {outcome}");
        text.push_str(row.trim_end());
        text.push('\n');
    };
    line("START", "TOOK", "WHAT", "NAME", "OUTCOME");
    line("0", &number(report.started), "kernel", &clean(&report.kernel, NAME), "");
    for entry in report.entries.iter().take(ROWS) {
        let name = clean(&entry.name, NAME);
        let took = if entry.outcome == Outcome::Pending {
            "…".to_owned()
        } else {
            number(entry.duration)
        };
        line(&number(entry.start), &took, kind(entry.what), &name, &outcome(entry));
    }
    text.push_str(&summary(report));
    text.push('\n');
    text
}

/// Says in one line how the boot went.
fn summary(report: &BootReport) -> String {
    let failed = report.entries.iter().filter(|entry| entry.outcome == Outcome::Failed).count();
    let end = match report.finished {
        Some(end) => format!("booted in {} ms", number(end)),
        None => "not yet booted".to_owned(),
    };
    match failed {
        0 => end,
        failed => format!("{end}, {failed} failed"),
    }
}

fn kind(what: What) -> &'static str {
    match what {
        What::Step => "step",
        What::Onboot => "onboot",
        What::Service => "service",
        What::Onshutdown => "onshutdown",
    }
}

fn outcome(entry: &Entry) -> String {
    let mut text = match entry.outcome {
        Outcome::Pending => "pending".to_owned(),
        Outcome::Ok => "ok".to_owned(),
        Outcome::Failed => "failed".to_owned(),
        Outcome::Skipped => "skipped".to_owned(),
    };
    if let Some(exit) = entry.exit.filter(|exit| *exit != 0) {
        write!(text, ", exit code {exit}").expect("a string takes every text");
    }
    if let Some(error) = &entry.error {
        write!(text, ": {}", clean(error, ERROR)).expect("a string takes every text");
    }
    match entry.restarts {
        0 => {}
        1 => text.push_str(", restarted once"),
        count => write!(text, ", restarted {count} times").expect("a string takes every text"),
    }
    text
}

/// Leaves out control characters, and cuts what is too long.
fn clean(text: &str, most: usize) -> String {
    let mut shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut kept: String = shown.by_ref().take(most).collect();
    if shown.next().is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

/// Writes a number with a thin space between thousands.
fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// The drawing's measures, in pixels.
const WIDTH: u64 = 1000;
const NAMES: u64 = 220;
const RIGHT: u64 = 24;
const TOP: u64 = 78;
const ROW: u64 = 22;
const BAR: u64 = 14;
/// Room for the words beside a bar; where less is left they stand before it.
const LABEL: u64 = 90;

const INK: &str = "#1f2933";
const FAINT: &str = "#7b8794";
const GRID: &str = "#e4e7eb";
const KERNEL: &str = "#9aa5b1";
const FAILED: &str = "#d64545";

fn colour(what: What) -> &'static str {
    match what {
        What::Step => "#62809c",
        What::Onboot => "#2f9e8f",
        What::Service => "#3b6fd4",
        What::Onshutdown => "#8a63c9",
    }
}

/// Draws the report as a timeline: a row for each step and container, time to the right.
pub fn svg(report: &BootReport) -> String {
    let entries = &report.entries[..report.entries.len().min(ROWS)];
    let last = entries.iter().map(|entry| entry.start.saturating_add(entry.duration)).max();
    let end = last.unwrap_or(0).max(report.finished.unwrap_or(0)).max(report.started).max(1);
    let drawing = Drawing { end, rows: entries.len() as u64 + 1 };
    let mut text = String::new();
    drawing.frame(&mut text, report);
    drawing.axis(&mut text);
    drawing.kernel(&mut text, report);
    for (index, entry) in entries.iter().enumerate() {
        drawing.entry(&mut text, index as u64 + 1, entry);
    }
    if let Some(finished) = report.finished {
        drawing.finish(&mut text, finished);
    }
    text.push_str("</svg>\n");
    text
}

struct Drawing {
    /// The time at the right end, in milliseconds.
    end: u64,
    rows: u64,
}

/// A bar and the words of its row.
struct Row<'a> {
    index: u64,
    name: &'a str,
    start: u64,
    duration: u64,
    style: String,
    label: String,
    label_colour: &'a str,
    more: String,
}

impl Drawing {
    /// The place of a time from the left, with one decimal.
    fn x(&self, time: u64) -> f64 {
        let room = (WIDTH - NAMES - RIGHT) as f64;
        let x = NAMES as f64 + room * (time.min(self.end) as f64 / self.end as f64);
        (x * 10.0).round() / 10.0
    }

    fn bottom(&self) -> u64 {
        TOP + self.rows * ROW + 6
    }

    fn frame(&self, text: &mut String, report: &BootReport) {
        let height = self.bottom() + 34;
        put(
            text,
            format_args!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"system-ui, 'DejaVu Sans', Arial, sans-serif\" font-size=\"12\">"
            ),
        );
        put(text, format_args!("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"));
        let colour = if report.ok { INK } else { FAILED };
        words(text, 20.0, 30, colour, "font-size=\"17\" font-weight=\"600\"", &summary(report));
        let kernel = clean(&report.kernel, 60);
        if !kernel.is_empty() {
            words(text, 20.0, 50, FAINT, "", &format!("Linux {kernel}"));
        }
        legend(text);
    }

    fn axis(&self, text: &mut String) {
        let step = tick(self.end);
        let bottom = self.bottom();
        for index in 0..=self.end / step {
            let time = index * step;
            let x = self.x(time);
            put(
                text,
                format_args!(
                    "<line x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"{GRID}\"/>",
                    TOP - 6
                ),
            );
            let style = "text-anchor=\"middle\" font-size=\"11\"";
            let unit = if index == 0 { " ms" } else { "" };
            words(text, x, bottom + 16, FAINT, style, &format!("{}{unit}", number(time)));
        }
    }

    fn kernel(&self, text: &mut String, report: &BootReport) {
        self.row(
            text,
            &Row {
                index: 0,
                name: "kernel",
                start: 0,
                duration: report.started,
                style: format!("fill=\"{KERNEL}\""),
                label: number(report.started),
                label_colour: FAINT,
                more: String::new(),
            },
        );
    }

    fn entry(&self, text: &mut String, index: u64, entry: &Entry) {
        let own = colour(entry.what);
        let (style, label_colour) = match entry.outcome {
            Outcome::Ok => (format!("fill=\"{own}\""), FAINT),
            Outcome::Failed => (format!("fill=\"{FAILED}\""), FAILED),
            Outcome::Skipped => {
                (format!("fill=\"none\" stroke=\"{own}\" stroke-dasharray=\"2 2\""), FAINT)
            }
            Outcome::Pending => (format!("fill=\"{own}\" fill-opacity=\"0.3\""), FAINT),
        };
        let duration = match entry.outcome {
            Outcome::Pending => self.end.saturating_sub(entry.start),
            _ => entry.duration,
        };
        let label = match entry.outcome {
            Outcome::Ok if entry.restarts == 0 => number(entry.duration),
            Outcome::Ok | Outcome::Failed => {
                format!("{}, {}", number(entry.duration), outcome(entry).replace("ok, ", ""))
            }
            Outcome::Skipped => "skipped".to_owned(),
            Outcome::Pending => "pending".to_owned(),
        };
        let mut more = outcome(entry);
        if !entry.after.is_empty() {
            write!(more, "\nafter {}", entry.after.join(", ")).expect("a string takes every text");
        }
        for line in &entry.output {
            write!(more, "\n{}", clean(line, 200)).expect("a string takes every text");
        }
        let name = &entry.name;
        let start = entry.start;
        self.row(text, &Row { index, name, start, duration, style, label, label_colour, more });
    }

    fn row(&self, text: &mut String, row: &Row<'_>) {
        let middle = TOP + row.index * ROW + ROW / 2;
        let baseline = middle + 4;
        let name = clean(row.name, NAME);
        words(text, NAMES as f64 - 10.0, baseline, INK, "text-anchor=\"end\"", &name);
        let (from, to) = (self.x(row.start), self.x(row.start.saturating_add(row.duration)));
        let width = ((to - from) * 10.0).round() / 10.0;
        let title =
            format!("{}: from {} ms, {} ms\n{}", row.name, row.start, row.duration, row.more);
        put(
            text,
            format_args!(
                "<rect x=\"{from}\" y=\"{}\" width=\"{}\" height=\"{BAR}\" rx=\"2\" {}><title>{}</title></rect>",
                middle - BAR / 2,
                // What took no time is still to be seen.
                width.max(2.0),
                row.style,
                escaped(title.trim_end()),
            ),
        );
        // A digit is some 7 pixels wide; the words of a failure need more.
        let needed = LABEL.max(row.label.chars().count() as u64 * 7);
        let after = to + (needed as f64) < (WIDTH - 4) as f64;
        let (x, anchor) = if after || from < (NAMES + needed) as f64 {
            (to.max(from + 2.0) + 6.0, "start")
        } else {
            (from - 6.0, "end")
        };
        let style = format!("text-anchor=\"{anchor}\" font-size=\"11\"");
        words(text, x, baseline, row.label_colour, &style, &row.label);
    }

    fn finish(&self, text: &mut String, finished: u64) {
        let (x, bottom) = (self.x(finished), self.bottom());
        put(
            text,
            format_args!(
                "<line x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"{INK}\" stroke-dasharray=\"4 3\"/>",
                TOP - 6
            ),
        );
    }
}

fn legend(text: &mut String) {
    let parts = [
        ("step", colour(What::Step)),
        ("onboot", colour(What::Onboot)),
        ("service", colour(What::Service)),
        ("onshutdown", colour(What::Onshutdown)),
        ("failed", FAILED),
    ];
    let mut x = 560.0;
    for (name, colour) in parts {
        put(
            text,
            format_args!(
                "<rect x=\"{x}\" y=\"19\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>"
            ),
        );
        words(text, x + 18.0, 29, FAINT, "", name);
        x += 40.0 + name.len() as f64 * 7.0;
    }
}

/// The distance of the axis's marks: 1, 2 or 5 times a power of ten, at most ten of them.
fn tick(end: u64) -> u64 {
    let mut power = 1u64;
    loop {
        for factor in [1, 2, 5] {
            let step = power.saturating_mul(factor);
            if end / step <= 10 {
                return step;
            }
        }
        power = power.saturating_mul(10);
    }
}

fn words(text: &mut String, x: f64, y: u64, colour: &str, style: &str, shown: &str) {
    let space = if style.is_empty() { "" } else { " " };
    put(
        text,
        format_args!(
            "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\"{space}{style}>{}</text>",
            escaped(shown)
        ),
    );
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a string takes every text");
    text.push('\n');
}

/// Writes a text as XML's character data; what XML cannot hold is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(what: What, name: &str, start: u64, duration: u64, outcome: Outcome) -> Entry {
        Entry { duration, outcome, ..Entry::new(what, name, start) }
    }

    fn report() -> BootReport {
        let mut broken = entry(What::Onboot, "001-format", 1730, 410, Outcome::Failed);
        broken.exit = Some(3);
        broken.error = Some("no disk <sda> & no \u{1b}[31mcolour".into());
        broken.output = vec!["looking".into(), "gave up".into()];
        let mut web = entry(What::Service, "nginx", 3020, 910, Outcome::Ok);
        web.after = vec!["dhcpcd".into()];
        web.restarts = 2;
        BootReport {
            version: 1,
            kernel: "6.12.48+deb13-cloud-amd64".into(),
            started: 1180,
            finished: Some(4210),
            ok: false,
            entries: vec![
                entry(What::Step, "mounts", 1180, 12, Outcome::Ok),
                entry(What::Step, "modules", 1192, 240, Outcome::Ok),
                entry(What::Step, "clock", 1432, 0, Outcome::Skipped),
                entry(What::Onboot, "000-sysctl", 1440, 290, Outcome::Ok),
                broken,
                entry(What::Step, "containerd", 2140, 860, Outcome::Ok),
                entry(What::Service, "dhcpcd", 3000, 1200, Outcome::Ok),
                web,
                entry(
                    What::Service,
                    "a-service-with-quite-a-long-name-indeed",
                    3010,
                    0,
                    Outcome::Pending,
                ),
            ],
        }
    }

    #[test]
    fn shows_a_table() {
        insta::assert_snapshot!(table(&report()));
    }

    #[test]
    fn draws_a_timeline() {
        insta::assert_snapshot!(svg(&report()));
    }

    #[test]
    fn survives_any_report() {
        let wild = entry(What::Service, "\u{0}", u64::MAX, u64::MAX, Outcome::Failed);
        let report = BootReport { entries: vec![wild; 3], started: u64::MAX, ..report() };
        assert!(svg(&report).ends_with("</svg>\n"));
        assert!(table(&report).contains("failed"));
        assert!(svg(&BootReport::default()).contains("not yet booted"));
    }

    #[test]
    fn chooses_round_ticks() {
        for (end, step) in [(1, 1), (10, 1), (11, 2), (4210, 500), (9999, 1000), (60_000, 10_000)] {
            assert_eq!(tick(end), step, "{end}");
        }
        assert!(tick(u64::MAX) > 0);
    }
}
