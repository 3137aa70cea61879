//! Fuzzes `moby inspect`: whatever a file is told to be, down to the initrds,
//! boot loaders' texts and container images in it.

use std::io::Write;

/// Reads an input.
pub(crate) fn run(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(data).expect("room for an input");
    let Ok(image) = moby::inspect::inspect(file.path()) else { return };
    for volume in &image.volumes {
        crate::input::read_all(&volume.tree);
        drop(moby::inspect::files::totals(&volume.tree));
        for path in [&b"init"[..], b"../bin/sh", b"etc/mtab"] {
            drop(moby::inspect::files::resolve(&volume.tree, path));
        }
    }
    let found = moby::inspect::compare::compare(&image, &image).expect("an image like itself");
    assert!(found.is_empty());
}
