//! Whether a system can have its root, or its data, on a disk: what its
//! kernel mounts, and what its PID 1 knows to do. Told before anything is
//! written, for a machine that stops in the middle of its boot tells nobody.

use anyhow::{Context, Result, anyhow};
use moby_bundle::path;

use super::root::Root;
use super::{RootCompression, small};
use crate::error::WithHint;
use crate::system::System;
use crate::tree::{Content, Kind, Tree, holds};

/// Where PID 1 lies.
const INIT: &[u8] = b"init";

/// Decides how a disk or disc of a format that is moby's own holds the root:
/// as the manifest says, else as erofs. A PID 1 that is not moby's, such as
/// LinuxKit's, would not find it there, so that such a system stays in the
/// initrd.
pub(super) fn own_default(system: &System) -> Result<Option<Root>> {
    Ok(knows(system, path::ARG_ONFAILURE)?.then_some(Root::Erofs))
}

/// Returns how a system's root is held: as the manifest says, else `default`.
/// Refuses what would not boot.
pub(super) fn root(system: &System, default: Option<Root>) -> Result<Option<Root>> {
    let written = system.disk.as_ref().and_then(|disk| disk.root.as_ref());
    let root = written.map_or(default, |root| Root::of_manifest(root.value));
    let Some(root) = root else {
        return Ok(None);
    };
    let kind = root.name();
    match mounts(system, kind)? {
        Some(true) => {}
        // Whoever writes it down may know more than can be seen.
        None if written.is_some() => {}
        None => {
            return Err(anyhow!("expected to see whether the kernel mounts {kind}")).hint(|| {
                format!("say `disk: {{root: {kind}}}` if it does, `disk: {{root: initrd}}` if not")
            });
        }
        Some(false) => return Err(no_driver(kind)).hint(|| way_out(kind)),
    }
    if small::has_modules(&system.tree) {
        knows_root(system)?;
    }
    Ok(Some(root))
}

fn knows_root(system: &System) -> Result<()> {
    if knows(system, path::ARG_ONFAILURE)? {
        return Ok(());
    }
    Err(anyhow!("expected moby's init as /init, which finds the root on a disk"))
        .hint(|| "take `@pkg:pkg/init`, or say `disk: {root: initrd}`".into())
}

/// Refuses a system that could not find its root on a disc.
pub(super) fn loop_device(system: &System) -> Result<()> {
    if !small::has_module(&system.tree, "loop")?
        && mentions(system, b"loop-control")? == Some(false)
    {
        return Err(anyhow!("expected a kernel with loop devices, for a root on a disc"))
            .hint(|| "say `disk: {root: initrd}`".into());
    }
    knows_root(system)
}

/// Refuses a system that could not mount its data.
pub(super) fn data(system: &System) -> Result<()> {
    if mounts(system, "ext4")? == Some(false) {
        return Err(no_driver("ext4")).hint(|| "leave `data` out, or take another kernel".into());
    }
    if !knows(system, path::ARG_DATA)? {
        return Err(anyhow!("expected moby's init as /init, which mounts the data"))
            .hint(|| "take `@pkg:pkg/init`, or leave `data` out".into());
    }
    Ok(())
}

/// The first Linux that can unpack erofs from Zstandard. Not every later one
/// was built to.
const EROFS_ZSTD: (u32, u32) = (6, 10);

/// Refuses a compression of the root that a system's kernel cannot undo, as
/// far as that can be seen: erofs with Zstandard is the one that may not be.
pub(super) fn unpacks(system: &System, root: Root, asked: Option<RootCompression>) -> Result<()> {
    let (Root::Erofs, Some(RootCompression::Zstd(_))) = (root, asked) else {
        return Ok(());
    };
    let release = small::release(&system.tree).unwrap_or_default();
    let can = match module(&system.tree, b"/erofs.ko") {
        // It names what it unpacks.
        Some(module) => holds(&mut module.reader(), b"zstd").context("reading erofs.ko")?,
        // Packed, or built in.
        None => version(&release).is_none_or(|found| found >= EROFS_ZSTD),
    };
    if can {
        return Ok(());
    }
    let (major, minor) = EROFS_ZSTD;
    Err(anyhow!(
        "expected a kernel whose erofs unpacks zstd, as Linux may from {major}.{minor} on, got \
         {release}"
    ))
    .hint(|| "say lz4 or none, take another kernel, or make the root squashfs for zstd".into())
}

/// Finds the module whose path ends so.
fn module<'a>(tree: &'a Tree, ending: &[u8]) -> Option<&'a Content> {
    let (base, ..) = small::modules(tree)?;
    let found =
        tree.walk().find(|found| found.path.starts_with(base) && found.path.ends_with(ending))?;
    match &tree.get(found.id).kind {
        Kind::File(content) => Some(content),
        _ => None,
    }
}

/// Reads the first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn no_driver(kind: &str) -> anyhow::Error {
    anyhow!("expected a kernel that mounts {kind}: it has no such driver")
}

fn way_out(kind: &str) -> String {
    let others = ["erofs", "squashfs", "ext4"].into_iter().filter(|other| *other != kind);
    let others: Vec<&str> = others.collect();
    format!("say `disk: {{root: initrd}}`, or one of {}", others.join(", "))
}

/// Tells whether a system's kernel mounts a file system, `None` where that
/// cannot be seen.
fn mounts(system: &System, kind: &str) -> Result<Option<bool>> {
    if small::has_module(&system.tree, kind)? {
        return Ok(Some(true));
    }
    // What is built in leaves its name there and, it may be, nowhere else.
    mentions(system, &[kind.as_bytes(), b"\0"].concat())
}

fn mentions(system: &System, word: &[u8]) -> Result<Option<bool>> {
    let kernel = system.kernel.as_ref().context("expected a kernel in the manifest, got none")?;
    Ok(kernel.mentions(word))
}

/// Tells whether PID 1 knows a kernel argument of moby's own: its name stands
/// in the program.
fn knows(system: &System, argument: &str) -> Result<bool> {
    let init = system.tree.lookup(INIT).map(|id| &system.tree.get(id).kind);
    match init {
        Some(Kind::File(program)) => {
            holds(&mut program.reader(), argument.as_bytes()).context("reading /init")
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::{Kernel, System};
    use crate::tree::{Inode, Metadata};

    /// A system of a PID 1, a kernel, modules and a manifest's `disk:`.
    fn system(init: &str, kernel: &[u8], modules: &[&str], disk: &str) -> System {
        let mut tree = Tree::new();
        let mut put = |path: String, bytes: &[u8]| {
            let meta = Metadata::root(0o644, 0);
            let inode = Inode { meta, kind: Kind::bytes(bytes), part: 0 };
            tree.insert(path.as_bytes(), inode).unwrap();
        };
        put("init".into(), init.as_bytes());
        for name in modules {
            put(format!("lib/modules/6.12/kernel/{name}.ko"), b"");
        }
        let manifest = crate::manifest::parse(&format!("disk: {disk}\n"), "test").unwrap();
        let image = Content::Bytes(kernel.into());
        System {
            tree,
            parts: Vec::new(),
            kernel: Some(Kernel { image, cmdline: String::new(), ucode: None }),
            platform: "linux/amd64".parse().unwrap(),
            disk: manifest.disk,
        }
    }

    const OURS: &str = "... moby.onfailure moby.data ...";

    /// How a format of moby's own holds the root, or why it cannot.
    fn own(system: &System) -> Result<Option<Root>, String> {
        let default = own_default(system).unwrap();
        root(system, default)
            .map_err(|error| format!("{error}; {}", crate::error::hint(&error).expect("a way out")))
    }

    #[test]
    fn holds_the_root_where_it_can_be_mounted() {
        let gzip = |bytes: &[u8]| {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut out, bytes).unwrap();
            out.finish().unwrap()
        };
        let built_in = gzip(b"...squashfs\0...");
        let all = ["erofs", "ext4", "squashfs"];
        let cases: [(&str, &[u8], &[&str], &str, Result<Option<Root>, &str>); 9] = [
            (OURS, b"?", &all, "{}", Ok(Some(Root::Erofs))),
            (OURS, b"?", &all, "{root: initrd}", Ok(None)),
            (OURS, b"?", &all, "{root: ext4}", Ok(Some(Root::Ext4))),
            // LinuxKit's init.
            ("another", b"?", &all, "{}", Ok(None)),
            ("another", b"?", &all, "{root: erofs}", Err("moby's init")),
            // A kernel without modules finds its root by itself.
            ("another", &built_in, &[], "{root: squashfs}", Ok(Some(Root::Squashfs))),
            (OURS, &built_in, &[], "{}", Err("no such driver; say `disk: {root: initrd}`")),
            // One that nobody can look into is believed in what is written down.
            (OURS, b"?", &[], "{root: erofs}", Ok(Some(Root::Erofs))),
            (OURS, b"?", &[], "{}", Err("say `disk: {root: erofs}` if it does")),
        ];
        for (init, kernel, modules, disk, expected) in cases {
            let found = own(&system(init, kernel, modules, disk));
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{init} {disk}"),
                (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
                _ => panic!("{init} {disk}: {found:?}"),
            }
        }
    }

    #[test]
    fn mounts_data_where_kernel_and_init_can() {
        let told = |system: &System| data(system).map_err(|error| error.to_string());
        assert_eq!(told(&system(OURS, b"?", &["ext4"], "{}")), Ok(()));
        let older = system("moby.onfailure", b"?", &["ext4"], "{}");
        assert!(told(&older).unwrap_err().contains("moby's init"));
        let mut zstd = system(OURS, &zstd::encode_all(&b"vmlinux"[..], 1).unwrap(), &[], "{}");
        assert!(told(&zstd).unwrap_err().contains("mounts ext4"));
        assert!(loop_device(&zstd).unwrap_err().to_string().contains("loop devices"));
        zstd.kernel = None;
        assert!(told(&zstd).unwrap_err().contains("a kernel"));
    }

    #[test]
    fn knows_kernels_that_are_too_old_for_a_compression() {
        let with = |module: &str, bytes: &[u8], root: Root, asked: &str| {
            let mut system = system(OURS, b"?", &[], "{}");
            let meta = Metadata::root(0o644, 0);
            let inode = Inode { meta, kind: Kind::bytes(bytes), part: 0 };
            let path = format!("usr/lib/modules/{module}");
            system.tree.insert(path.as_bytes(), inode).unwrap();
            unpacks(&system, root, Some(asked.parse().unwrap()))
        };
        for (module, bytes) in [
            ("6.10.0/erofs.ko.xz", &b""[..]),
            ("7.0-rc1/ext4.ko", b""),
            ("odd/ext4.ko", b""),
            ("6/ext4.ko", b""),
            ("6.12.48+deb13-cloud-amd64/erofs.ko", b"lz4\0zstd\0"),
        ] {
            with(module, bytes, Root::Erofs, "zstd").expect(module);
        }
        with("6.1.0-44-cloud-amd64/erofs.ko", b"lz4", Root::Erofs, "lz4").unwrap();
        with("6.1.0-44-cloud-amd64/erofs.ko", b"lz4", Root::Squashfs, "zstd").unwrap();
        let told = |module: &str| with(module, b"lz4\0", Root::Erofs, "zstd:9").unwrap_err();
        insta::assert_snapshot!(told("6.1.0-44-cloud-amd64/erofs.ko.xz"), @"expected a kernel whose erofs unpacks zstd, as Linux may from 6.10 on, got 6.1.0-44-cloud-amd64");
        insta::assert_snapshot!(told("6.12.1/erofs.ko"), @"expected a kernel whose erofs unpacks zstd, as Linux may from 6.10 on, got 6.12.1");
    }
}
