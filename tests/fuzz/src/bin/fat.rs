//! Fuzzes the reader of FAT file systems.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let image = moby::fs::Extents::of_bytes(data.to_vec());
    drop(moby::fs::fat::open(&image));
    drop(moby::fs::fat::dump(&image));
});
