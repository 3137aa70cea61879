//! Tables and figures for people.

use std::time::Duration;

/// Lays out rows below a heading; columns named in `right` are set flush right.
pub(super) fn table(heading: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let cell = |(column, cell): (usize, &str)| match right.contains(&column) {
            true => format!("{cell:>width$}", width = widths[column]),
            false => format!("{cell:<width$}", width = widths[column]),
        };
        let cells: Vec<String> = cells.into_iter().enumerate().map(cell).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    [line(heading.to_vec())].into_iter().chain(rows).collect()
}

/// Shows a size in a unit that gives it three digits or so, 1 kB being 1000 B.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut scaled = bytes as f64;
    let mut unit = 0;
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if scaled < 9.95 => format!("{scaled:.1} {}", UNITS[unit]),
        _ => format!("{scaled:.0} {}", UNITS[unit]),
    }
}

/// Counts things by their name in the singular.
pub(super) fn count(n: usize, name: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{n} {name}{ending}")
}

/// Shows a span of time.
pub(super) fn time(span: Duration) -> String {
    match span.as_millis() {
        millis if millis < 1000 => format!("{millis} ms"),
        millis if millis < 60_000 => format!("{:.1} s", millis as f64 / 1000.0),
        millis => format!("{} min {} s", millis / 60_000, millis / 1000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_figures_shortly() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (12_345, "12 kB"),
            (236_800_000, "237 MB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
        assert_eq!([count(0, "file"), count(1, "file")], ["0 files", "1 file"]);
        for (millis, shown) in [(7, "7 ms"), (12_400, "12.4 s"), (61_000, "1 min 1 s")] {
            assert_eq!(time(Duration::from_millis(millis)), shown);
        }
    }

    #[test]
    fn lays_out_columns() {
        let rows = [vec!["a".into(), "1 B".into()], vec!["long".into(), "12 B".into()]];
        assert_eq!(table(&["NAME", "SIZE"], &[1], &rows), "NAME  SIZE\na      1 B\nlong  12 B\n");
    }
}
