//! The known name nearest to one that is not known.

/// Returns the name nearest to `wrong`, when one is near enough to be meant.
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if wrong.is_empty() || wrong.len() > 64 {
        return None;
    }
    let folded = wrong.to_lowercase();
    let (distance, name) = known
        .into_iter()
        .map(|name| (distance(&folded, &name.to_lowercase()), name))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= wrong.chars().count().max(3) / 3).then(|| name.to_owned())
}

/// Counts the letters to insert, drop, replace or swap (Damerau-Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_or_nothing() {
        let known = ["capabilities", "command", "cwd", "image", "readonly"];
        for (wrong, meant) in [
            ("capabilitys", Some("capabilities")),
            ("comand", Some("command")),
            ("readOnly", Some("readonly")),
            ("iamge", Some("image")),
            ("bogus", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, known).as_deref(), meant, "{wrong}");
        }
    }
}
