//! Fuzzes the reader of FAT file systems.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let image = moby::fs::Extents::of_bytes(data.to_vec());
    if let Ok(tree) = moby::fs::fat::open(&image) {
        moby_fuzz::read_all(&tree);
    }
    drop(moby::fs::fat::dump(&image));
});
