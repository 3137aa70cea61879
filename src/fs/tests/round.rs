//! What was written is read back, and nothing else.

use proptest::prelude::*;

use super::{KEPT, Kept, cases};
use crate::fs::sample::{everything, lines, random};
use crate::tree::Tree;

/// Compares but for the folder that ext4 makes.
fn check(kept: &Kept, tree: &Tree) -> Result<(), TestCaseError> {
    let held = (kept.held)(tree.clone());
    let mut back = kept.back(&held);
    if kept.name == "ext4" && held.lookup(b"lost+found").is_none() {
        back.remove(b"lost+found").unwrap();
    }
    let (found, expected) = (lines(&back), lines(&held));
    let differ = found.iter().zip(&expected).find(|(found, expected)| found != expected);
    prop_assert!(differ.is_none(), "{}: {differ:#?}", kept.name);
    prop_assert_eq!(found.len(), expected.len(), "{}", kept.name);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(12)))]

    #[test]
    fn random_trees_come_back(tree in random()) {
        for kept in KEPT {
            check(kept, &tree)?;
        }
    }
}

#[test]
fn everything_comes_back() {
    let tree = everything();
    for kept in KEPT {
        check(kept, &tree).unwrap();
    }
}
