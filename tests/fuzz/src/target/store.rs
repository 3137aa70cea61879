//! Fuzzes the readers of what a cache and a build keep on disk: the index of an
//! unpacked layer, that of a Debian archive, and locks.

use moby::source::Lock;
use moby::source::debian::index::Index;
use moby::store::{Layer, decode_index};
use moby::tree::Tree;

/// Reads an input.
pub(crate) fn run(data: &[u8]) {
    let tar = crate::input::file(data);
    if let Ok((_, entries)) = decode_index(data) {
        let mut tree = Tree::new();
        if moby::image::apply(&mut tree, &Layer { entries, tar: tar.clone(), diff_id: None })
            .is_ok()
        {
            crate::input::read_all(&tree);
        }
    }
    if let Ok(index) = Index::open(tar.try_clone().expect("the same file once more")) {
        drop(index.find("a"));
    }
    if let Some(lock) = std::str::from_utf8(data).ok().and_then(|text| text.parse::<Lock>().ok()) {
        let text = lock.to_text();
        let again: Lock = text.parse().expect("the lock that was written");
        assert_eq!(text, again.to_text());
    }
}
