//! Fuzzes the reader of squashfs images.

/// Reads an input.
pub(crate) fn run(data: &[u8]) {
    let (file, len) = (crate::input::file(data), data.len() as u64);
    if let Ok(tree) = moby::fs::squashfs::open(file.clone(), 0, len) {
        crate::input::read_all(&tree);
    }
    drop(moby::fs::squashfs::dump(file, 0, len));
}
