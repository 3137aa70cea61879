//! What the targets share: the input as a file, for readers that take one.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use moby::tree::{Kind, Tree};

/// The most bytes of a tree's files that are read.
const READ: u64 = 4 << 20;

/// Puts an input into a file without a name.
pub(crate) fn file(data: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(data).expect("room for an input");
    Arc::new(file)
}

/// Walks a tree and reads what its files hold, up to a bound.
pub(crate) fn read_all(tree: &Tree) {
    let mut left = READ;
    for walked in tree.walk() {
        if let Kind::File(content) = &tree.get(walked.id).kind
            && content.len() <= left
        {
            left -= content.len();
            drop(content.copy_to(&mut std::io::sink()));
        }
    }
}
