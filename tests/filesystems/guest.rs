//! The guest: its initrd, its disks, and what it says.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use moby::fs::cpio::{Item, Writer};
use moby::tree::{Inode, Kind, Metadata, Tree};
use moby_bundle::modules::Index;

use crate::listed::{self, List};
use crate::support::guest::{build_as, in_order};
use crate::support::initrd;

/// What the guest's root is made of, but for its init.
const MANIFEST: &str = "kernel:
  image: '@pkg:PKG/kernel'
init:
  - deb:busybox-static
  - deb:attr
  - deb:e2fsprogs
";
/// Drivers of the disks and of what is on them.
const DRIVERS: [&str; 12] = [
    "virtio_pci",
    "virtio_blk",
    "crc32c_generic",
    "crc32c",
    "squashfs",
    "erofs",
    "ext4",
    "isofs",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
];
/// The room for what the guest found, in bytes.
const ROOM: u64 = 64 << 20;
/// How long the guest may take, in seconds: CI machines emulate slowly.
const PATIENCE: &str = "240";

/// Lists a mounted file system; `MARK` begins each record.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
/bin/busybox mkdir -p /proc /sys /dev /mnt
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules); do /bin/busybox insmod $module; done
list() {
	cd /mnt
	busybox find . -print0 | busybox xargs -r -0 busybox stat -c '@@ %f %u %g %s %Y %t %T %h %i %n'
	busybox find . -type l -print0 | busybox xargs -r -0 busybox stat -c '@@ -> %N'
	echo '@@ contents'
	busybox find . -type f -print0 | busybox xargs -r -0 busybox sha256sum
	echo '@@ attributes'
	/usr/bin/getfattr -R -P -h --absolute-names -d -m - -e hex .
	cd /
}
write() {
	cd /mnt
	rm -r many
	mv sizes/700001 sizes/moved
	resize2fs "$1"
	mkdir written
	dd if=/dev/zero bs=1M count=9 | tr '\0' x >'written/by the guest'
	dd if=/dev/zero of=large bs=1M count=100
	sync
	rm large
	cp -a sizes again
	ln again/1 again/link
	cd /
}
for applet in mkdir dd tr rm mv cp ln sync mount umount cat; do
	busybox ln -sf /bin/busybox /bin/$applet
done
{
	while read -r device kind options name; do
		echo "@@ disk $name"
		mount -t "$kind" -o "$options" "/dev/$device" /mnt || continue
		if [ "$name" = grown ]; then write "/dev/$device" && echo 'moby: written and grown' >/dev/kmsg
		else list 2>>/errors; fi
		umount /mnt || echo "moby: $name is busy" >/dev/kmsg
	done </disks
	echo '@@ log'
	cat /errors
	busybox dmesg
	echo '@@ end'
} >/found 2>&1
cat /found >/dev/LAST
sync
echo 'moby: all found'
busybox poweroff -f
"#;

/// A guest that is put together.
pub(crate) struct Guest {
    folder: PathBuf,
    /// Name, type, mount options.
    disks: Vec<(String, String, String)>,
}

impl Guest {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), disks: Vec::new() }
    }

    /// Where a disk lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name.replace(' ', "-"))
    }

    /// Adds a disk and returns where it is to be.
    pub(crate) fn disk(&mut self, name: &str, kind: &str, options: &str) -> PathBuf {
        self.disks.push((name.to_owned(), kind.to_owned(), options.to_owned()));
        self.path(name)
    }

    /// Boots; returns the lists by disk, and the kernel's log.
    pub(crate) fn run(&self) -> (BTreeMap<String, List>, String) {
        let initrd = self.initrd();
        let found = self.folder.join("found");
        File::create(&found).unwrap().set_len(ROOM).unwrap();
        let mut qemu = Command::new("timeout");
        qemu.args([PATIENCE, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "1"]);
        qemu.args([
            "-m",
            "512",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
            "-net",
            "none",
        ]);
        qemu.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
        qemu.arg("-kernel").arg(self.folder.join("guest-kernel")).arg("-initrd").arg(initrd);
        let paths = self.disks.iter().map(|disk| self.path(&disk.0)).chain([found.clone()]);
        for path in paths {
            let drive = format!("if=virtio,format=raw,file={}", path.display());
            qemu.arg("-drive").arg(drive);
        }
        let output = qemu.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        in_order(&said, &["moby: all found"]);
        listed::parse(&fs::read(&found).unwrap())
    }

    /// Makes the initrd: what `moby build` makes, and the init behind it.
    fn initrd(&self) -> PathBuf {
        let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("pkg");
        let manifest = self.folder.join("guest.yml");
        let text = MANIFEST.replace("PKG", packages.to_str().unwrap());
        fs::write(&manifest, text).unwrap();
        build_as(&manifest, &self.folder, &["--no-sbom"]);
        let path = self.folder.join("guest-initrd.img");
        let tree = initrd::read(&fs::read(&path).unwrap());
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        let add = [
            ("init", 0o755, INIT.replace("LAST", &device(self.disks.len()))),
            ("modules", 0o644, modules(&tree)),
            ("disks", 0o644, self.table()),
        ];
        file.write_all(&archive(&add)).unwrap();
        path
    }

    fn table(&self) -> String {
        let row = |(nth, (name, kind, options)): (usize, &(String, String, String))| {
            format!("{} {kind} {options} {name}\n", device(nth))
        };
        self.disks.iter().enumerate().map(row).collect()
    }
}

/// The name of a virtio disk in Linux.
fn device(nth: usize) -> String {
    format!("vd{}", char::from(b'a' + u8::try_from(nth).unwrap()))
}

/// The paths of the drivers and all that they need, in the order of loading.
fn modules(tree: &Tree) -> String {
    let index = tree.walk().find(|found| found.path.ends_with(b"/moby.modules")).unwrap();
    let folder = String::from_utf8(index.path.clone()).unwrap();
    let folder = folder.strip_suffix("moby.modules").unwrap();
    let Kind::File(content) = &tree.get(index.id).kind else { panic!("expected a file") };
    let text = String::from_utf8(content.gather(64 << 20).unwrap()).unwrap();
    let index = Index::parse(&text).unwrap();
    let mut loaded = Default::default();
    let mut paths = String::new();
    for module in DRIVERS.iter().flat_map(|driver| index.find(driver)) {
        for needed in index.plan(module, &loaded) {
            paths += &format!("/{folder}{}\n", needed.path);
            loaded.insert(needed.name.to_owned());
        }
    }
    paths
}

fn archive(files: &[(&str, u16, String)]) -> Vec<u8> {
    let mut tree = Tree::new();
    let mut writer = Writer::new(Vec::new());
    for (path, mode, text) in files {
        let kind = Kind::bytes(text.as_bytes());
        let inode = Inode { meta: Metadata::root(*mode, 0), kind, part: 0 };
        let id = tree.insert(path.as_bytes(), inode).unwrap();
        writer.append(&tree, &Item { id, paths: vec![path.as_bytes().to_vec()] }).unwrap();
    }
    writer.finish().unwrap()
}
