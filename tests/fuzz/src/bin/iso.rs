//! Fuzzes the reader of ISO 9660 images.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let image = moby::fs::Extents::of_bytes(data.to_vec());
    if let Ok(tree) = moby::fs::iso9660::open(&image) {
        moby_fuzz::read_all(&tree);
    }
    drop(moby::fs::iso9660::dump(&image));
});
