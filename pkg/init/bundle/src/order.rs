//! The order of services by `after`, up and down.

use std::collections::{BTreeMap, BTreeSet};

/// Sorts names so that each comes behind those in its `after`, equal ones by name; or gives
/// the names that wait for one another in a ring. Names in `after` that no entry has are
/// passed over, see [`unknown`].
pub fn sort(after: &BTreeMap<String, Vec<String>>) -> Result<Vec<String>, Vec<String>> {
    let mut sorted: Vec<String> = Vec::with_capacity(after.len());
    let mut done = BTreeSet::new();
    while sorted.len() < after.len() {
        let free: Vec<&String> = after
            .iter()
            .filter(|(name, _)| !done.contains(*name))
            .filter(|(_, needs)| {
                needs.iter().all(|need| done.contains(need) || !after.contains_key(need))
            })
            .map(|(name, _)| name)
            .collect();
        if free.is_empty() {
            return Err(ring(after, &done));
        }
        done.extend(free.iter().copied());
        sorted.extend(free.into_iter().cloned());
    }
    Ok(sorted)
}

/// Finds one ring among the names that are not done; each of them needs another such one.
fn ring(after: &BTreeMap<String, Vec<String>>, done: &BTreeSet<&String>) -> Vec<String> {
    let mut path: Vec<&String> = Vec::new();
    let mut next = after.keys().find(|name| !done.contains(*name));
    while let Some(name) = next {
        if let Some(start) = path.iter().position(|seen| *seen == name) {
            return path.split_off(start).into_iter().cloned().collect();
        }
        path.push(name);
        next = after.get(name).and_then(|needs| {
            needs.iter().find(|need| after.contains_key(*need) && !done.contains(*need))
        });
    }
    Vec::new()
}

/// Lists (name, need) for each `after` that names no entry.
pub fn unknown(after: &BTreeMap<String, Vec<String>>) -> Vec<(&str, &str)> {
    let pairs = after.iter().flat_map(|(name, needs)| needs.iter().map(move |need| (name, need)));
    pairs
        .filter(|(_, need)| !after.contains_key(*need))
        .map(|(name, need)| (name.as_str(), need.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        edges.iter().map(|(name, needs)| (name.to_string(), own(needs))).collect()
    }

    #[test]
    fn sorts() {
        let after = graph(&[("a", &["c"]), ("b", &[]), ("c", &["b", "gone"]), ("d", &[])]);
        assert_eq!(sort(&after).unwrap(), ["b", "d", "c", "a"]);
        assert_eq!(unknown(&after), [("c", "gone")]);
    }

    #[test]
    fn finds_a_ring() {
        let after = graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"]), ("d", &[])]);
        assert_eq!(sort(&after).unwrap_err(), ["b", "c"]);
        assert_eq!(sort(&graph(&[("a", &["a"])])).unwrap_err(), ["a"]);
    }
}
