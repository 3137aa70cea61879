//! Makes a kernel's image, `kernel` and `kernel.tar`, of Debian packages.
//!
//! Debian's modules are under xz: they are unpacked here, for an image is
//! compressed as a whole, and init need not know xz. The index that init
//! reads in place of depmod's files is made on the way, and depmod's
//! `modules.dep` for other inits. Device trees come along where Debian has
//! them. From Linux 7 on its packages have the kernel and the device trees
//! beside the modules.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use moby_bundle::modules::{self, ModuleInfo};
use moby_bundle::path::MODULE_INDEX;

use super::layer::LayerWriter;
use crate::oci::Descriptor;
use crate::store::{EntryKind, Store};

/// The largest module that is unpacked.
const MODULE_MAX: u64 = 256 << 20;

/// Where some bytes lie.
struct Piece {
    file: Arc<std::fs::File>,
    offset: u64,
    len: u64,
}

impl Piece {
    fn reader(&self) -> impl Read + '_ {
        let mut at = self.offset;
        let mut left = self.len;
        Source(move |buf: &mut [u8]| {
            let want = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
            let n = self.file.read_at(&mut buf[..want], at)?;
            at += n as u64;
            left -= n as u64;
            Ok(n)
        })
    }
}

struct Source<F>(F);

impl<F: FnMut(&mut [u8]) -> io::Result<usize>> Read for Source<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (self.0)(buf)
    }
}

/// The files of a kernel's packages that matter.
#[derive(Default)]
struct Found {
    kernels: BTreeMap<String, Piece>,
    /// By their path below `lib/modules/VERSION`.
    modules: BTreeMap<String, Piece>,
    /// Device trees, by their whole path.
    trees: BTreeMap<String, Piece>,
    versions: BTreeSet<String>,
}

/// Writes the layer of a kernel's image.
pub(super) fn write(store: &Store, layers: &[Descriptor], out: &mut dyn Write) -> Result<()> {
    let found = find(store, layers)?;
    ensure!(
        found.kernels.len() == 1 && found.versions.len() == 1,
        "expected one kernel and its modules, got {} kernels and modules of [{}]",
        found.kernels.len(),
        found.versions.iter().cloned().collect::<Vec<_>>().join(", ")
    );
    let version = found.versions.first().expect("there is one version").clone();
    let kernel = found.kernels.values().next().expect("there is one kernel");
    let mut tar = store.temporary()?;
    write_modules(&found, &version, tar.as_file_mut())
        .with_context(|| format!("unpacking the modules of {version}"))?;
    let size = tar.as_file_mut().seek(SeekFrom::End(0)).context("measuring the modules")?;
    tar.as_file_mut().rewind().context("reading the modules again")?;
    let mut layer = LayerWriter::new(out);
    layer.file(b"kernel", 0o644, kernel.len, kernel.reader())?;
    layer.file(b"kernel.tar", 0o644, size, tar.as_file_mut())?;
    layer.finish()
}

fn find(store: &Store, layers: &[Descriptor]) -> Result<Found> {
    let mut found = Found::default();
    for layer in layers {
        let layer = store.layer(layer)?;
        for entry in layer.entries {
            let EntryKind::File { offset, len, .. } = entry.kind else {
                continue;
            };
            let piece = Piece { file: Arc::clone(&layer.tar), offset, len };
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            if let Some(version) = path.strip_prefix("boot/vmlinuz-") {
                found.kernels.insert(version.to_owned(), piece);
            } else if let Some(rest) = path.strip_prefix("usr/lib/modules/")
                && let Some((version, path)) = rest.split_once('/')
            {
                found.versions.insert(version.to_owned());
                if path == "vmlinuz" {
                    found.kernels.insert(version.to_owned(), piece);
                } else if let Some(tree) = path.strip_prefix("dtb/") {
                    found.trees.insert(format!("usr/lib/linux-image-{version}/{tree}"), piece);
                } else {
                    found.modules.insert(path.to_owned(), piece);
                }
            } else if path.starts_with("usr/lib/linux-image-") && path.ends_with(".dtb") {
                found.trees.insert(path, piece);
            }
        }
    }
    Ok(found)
}

/// Writes `lib/modules/VERSION`, and the device trees, as tar.
fn write_modules(found: &Found, version: &str, out: &mut dyn Write) -> Result<()> {
    let mut buffered = io::BufWriter::with_capacity(1 << 18, out);
    let mut tar = LayerWriter::new(&mut buffered);
    let mut infos = Vec::new();
    let mut bytes = Vec::new();
    for (path, piece) in &found.modules {
        let plain = path.strip_suffix(".xz").filter(|path| modules::name(path).is_some());
        let target = format!("lib/modules/{version}/{}", plain.unwrap_or(path));
        if plain.is_none() && modules::name(path).is_none() {
            tar.file(target.as_bytes(), 0o644, piece.len, piece.reader())?;
            continue;
        }
        bytes.clear();
        let raw = io::BufReader::new(piece.reader());
        let unpacked: Box<dyn Read> = match plain {
            Some(_) => Box::new(liblzma::bufread::XzDecoder::new(raw)),
            None => Box::new(raw),
        };
        let read = unpacked.take(MODULE_MAX + 1).read_to_end(&mut bytes);
        read.with_context(|| format!("unpacking {path}"))?;
        ensure!(bytes.len() as u64 <= MODULE_MAX, "{path}: expected a smaller module");
        let info = modules::info(plain.unwrap_or(path), &bytes);
        infos.push(info.map_err(|error| anyhow::anyhow!("{path}: {error}"))?);
        tar.file(target.as_bytes(), 0o644, bytes.len() as u64, bytes.as_slice())?;
    }
    for (name, text) in
        [(MODULE_INDEX, modules::format(&infos)), ("modules.dep", dependencies(&infos))]
    {
        let path = format!("lib/modules/{version}/{name}");
        tar.file(path.as_bytes(), 0o644, text.len() as u64, text.as_bytes())?;
    }
    for (path, piece) in &found.trees {
        tar.file(path.as_bytes(), 0o644, piece.len, piece.reader())?;
    }
    tar.finish()?;
    buffered.flush().context("writing the modules")
}

/// Returns depmod's `modules.dep`: each module with all that it needs.
fn dependencies(infos: &[ModuleInfo]) -> String {
    let by_name: BTreeMap<&str, &ModuleInfo> =
        infos.iter().map(|info| (info.name.as_str(), info)).collect();
    let mut text = String::new();
    for info in infos {
        let (mut all, mut at) = (vec![info], 0);
        while let Some(next) = all.get(at) {
            let needs = next.depends.iter().filter_map(|name| by_name.get(name.as_str()));
            let new: Vec<&ModuleInfo> = needs
                .copied()
                .filter(|need| !all.iter().any(|known| known.name == need.name))
                .collect();
            all.extend(new);
            at += 1;
        }
        let needs: String = all[1..].iter().map(|need| format!(" {}", need.path)).collect();
        text += &format!("{}:{needs}\n", info.path);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_kernel_and_device_trees() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let tree = "usr/lib/linux-image-6/broadcom/bcm2711-rpi-4-b.dtb";
        // As packages have them up to Linux 6, and since.
        for (kernel, packed) in [
            ("boot/vmlinuz-6", tree),
            ("usr/lib/modules/6/vmlinuz", "usr/lib/modules/6/dtb/broadcom/bcm2711-rpi-4-b.dtb"),
        ] {
            let mut tar = Vec::new();
            let mut layer = LayerWriter::new(&mut tar);
            for path in [kernel, "usr/lib/modules/6/modules.builtin", packed] {
                layer.file(path.as_bytes(), 0o644, 1, &b"x"[..]).unwrap();
            }
            layer.finish().unwrap();
            let digest = store.put(&tar).unwrap();
            let layers = [Descriptor::new(crate::oci::MEDIA_LAYER, digest, tar.len() as u64)];
            let mut made = Vec::new();
            write(&store, &layers, &mut made).unwrap();
            let entries = crate::store::read_entries(&mut &made[..]).unwrap();
            assert!(entries.iter().any(|entry| entry.path == b"kernel"));
            let modules = entries.iter().find(|entry| entry.path == b"kernel.tar").unwrap();
            let EntryKind::File { offset, len, .. } = modules.kind else {
                panic!("expected a file")
            };
            let inner = &made[offset as usize..][..len as usize];
            let entries = crate::store::read_entries(&mut &inner[..]).unwrap();
            let names: Vec<_> =
                entries.iter().map(|entry| String::from_utf8_lossy(&entry.path)).collect();
            assert!(names.iter().any(|name| name == tree), "{names:?}");
            assert!(!names.iter().any(|name| name.ends_with("vmlinuz")), "{names:?}");
        }
    }

    #[test]
    fn lists_all_that_a_module_needs() {
        let module = |name: &str, depends: &[&str]| ModuleInfo {
            name: name.into(),
            path: format!("kernel/{name}.ko"),
            depends: depends.iter().map(|name| (*name).to_owned()).collect(),
            ..ModuleInfo::default()
        };
        let infos = [module("a", &["b", "gone"]), module("b", &["c"]), module("c", &["b"])];
        assert_eq!(
            dependencies(&infos),
            "kernel/a.ko: kernel/b.ko kernel/c.ko\nkernel/b.ko: kernel/c.ko\n\
             kernel/c.ko: kernel/b.ko\n"
        );
    }
}
