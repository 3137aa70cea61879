//! Fuzzes the reader of FAT file systems.

/// Reads an input.
pub(crate) fn run(data: &[u8]) {
    let image = moby::fs::Extents::of_bytes(data.to_vec());
    if let Ok(tree) = moby::fs::fat::open(&image) {
        crate::input::read_all(&tree);
    }
    drop(moby::fs::fat::dump(&image));
}
