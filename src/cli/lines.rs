//! The lines that differ between two texts, by E. W. Myers, "An O(ND)
//! Difference Algorithm and Its Variations" (1986).

/// More differing lines than this are not told apart.
const EDITS_MAX: usize = 1000;
/// How many equal lines are shown around those that differ.
const CONTEXT: usize = 2;

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit<'a> {
    Keep(&'a str),
    Remove(&'a str),
    Add(&'a str),
}

/// Shows the lines that differ with a few around them, indented; nothing that
/// a terminal would obey.
pub(super) fn differences(before: &str, after: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let Some(edits) = edits(&a, &b) else {
        return "    (more than a thousand lines differ)\n".to_owned();
    };
    let differs = |at: usize| !matches!(edits[at], Edit::Keep(_));
    let near = |at: usize| {
        let range = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(edits.len());
        range.into_iter().any(differs)
    };
    let (mut text, mut skipped) = (String::new(), false);
    for (at, edit) in edits.iter().enumerate() {
        if !near(at) {
            skipped = true;
            continue;
        }
        if std::mem::take(&mut skipped) && !text.is_empty() {
            text.push_str("    ...\n");
        }
        let (sign, line) = match edit {
            Edit::Keep(line) => (' ', line),
            Edit::Remove(line) => ('-', line),
            Edit::Add(line) => ('+', line),
        };
        let line: String = line
            .chars()
            .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
            .collect();
        text.push_str(&format!("    {sign}{line}\n"));
    }
    text
}

/// Finds the fewest edits; `None` where there are too many.
fn edits<'a>(a: &[&'a str], b: &[&'a str]) -> Option<Vec<Edit<'a>>> {
    let max = (a.len() + b.len()).min(EDITS_MAX);
    let middle = max + 1;
    // The farthest line of `a` on each diagonal, and what it was at each step.
    let mut farthest = vec![0; 2 * middle + 1];
    let mut steps = Vec::new();
    for d in 0..=max {
        steps.push(farthest.clone());
        for k in (0..=d).map(|i| 2 * i as isize - d as isize) {
            let at = (middle as isize + k) as usize;
            let down =
                k == -(d as isize) || (k != d as isize && farthest[at - 1] < farthest[at + 1]);
            let mut x = if down { farthest[at + 1] } else { farthest[at - 1] + 1 };
            let mut y = (x as isize - k) as usize;
            while x < a.len() && y < b.len() && a[x] == b[y] {
                (x, y) = (x + 1, y + 1);
            }
            farthest[at] = x;
            if x >= a.len() && y >= b.len() {
                return Some(trace(a, b, &steps, middle));
            }
        }
    }
    None
}

/// Walks back over the steps and gives the edits in order.
fn trace<'a>(a: &[&'a str], b: &[&'a str], steps: &[Vec<usize>], middle: usize) -> Vec<Edit<'a>> {
    let (mut x, mut y) = (a.len(), b.len());
    let mut edits = Vec::new();
    for (d, farthest) in steps.iter().enumerate().rev() {
        let k = x as isize - y as isize;
        let at = (middle as isize + k) as usize;
        let down = k == -(d as isize) || (k != d as isize && farthest[at - 1] < farthest[at + 1]);
        let (from_x, from_y) = if d == 0 {
            (0, 0)
        } else if down {
            (farthest[at + 1], (farthest[at + 1] as isize - (k + 1)) as usize)
        } else {
            (farthest[at - 1], (farthest[at - 1] as isize - (k - 1)) as usize)
        };
        let (after_x, after_y) = match (d, down) {
            (0, _) => (0, 0),
            (_, true) => (from_x, from_y + 1),
            (_, false) => (from_x + 1, from_y),
        };
        while x > after_x && y > after_y {
            (x, y) = (x - 1, y - 1);
            edits.push(Edit::Keep(a[x]));
        }
        if d > 0 {
            edits.push(if down { Edit::Add(b[from_y]) } else { Edit::Remove(a[from_x]) });
        }
        (x, y) = (from_x, from_y);
    }
    edits.reverse();
    edits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shows_lines_and_what_is_around() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let after = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n10\n";
        let wanted = "     3\n     4\n    -5\n    +five\n     6\n     7\n     8\n     9\n    +10\n";
        assert_eq!(differences(before, after), wanted);
        assert_eq!(differences("a\n", "a\n"), "");
        assert_eq!(differences("", "\u{1b}[2J\n"), "    +\u{fffd}[2J\n");
        let long: String = (0..1200).map(|n| format!("{n}\n")).collect();
        assert!(differences(&long, "").contains("thousand"));
    }

    proptest! {
        #[test]
        fn edits_lead_from_one_to_the_other(
            a in proptest::collection::vec("[abc]", 0..30),
            b in proptest::collection::vec("[abc]", 0..30),
        ) {
            let (a, b): (Vec<&str>, Vec<&str>) =
                (a.iter().map(String::as_str).collect(), b.iter().map(String::as_str).collect());
            let found = edits(&a, &b).unwrap();
            let side = |left_out: fn(&Edit<'_>) -> bool| -> Vec<&str> {
                let kept = found.iter().filter(|edit| !left_out(edit));
                kept.map(|edit| match edit {
                    Edit::Keep(line) | Edit::Remove(line) | Edit::Add(line) => *line,
                }).collect()
            };
            prop_assert_eq!(side(|edit| matches!(edit, Edit::Add(_))), a);
            prop_assert_eq!(side(|edit| matches!(edit, Edit::Remove(_))), b);
        }
    }
}
