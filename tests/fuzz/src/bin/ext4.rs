//! Fuzzes the reader of ext4 file systems.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (file, len) = (moby_fuzz::file(data), data.len() as u64);
    if let Ok(tree) = moby::fs::ext4::open(file.clone(), 0, len) {
        moby_fuzz::read_all(&tree);
    }
    drop(moby::fs::ext4::dump(file, 0, len));
});
