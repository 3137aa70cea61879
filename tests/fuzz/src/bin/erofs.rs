//! Fuzzes the reader of EROFS images.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (file, len) = (moby_fuzz::file(data), data.len() as u64);
    if let Ok(tree) = moby::fs::erofs::open(file.clone(), 0, len) {
        moby_fuzz::read_all(&tree);
    }
    drop(moby::fs::erofs::dump(file, 0, len));
});
