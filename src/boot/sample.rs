//! The boot loaders for tests: those of the packages that this machine has.

use std::fs::File;
use std::path::Path;

use super::{Loaders, Machine};
use crate::tree::{Content, Inode, Kind, Metadata, Tree};

/// Takes the boot loaders from where Debian's packages put them; gives back
/// the paths of those that are not installed, too.
pub(crate) fn loaders() -> (Loaders, Vec<&'static str>) {
    let paths = [
        "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
        "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
        "usr/bin/syslinux",
        "usr/lib/syslinux/mbr/gptmbr.bin",
        "usr/lib/syslinux/mbr/mbr.bin",
        "usr/lib/ISOLINUX/isolinux.bin",
        "usr/lib/ISOLINUX/isohdpfx.bin",
        "usr/lib/syslinux/modules/bios/ldlinux.c32",
    ];
    let (mut tree, mut missing) = (Tree::new(), Vec::new());
    for path in paths {
        let Ok(file) = File::open(Path::new("/").join(path)) else {
            missing.push(path);
            continue;
        };
        let kind = Kind::File(Content::of_file(file).unwrap());
        let inode = Inode { meta: Metadata::root(0o644, 0), kind, part: 0 };
        tree.insert(path.as_bytes(), inode).unwrap();
    }
    (Loaders::find(&tree, Machine::Amd64), missing)
}
