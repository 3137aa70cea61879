//! Fuzzes the readers of virtual disks (qcow2, VMDK, VHD, VHDX) and of their
//! partition tables.

/// Reads an input.
pub(crate) fn run(data: &[u8]) {
    let scratch = std::env::temp_dir();
    let Ok(opened) = moby::disk::open(&crate::input::file(data), &scratch) else { return };
    drop(moby::disk::read(&opened.image));
}
