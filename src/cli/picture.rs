//! Pictures for people: how a disk is divided.

use crate::inspect::Disk;

/// How many cells a disk has on a line.
const WIDTH: u64 = 64;

/// Draws a disk: each partition as wide as it is large, as far as it is full.
pub(super) fn disk(disk: &Disk) -> String {
    let mut cells = Vec::new();
    let mut at = 0;
    for partition in &disk.partitions {
        if partition.start > at {
            cells.push((None, partition.start - at, 0));
        }
        let used = partition.used.unwrap_or(0).min(partition.size);
        cells.push((Some(partition.number), partition.size, used));
        at = at.max(partition.start.saturating_add(partition.size));
    }
    if disk.size > at {
        cells.push((None, disk.size - at, 0));
    }
    let (mut bar, mut names) = (String::from("│"), String::from(" "));
    for (number, size, used) in cells {
        // A gap that is too small to show is none; a partition is always there.
        let width = scaled(size, WIDTH, disk.size);
        let width = if number.is_some() { width.max(1) } else { width };
        if width == 0 {
            continue;
        }
        let full = match number {
            Some(_) if used > 0 => scaled(used, width, size).clamp(1, width),
            _ => 0,
        };
        let empty = if number.is_some() { "░" } else { " " };
        bar.push_str(&"█".repeat(full as usize));
        bar.push_str(&empty.repeat((width - full) as usize));
        bar.push('│');
        let name = number.map(|number| number.to_string()).unwrap_or_default();
        names.push_str(&format!("{name:<width$} ", width = width as usize));
    }
    format!("{bar}\n{}\n", names.trim_end())
}

/// Returns `part` of `whole` in cells of `width`, rounded.
fn scaled(part: u64, width: u64, whole: u64) -> u64 {
    let (part, whole) = (u128::from(part), u128::from(whole.max(1)));
    let cells = (part * u128::from(width) + whole / 2) / whole;
    cells.min(u128::from(WIDTH)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::Partition;

    #[test]
    fn draws_a_disk() {
        let partition = |number: usize, start: u64, size: u64, used: Option<u64>| Partition {
            number,
            name: String::new(),
            kind: String::new(),
            id: None,
            start,
            size,
            system: None,
            used,
        };
        let picture = disk(&Disk {
            size: 64 << 20,
            table: Some("gpt"),
            sector: 512,
            id: String::new(),
            partitions: vec![
                partition(1, 1 << 20, 15 << 20, Some(8 << 20)),
                partition(2, 16 << 20, 1000, Some(2000)),
                partition(3, 32 << 20, 16 << 20, None),
            ],
        });
        let (gap, empty) = (" ".repeat(16), "░".repeat(16));
        let bar = ["│ │████████░░░░░░░│█│", &gap, "│", &empty, "│", &gap];
        let names = format!("   1{}2{}3", " ".repeat(15), " ".repeat(18));
        assert_eq!(picture, format!("{}│\n{names}\n", bar.concat()));
    }

    #[test]
    fn no_numbers_make_it_panic() {
        let partition = Partition {
            number: 1,
            name: String::new(),
            kind: String::new(),
            id: None,
            start: u64::MAX,
            size: u64::MAX,
            system: None,
            used: Some(u64::MAX),
        };
        for size in [0, 1, u64::MAX] {
            let (id, partitions) = (String::new(), vec![partition.clone()]);
            disk(&Disk { size, table: None, sector: 512, id, partitions });
        }
    }
}
