//! Fuzzes the reader of initial roots.
//!
//! What was read is written and read again, which then comes to the same bytes
//! each time. (The first time may be ordered otherwise: there an inode can have
//! lost the name that it came with.)

use std::collections::BTreeMap;
use std::io::Read;

use moby::fs::cpio::{Item, Writer, read};
use moby::tree::{Content, Id, Tree};

/// The most bytes of one file that are kept.
const KEPT: u64 = 1 << 20;

fn tree(mut bytes: &[u8]) -> anyhow::Result<Tree> {
    read(&mut bytes, &mut |stream: &mut dyn Read, len: u64| {
        anyhow::ensure!(len <= KEPT, "expected a file of at most {KEPT} bytes, got {len}");
        let mut kept = Vec::new();
        stream.take(len).read_to_end(&mut kept)?;
        Ok(Content::Bytes(kept.into()))
    })
}

fn written(tree: &Tree) -> anyhow::Result<Vec<u8>> {
    let mut order = Vec::new();
    let mut items: BTreeMap<Id, Item> = BTreeMap::new();
    for walked in tree.walk().filter(|walked| !walked.path.is_empty()) {
        if !walked.link {
            order.push(walked.id);
        }
        let item = items.entry(walked.id);
        let item = item.or_insert_with(|| Item { id: walked.id, paths: Vec::new() });
        item.paths.push(walked.path);
    }
    let mut writer = Writer::new(Vec::new());
    for id in order {
        writer.append(tree, &items[&id])?;
    }
    writer.finish()
}

fn again(bytes: &[u8]) -> Vec<u8> {
    let tree = tree(bytes).unwrap_or_else(|error| panic!("reading what was written: {error:#}"));
    written(&tree).unwrap_or_else(|error| panic!("writing it again: {error:#}"))
}

/// Reads an input.
pub(crate) fn run(data: &[u8]) {
    let Ok(first) = tree(data) else { return };
    let Ok(bytes) = written(&first) else { return };
    let second = again(&bytes);
    assert!(second == again(&second), "the third writing differs from the second");
}
