//! Fuzzes the reader of ISO 9660 images.

/// Reads an input.
pub(crate) fn run(data: &[u8]) {
    let image = moby::fs::Extents::of_bytes(data.to_vec());
    if let Ok(tree) = moby::fs::iso9660::open(&image) {
        crate::input::read_all(&tree);
    }
    drop(moby::fs::iso9660::dump(&image));
}
