//! Writes what the fuzz targets start from: for each of them a folder of valid
//! inputs, made by moby's own writers, and for manifests a list of their words.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use moby::disk::{Guid, gpt, mbr, qcow2, vhd, vhdx, vmdk};
use moby::fs::cpio::{Item, Writer};
use moby::fs::{Composed, Extents, erofs, ext4, fat, iso9660, squashfs};
use moby::oci::{Descriptor, MEDIA_LAYER};
use moby::source::Lock;
use moby::source::debian::index;
use moby::store::Store;
use moby::tree::{Content, Inode, Kind, Metadata, Tree};

/// A manifest with a value of every kind.
const MANIFEST: &str = include_str!("manifest.yml");
/// Two packages of an archive.
const PACKAGES: &str = "Package: a\nVersion: 1:2.3-4\nDepends: b (>= 1), c | d\nProvides: e (= 2)\n\
                        Filename: pool/a.deb\nSize: 7\nSHA256: \
                        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\n\
                        Package: b\nVersion: 1~rc1\nConflicts: a\nFilename: pool/b.deb\nSize: 9\nSHA256: \
                        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";
/// Magic and digest in front of the index of a layer, in bytes.
const HEAD: usize = 8 + 32;
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Writes the seeds of all targets, a folder for each.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let folder = Folder(folder.to_owned());
    folder.put("manifest", "whole", MANIFEST.as_bytes())?;
    for part in MANIFEST.split("\n\n") {
        let name = part.split(':').next().unwrap_or_default().trim();
        folder.put("manifest", name, part.as_bytes())?;
    }
    folder.put("", "manifest.dict", words().as_bytes())?;
    documents(&folder)?;
    let plain = plain()?;
    let volume = fat::plan(&plain, &Composed::default(), &fat::Options::default())?;
    let fat_bytes = bytes_of(&volume.image)?;
    folder.put("fat", "tree", &fat_bytes)?;
    let volume = iso9660::plan(&plain, &Composed::default(), &iso9660::Options::default())?;
    folder.put("iso", "tree", &bytes_of(&volume.image)?)?;
    disks(&folder, &Extents::of_bytes(fat_bytes))?;
    let tree = linked(plain)?;
    images(&folder, &tree)?;
    let mut bytes = Vec::new();
    moby::fs::tar::write(&tree, &|_| vec![("LINUXKIT.source", "a".to_owned())], &mut bytes)?;
    folder.put("tar", "tree", &bytes)?;
    debian(&folder, &bytes)?;
    kept(&folder, &bytes)?;
    folder.put("cpio", "tree", &cpio(&tree)?)?;
    inspected(&folder, &tree, &bytes)
}

/// What is looked into: an initrd of several segments, a volume and a disc
/// with the texts of boot loaders, a unified kernel image, archives.
fn inspected(folder: &Folder, tree: &Tree, tar: &[u8]) -> Result<()> {
    let archive = cpio(tree)?;
    let mut initrd = archive.clone();
    for with in ["gzip:1", "zstd:1", "lz4"] {
        let with: moby::format::Compression = with.parse()?;
        with.compress(&mut initrd, |out| out.write_all(&archive).context("compressing"))?;
    }
    folder.put("inspect", "initrd", &initrd)?;
    folder.put("inspect", "tar", tar)?;
    let menu = "DEFAULT a\nLABEL a\n KERNEL /kernel\n INITRD /initrd.img\n APPEND quiet\n";
    let mut started = Tree::new();
    let mut kernel = vec![0; 1024];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    put(&mut started, "kernel", Kind::bytes(kernel))?;
    put(&mut started, "initrd.img", Kind::bytes(initrd))?;
    put(&mut started, "SYSLINUX.CFG", Kind::bytes(menu.as_bytes()))?;
    put(&mut started, "cmdline.txt", Kind::bytes(&b"console=tty1\n"[..]))?;
    put(&mut started, "config.txt", Kind::bytes(&b"kernel=kernel\ninitramfs initrd.img\n"[..]))?;
    let entry = &b"title a\nlinux /kernel\ninitrd /initrd.img\noptions quiet\n"[..];
    put(&mut started, "loader/entries/a.conf", Kind::bytes(entry))?;
    put(&mut started, "EFI/BOOT/BOOTX64.EFI", Kind::bytes(program()))?;
    let volume = fat::plan(&started, &Composed::default(), &fat::Options::default())?;
    folder.put("inspect", "volume", &bytes_of(&volume.image)?)?;
    let partition = gpt::Partition::new(gpt::ESP, "boot", volume.image);
    let (id, sector, size, code) = (Guid::default(), 512, None, vec![0xfa]);
    let disk = gpt::Disk { id, sector, size, code, partitions: vec![partition] };
    folder.put("inspect", "disk", &bytes_of(&gpt::plan(&disk)?.0)?)?;
    folder.put("inspect", "program", &program())?;
    let index = r#"[{"Config":"c","RepoTags":["a:1"],"Layers":["layer.tar"]}]"#;
    let mut saved = Vec::new();
    for (name, bytes) in [("manifest.json", index.as_bytes()), ("layer.tar", tar)] {
        let content = Content::Bytes(bytes.into());
        moby::fs::tar::write_file(name, 0, &content, &mut saved)?;
    }
    moby::fs::tar::finish(&mut saved)?;
    folder.put("inspect", "saved", &saved)
}

/// An EFI program with a section of a kernel.
fn program() -> Vec<u8> {
    let mut out = vec![0; 0x600];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(60, &0x80_u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    put(0x86, &2_u16.to_le_bytes());
    put(0x94, &0xf0_u16.to_le_bytes());
    put(0x98, &0x20b_u16.to_le_bytes());
    for (at, name) in [(0x188, b".cmdline"), (0x1b0, b".linux\0\0")] {
        put(at, name);
        for (index, value) in [0x80_u32, 0x1000, 0x200, 0x400].into_iter().enumerate() {
            put(at + 8 + 4 * index, &value.to_le_bytes());
        }
    }
    out
}

fn bytes_of(image: &Extents) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::copy(&mut image.reader(), &mut bytes).context("reading an image")?;
    Ok(bytes)
}

/// The file systems that are written in one pass.
fn images(folder: &Folder, tree: &Tree) -> Result<()> {
    let mut out = Cursor::new(Vec::new());
    squashfs::write(tree, &squashfs::Options::default(), &mut out)?;
    folder.put("squashfs", "tree", out.get_ref())?;
    let mut out = Cursor::new(Vec::new());
    erofs::write(tree, &erofs::Options::default(), &mut out)?;
    folder.put("erofs", "tree", out.get_ref())?;
    let mut out = Cursor::new(Vec::new());
    ext4::write(tree, &ext4::Options::default(), &mut out)?;
    folder.put("ext4", "tree", out.get_ref())
}

/// A small disk in every form.
fn disks(folder: &Folder, raw: &Extents) -> Result<()> {
    let id = Guid::default();
    let partition = gpt::Partition::new(gpt::ESP, "boot", raw.clone());
    let (sector, size, code) = (512, None, vec![0xfa]);
    let divided = gpt::Disk { id, sector, size, code, partitions: vec![partition] };
    folder.put("disk", "gpt", &bytes_of(&gpt::plan(&divided)?.0)?)?;
    let partition = mbr::Partition { kind: mbr::FAT, active: true, image: raw.clone(), size: None };
    let divided = mbr::Disk { id: 7, size: None, code: vec![0xfa], partitions: vec![partition] };
    folder.put("disk", "mbr", &bytes_of(&mbr::plan(&divided)?.0)?)?;
    folder.put("disk", "vhd", &bytes_of(&vhd::fixed(raw, id)?)?)?;
    folder.put("disk", "dynamic-vhd", &bytes_of(&vhd::dynamic(raw, id)?)?)?;
    folder.put("disk", "vhdx", &bytes_of(&vhdx::plan(raw, 512, id)?)?)?;
    folder.put("disk", "qcow2", &bytes_of(&qcow2::plan(raw)?)?)?;
    let mut out = Cursor::new(Vec::new());
    qcow2::write(raw, Some(qcow2::Compression::Zstd(3)), &mut out)?;
    folder.put("disk", "qcow2-zstd", out.get_ref())?;
    let mut out = Cursor::new(Vec::new());
    vmdk::write(raw, &vmdk::Options::default(), &mut out)?;
    folder.put("disk", "vmdk", out.get_ref())
}

/// A package, and texts of the archive.
fn debian(folder: &Folder, data: &[u8]) -> Result<()> {
    let control =
        "Package: a\nVersion: 1:2.3-4~5\nArchitecture: amd64\nDescription: b\n c\n .\n d\n";
    let mut control_tar = Vec::new();
    let content = Content::Bytes(control.as_bytes().into());
    moby::fs::tar::write_file("./control", 0, &content, &mut control_tar)?;
    moby::fs::tar::finish(&mut control_tar)?;
    let mut deb = b"!<arch>\n".to_vec();
    let members: [(&str, &[u8]); 3] =
        [("debian-binary", b"2.0\n"), ("control.tar", &control_tar), ("data.tar", data)];
    for (name, bytes) in members {
        let len = bytes.len();
        deb.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{len:<10}`\n", 0, 0, 0, 100_644).bytes(),
        );
        deb.extend(bytes);
        deb.resize(deb.len().next_multiple_of(2), b'\n');
    }
    folder.put("deb", "package", &deb)?;
    folder.put("deb", "control", control.as_bytes())?;
    folder.put("deb", "packages", PACKAGES.as_bytes())?;
    folder.put("deb", "relation", b"libc6 (>= 2.36) [amd64] <!nocheck>, a:any | b (<< 1~rc)")
}

/// What a cache and a build keep: the index of a layer behind its digest,
/// that of an archive, a lock.
fn kept(folder: &Folder, tar: &[u8]) -> Result<()> {
    let root = tempfile::tempdir().context("making a folder")?;
    let store = Store::open(root.path())?;
    let blob = Descriptor::new(MEDIA_LAYER, store.put(tar)?, tar.len() as u64);
    store.layer(&blob)?;
    let path = root.path().join(format!("layers/{}.index", blob.digest.hex()));
    let index = std::fs::read(path).context("reading the index of a layer")?;
    folder.put("store", "layer", &index[HEAD..])?;
    let mut out = Cursor::new(Vec::new());
    index::write(PACKAGES.as_bytes(), &mut out)?;
    folder.put("store", "archive", out.get_ref())?;
    let mut lock = Lock::new(Path::new("."));
    lock.insert(&"busybox".parse()?, Some(&"linux/arm64".parse()?), blob.digest);
    lock.insert(&"@pkg:./x".parse()?, None, blob.digest);
    folder.put("store", "lock", lock.to_text().as_bytes())
}

/// Where the seeds go.
struct Folder(PathBuf);

impl Folder {
    fn put(&self, target: &str, name: &str, bytes: &[u8]) -> Result<()> {
        let folder = self.0.join(target);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let path: &Path = &folder.join(name);
        std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
    }
}

/// The words of the schema, as libFuzzer reads a dictionary.
fn words() -> String {
    fn gather(value: &serde_json::Value, found: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(members) => {
                found.extend(members.keys().cloned());
                members.values().for_each(|member| gather(member, found));
            }
            serde_json::Value::Array(members) => {
                members.iter().for_each(|member| gather(member, found));
            }
            serde_json::Value::String(text) => {
                found.insert(text.clone());
            }
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    gather(&moby::manifest::schema(), &mut found);
    let plain = |word: &&String| word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    found.iter().filter(plain).map(|word| format!("\"{word}\"\n")).collect()
}

/// One of each OCI document, and names of images.
fn documents(folder: &Folder) -> Result<()> {
    let descriptor = format!(
        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{DIGEST}","size":2,"platform":{{"os":"linux","architecture":"arm64","variant":"v8"}},"annotations":{{"a":"b"}}}}"#
    );
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{descriptor},{descriptor}]}}"#);
    let manifest =
        format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{descriptor}]}}"#);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"User":"a:b","Env":["A=b"],"Entrypoint":["x"],"Cmd":["y"],"WorkingDir":"/","Labels":{{"org.mobyproject.config":"{{}}"}}}},"rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}}}}"#
    );
    folder.put("oci", "index", index.as_bytes())?;
    folder.put("oci", "manifest", manifest.as_bytes())?;
    folder.put("oci", "config", config.as_bytes())?;
    let pinned = format!("host.example:5000/a/b:c@{DIGEST}");
    for (name, text) in
        [("short", "busybox"), ("pinned", &pinned), ("deb", "deb:bash"), ("package", "@pkg:./x")]
    {
        folder.put("oci", name, text.as_bytes())?;
    }
    folder.put("oci", "digest", DIGEST.as_bytes())
}

/// A small tree of what every file system holds: folders and files.
fn plain() -> Result<Tree> {
    let mut tree = Tree::new();
    put(&mut tree, "etc", Kind::directory())?;
    put(&mut tree, "etc/motd", Kind::bytes(&b"welcome\n"[..]))?;
    put(&mut tree, "etc/empty", Kind::bytes(Vec::new()))?;
    put(&mut tree, &format!("etc/{}", "long".repeat(40)), Kind::bytes(vec![b'x'; 700]))?;
    Ok(tree)
}

/// The same with links, devices and extended attributes.
fn linked(mut tree: Tree) -> Result<Tree> {
    put(&mut tree, "etc/link", Kind::Symlink((*b"motd").into()))?;
    put(&mut tree, "null", Kind::Char(1, 3))?;
    put(&mut tree, "disk", Kind::Block(8, 1))?;
    put(&mut tree, "pipe", Kind::Fifo)?;
    let file = tree.lookup(b"etc/motd").context("looking `etc/motd` up")?;
    tree.link(file, b"etc/issue")?;
    let xattr = ((*b"user.a").into(), (*b"b\nc").into());
    tree.get_mut(file).meta.xattrs.extend([xattr]);
    Ok(tree)
}

fn put(tree: &mut Tree, path: &str, kind: Kind) -> Result<()> {
    let meta = Metadata { uid: 1000, ..Metadata::root(0o644, moby::env::EPOCH) };
    tree.insert(path.as_bytes(), Inode { meta, kind, part: 0 }).map(drop)
}

fn cpio(tree: &Tree) -> Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new());
    for walked in tree.walk().filter(|walked| !walked.path.is_empty() && !walked.link) {
        let names = tree.walk().filter(|other| other.id == walked.id);
        let item = Item { id: walked.id, paths: names.map(|other| other.path).collect() };
        writer.append(tree, &item)?;
    }
    writer.finish()
}
