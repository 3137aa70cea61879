//! Fuzzes the readers of virtual disks (qcow2, VMDK, VHD, VHDX) and of their
//! partition tables.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let scratch = std::env::temp_dir();
    let Ok(opened) = moby::disk::open(&moby_fuzz::file(data), &scratch) else { return };
    drop(moby::disk::read(&opened.image));
});
