//! The kernel image taken apart: kernel, modules, microcode.
//!
//! The bzImage header follows the kernel's "The Linux/x86 Boot Protocol".

use std::io::{self, BufReader, Read};

use anyhow::{Context, Result, bail, ensure};

use super::{Assembly, generated, regular};
use crate::error::WithHint;
use crate::image::apply;
use crate::manifest::Spanned;
use crate::oci::Digest;
use crate::store::Compression;
use crate::tree::{Content, Kind, Metadata, Tree, holds};

/// What is booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The kernel itself, as the boot loader takes it.
    pub image: Content,
    /// Its command line, without a line's end.
    pub cmdline: String,
    /// Microcode for the CPU, an uncompressed cpio archive.
    pub ucode: Option<Content>,
}

impl Kernel {
    /// Tells whether a word is among the kernel's bytes, as that of a driver
    /// that is built in is; `None` where the kernel cannot be unpacked.
    pub fn mentions(&self, word: &[u8]) -> Option<bool> {
        if holds(&mut self.image.reader(), word).ok()? {
            return Some(true);
        }
        let mut plain = payload(&self.image).ok()?.take(KERNEL_MAX);
        holds(&mut plain, word).ok()
    }
}

/// The most that a kernel may unpack to, in bytes.
const KERNEL_MAX: u64 = 1 << 30;

impl Assembly<'_> {
    /// Takes the kernel's image apart.
    pub(super) fn add_kernel(&mut self) -> Result<()> {
        let Some(kernel) = &self.manifest.kernel else {
            return Ok(());
        };
        let Some(reference) = &kernel.image else {
            return Ok(());
        };
        let named = self.image(reference)?;
        let name = |given: &Option<Spanned<String>>, default: &str| match given {
            Some(given) => given.value.clone(),
            None => default.to_owned(),
        };
        let binary = Some(name(&kernel.binary, "")).filter(|name| !name.is_empty());
        let binary = binary.unwrap_or_else(|| "kernel".to_owned());
        let modules = name(&kernel.tar, "kernel.tar");
        let ucode = name(&kernel.ucode, "");
        let part = self.part(&named.name, "kernel".to_owned());
        self.inventory.push((String::new(), named));
        let tree = &named.image.tree;
        self.add_folders("boot", part)?;
        let cmdline = name(&kernel.cmdline, "");
        self.add_bytes("boot/cmdline", cmdline.clone().into_bytes(), part)?;
        let (meta, image) = find(tree, &binary, "kernel", &named.name)?;
        let image = match self.inputs.decompress_kernel {
            true => self.decompressed(image)?,
            false => image.clone(),
        };
        self.add_boot_file("kernel", meta.mode, image.clone(), part)?;
        if !modules.is_empty() && modules != "none" {
            let (_, tar) = find(tree, &modules, "kernel tar", &named.name)?;
            self.add_modules(tar, part)?;
        }
        let ucode = match ucode.is_empty() {
            true => None,
            false => {
                let (meta, ucode) = find(tree, &ucode, "microcode", &named.name)?;
                self.add_boot_file("ucode.cpio", meta.mode, ucode.clone(), part)?;
                Some(ucode.clone())
            }
        };
        self.kernel = Some(Kernel { image, cmdline, ucode });
        Ok(())
    }

    fn add_boot_file(&mut self, name: &str, mode: u16, content: Content, part: u32) -> Result<()> {
        let inode = generated(mode, Kind::File(content), part);
        self.tree.insert(format!("boot/{name}").as_bytes(), inode)?;
        Ok(())
    }

    /// Unpacks the tar file of modules into the root.
    fn add_modules(&mut self, tar: &Content, part: u32) -> Result<()> {
        let layer = self.inputs.store.inner_layer(tar).context("reading the kernel tar")?;
        let mut modules = Tree::new();
        apply(&mut modules, &layer).context("unpacking the kernel tar")?;
        self.tree.graft(b"", &modules, part)
    }

    /// Unpacks a kernel that unpacks itself, once for each kernel.
    fn decompressed(&self, image: &Content) -> Result<Content> {
        let key = Digest::of(image.digest()?.bytes());
        let file = self.inputs.store.derived("kernel-1", &key, |out| {
            let mut plain = payload(image)?.take(KERNEL_MAX + 1);
            let len = io::copy(&mut plain, out).context("unpacking the kernel")?;
            ensure!(len <= KERNEL_MAX, "expected a kernel of at most {KERNEL_MAX} bytes, got more");
            Ok(())
        })?;
        Content::of_file(file)
    }
}

fn find<'t>(
    tree: &'t Tree,
    path: &str,
    what: &str,
    image: &str,
) -> Result<(&'t Metadata, &'t Content)> {
    let offered = || {
        let names = tree.entries(tree.root()).into_iter().flatten();
        let names: Vec<_> = names.map(|(name, _)| String::from_utf8_lossy(name)).collect();
        format!("the image has {}", names.join(", "))
    };
    regular(tree, path.as_bytes())
        .with_context(|| format!("did not find {what} `{path}` in kernel image {image}"))
        .hint(offered)
}

/// Finds the compressed kernel in what a boot loader takes, and unpacks it.
fn payload(image: &Content) -> Result<Box<dyn Read + '_>> {
    let mut head = [0; 0x250];
    let len = head.len().min(image.len() as usize);
    image.read_exact_at(&mut head[..len], 0)?;
    let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
    let (offset, len) = match &head[0x202..0x206] == b"HdrS" {
        true => {
            let sectors = u64::from(head[0x1f1]) + 1;
            (sectors * 512 + u64::from(number(0x248)), u64::from(number(0x24c)))
        }
        false => (0, image.len()),
    };
    ensure!(
        offset.saturating_add(len) <= image.len(),
        "expected a kernel of more bytes: it is cut"
    );
    let mut from = image.reader();
    io::copy(&mut (&mut from).take(offset), &mut io::sink()).context("reading the kernel")?;
    let mut magic = [0; 6];
    image.read_exact_at(&mut magic[..len.min(6) as usize], offset)?;
    let Some(compression) = Compression::of(&magic) else {
        bail!("expected a kernel under gzip, xz or zstd, got none of them");
    };
    // Its length stands behind it.
    compression.first(BufReader::new(from.take(len)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    fn bz_image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend(payload);
        image.extend(b"what stands behind the payload");
        image
    }

    #[test]
    fn sees_what_is_built_in() {
        let kernel = |image: Vec<u8>| Kernel {
            image: Content::Bytes(image.into()),
            cmdline: String::new(),
            ucode: None,
        };
        let packed = kernel(bz_image(&gzip(b"...erofs\0...")));
        assert_eq!(packed.mentions(b"erofs\0"), Some(true));
        assert_eq!(packed.mentions(b"ext4\0"), Some(false));
        assert_eq!(kernel(b"nothing known".to_vec()).mentions(b"ext4\0"), None);
    }

    #[test]
    fn finds_each_payload() {
        let zstd = zstd::encode_all(&b"vmlinux"[..], 1).unwrap();
        for image in [gzip(b"vmlinux"), bz_image(&gzip(b"vmlinux")), bz_image(&zstd)] {
            let content = Content::Bytes(image.into());
            let mut plain = Vec::new();
            payload(&content).unwrap().read_to_end(&mut plain).unwrap();
            assert_eq!(plain, b"vmlinux");
        }
        let mut cut = bz_image(&gzip(b"vmlinux"));
        cut.truncate(1030);
        for bad in [cut, b"plain".to_vec(), Vec::new()] {
            assert!(payload(&Content::Bytes(bad.into())).is_err());
        }
    }
}
