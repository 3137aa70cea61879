//! What an image is, told by looking: of every format that is written here.
//!
//! [`inspect()`] goes from a file to an [`Image`]: the disk and its partitions,
//! every file system with its tree, what firmware starts, and which of the
//! trees is the root. [`compare`] tells what differs between two of them.
//! Names of files play no part, apart from a kernel's that is named by the
//! prefix of its files.
//!
//! The image may be anybody's. Contents stay where they are, or are unpacked
//! into files without a name; no count or length in an image is trusted.

mod archive;
pub mod compare;
pub mod detect;
mod disk;
pub mod files;
mod initrd;
mod kernel;
mod layout;
mod partition;
pub mod place;
mod set;
mod span;
mod start;
pub mod target;
mod volume;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;

use self::detect::{Kind, Look};
use self::span::{Span, Unpacked};
use crate::error::WithHint;
use crate::oci::Digest;
use crate::tree::{self, Content, Inode, Tree};

pub use disk::{Disk, Partition};
pub use initrd::Segment;
pub use kernel::Kernel;
pub use layout::{Layer, Listed};
pub use start::Start;
pub use volume::Volume;

/// How deep an image may lie in archives and compressed files.
const DEPTH_MAX: u32 = 4;
/// Stands in a place between that of a root and that of what is laid over it.
const DATA: &str = " with /var of ";
/// The largest os-release that is read, in bytes.
const OS_RELEASE_MAX: u64 = 64 << 10;

/// What was found in a file, a folder, or the files of a prefix.
#[derive(Debug, Default, Serialize)]
pub struct Image {
    /// What it is, from the outside inwards: `tar archive`, `raw disk`.
    pub kinds: Vec<String>,
    /// Its size in bytes.
    pub size: u64,
    /// How many bytes of the host's disk it takes.
    pub allocated: u64,
    /// The disk in it.
    pub disk: Option<Disk>,
    /// All that firmware or others can start.
    pub starts: Vec<Start>,
    /// The kernels that are started.
    pub kernels: Vec<Kernel>,
    /// The initrds that they are given.
    pub initrds: Vec<Initrd>,
    /// All file systems that were read.
    pub volumes: Vec<Volume>,
    /// Which of the volumes is the root.
    pub root: Option<usize>,
    /// Container images.
    pub images: Vec<Listed>,
    /// What could not be read, and why.
    pub problems: Vec<String>,
}

/// An initrd.
#[derive(Clone, Debug, Serialize)]
pub struct Initrd {
    /// Where it was found.
    pub place: String,
    /// Its size in bytes.
    pub size: u64,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its segments in order.
    pub segments: Vec<Segment>,
    /// Which of the volumes is its root; none where it could not be read.
    pub volume: Option<usize>,
}

/// Looks at a file, a folder that is an OCI layout, or what belongs to the
/// kernel of a prefix.
pub fn inspect(path: &Path) -> Result<Image> {
    let mut image = look(path).with_context(|| format!("inspecting {}", path.display()))?;
    image.choose_root();
    Ok(image)
}

fn look(path: &Path) -> Result<Image> {
    if path.is_dir() {
        return layout::folder(path);
    }
    if !path.exists() {
        return set::of_prefix(path);
    }
    // A pipe would be waited for.
    let is_file = path.metadata().context("finding what it is")?.is_file();
    ensure!(is_file, "expected a file or a folder");
    let file = File::open(path).context("opening it")?;
    let meta = file.metadata().context("finding its size")?;
    let mut image = Image { size: meta.len(), allocated: meta.blocks() * 512, ..Image::default() };
    image.add("", &Span::of_file(Arc::new(file))?, 0)?;
    Ok(image)
}

impl Image {
    /// Returns the root, if there is one.
    pub fn root(&self) -> Option<&Volume> {
        self.volumes.get(self.root?)
    }

    /// Returns the volume of a place; of a partition, its number will do.
    pub fn volume(&self, place: &str) -> Result<&Volume> {
        let wanted = |volume: &&Volume| {
            volume.place == place || volume.place == format!("partition {place}")
        };
        self.volumes
            .iter()
            .find(wanted)
            .with_context(|| format!("no file system is `{place}`"))
            .hint(|| {
                let places: Vec<_> = self.volumes.iter().map(|volume| &*volume.place).collect();
                format!("there are: {}", places.join(", "))
            })
    }

    /// Returns the name that the root's os-release gives the system.
    pub fn system(&self) -> Option<String> {
        let tree = &self.root()?.tree;
        let paths = [&b"etc/os-release"[..], b"usr/lib/os-release"];
        let text =
            paths.iter().find_map(|path| content(tree, path)?.gather(OS_RELEASE_MAX).ok())?;
        start::pretty_name(&String::from_utf8_lossy(&text))
    }

    /// Adds what a span holds. `place` names it where it is only a part.
    fn add(&mut self, place: &str, span: &Span, depth: u32) -> Result<()> {
        ensure!(depth < DEPTH_MAX, "expected at most {DEPTH_MAX} archives in each other");
        let look = Look::of(span)?;
        let Some(kind) = look.kind() else {
            return self.add_unknown(place, span);
        };
        match kind {
            Kind::Iso(boots) => self.add_disc(place, span, &look, boots),
            Kind::Raw(_) | Kind::Disk(_) | Kind::StreamVmdk | Kind::FixedVhd(_) => {
                self.add_disk(place, span, kind)
            }
            Kind::Uki => {
                self.kinds.push("unified kernel image".to_owned());
                let start = Start::new("UEFI", &[named(place, "this file")]);
                self.start_uki(start, place, span).map(drop)
            }
            Kind::Efi => {
                self.kinds.push(start::program(span)?);
                Ok(())
            }
            Kind::Kernel => {
                self.kinds.push("Linux kernel".to_owned());
                self.add_kernel(named(place, "kernel"), span).map(drop)
            }
            Kind::Root(name) => {
                self.kinds.push(format!("{name} file system"));
                self.add_volume(named(place, "root"), name, span)
            }
            Kind::Initrd => self.add_packed(place, span, depth),
            Kind::Tar => self.add_archive(place, span, depth),
        }
    }

    fn add_unknown(&mut self, place: &str, span: &Span) -> Result<()> {
        match volume::system(span)? {
            Some(system) => {
                self.kinds.push(format!("{system} file system"));
                self.add_volume(named(place, "root"), system, span)
            }
            None => Err(anyhow!("expected an image, got {} bytes of something else", span.len()))
                .hint(|| format!("known are: {}", detect::names().collect::<Vec<_>>().join(", "))),
        }
    }

    fn add_volume(&mut self, place: String, system: &'static str, span: &Span) -> Result<()> {
        let volume = volume::open(&place, system, span)?;
        self.volumes.push(volume);
        Ok(())
    }

    /// Adds an initrd by itself, or what else is compressed.
    fn add_packed(&mut self, place: &str, span: &Span, depth: u32) -> Result<()> {
        let Some(with) = initrd::compression(&span.bytes(0, 6)?) else {
            return self.add_initrd_alone(place, span);
        };
        let mut begin = Beginning(Vec::new());
        // A full buffer ends it, which is no error of the contents.
        let unpacked = initrd::unpack(span, 0, with, &mut begin);
        if begin.0.starts_with(b"0707") {
            return self.add_initrd_alone(place, span);
        }
        if begin.0.len() < Beginning::MAX {
            unpacked?;
        }
        let mut plain = Unpacked::new(span.len())?;
        initrd::unpack(span, 0, with, &mut plain)?;
        self.kinds.push(format!("packed by {with}"));
        self.add(place, &plain.finish()?, depth + 1)
    }

    fn add_initrd_alone(&mut self, place: &str, span: &Span) -> Result<()> {
        self.kinds.push("initrd".to_owned());
        let index = self.add_initrd(named(place, "initrd"), span)?;
        if self.initrds[index].volume.is_none() {
            bail!("{}", self.problems.pop().unwrap_or_default());
        }
        Ok(())
    }

    /// Adds a kernel, which may be there already under another name.
    fn add_kernel(&mut self, place: String, span: &Span) -> Result<usize> {
        let found = kernel::read(&place, span)?;
        let known = self.kernels.iter().position(|kernel| kernel.digest == found.digest);
        Ok(known.unwrap_or_else(|| {
            self.kernels.push(found);
            self.kernels.len() - 1
        }))
    }

    /// Adds an initrd, which may be there already under another name. One that
    /// cannot be read is a problem, no error.
    fn add_initrd(&mut self, place: String, span: &Span) -> Result<usize> {
        let digest = span.image().digest().context("reading an initrd")?;
        if let Some(known) = self.initrds.iter().position(|initrd| initrd.digest == digest) {
            return Ok(known);
        }
        let mut found =
            Initrd { place, size: span.len(), digest, segments: Vec::new(), volume: None };
        match initrd::read(span) {
            Ok(contents) => {
                found.segments = contents.segments;
                found.volume = Some(self.volumes.len());
                let count = self.initrds.len();
                let place = if count == 0 { "initrd".into() } else { format!("initrd {count}") };
                let tree = contents.tree;
                let used = Some(found.segments.iter().map(|segment| segment.unpacked).sum());
                self.volumes.push(Volume { place, system: "cpio", used, tree });
            }
            Err(error) => self.problems.push(format!("{}: {error:#}", found.place)),
        }
        self.initrds.push(found);
        Ok(self.initrds.len() - 1)
    }

    /// Finds out which of the trees is the root of the system.
    fn choose_root(&mut self) {
        let of_partition = |image: &Self| {
            let number = image.root_partition()?;
            image.volumes.iter().position(|volume| volume.place.ends_with(&number))
        };
        // What has most of a system is it: a small initrd only finds the root.
        let fullest = |image: &Self| {
            let rank = |volume: &Volume| (!matches!(volume.system, "FAT"), volume.tree.capacity());
            (0..image.volumes.len()).max_by_key(|at| (rank(&image.volumes[*at]), usize::MAX - at))
        };
        self.root = of_partition(self).or_else(|| fullest(self));
        if let Some(Err(error)) = self.add_data() {
            self.problems.push(format!("{error:#}"));
        }
    }

    /// Lays a partition for /var over the root, as PID 1 does: what comes of
    /// it is the root, one volume more.
    fn add_data(&mut self) -> Option<Result<()>> {
        let root = &self.volumes[self.root?];
        let found = self.disk.as_ref()?.partitions.iter().find(|found| found.kind == "/var")?;
        let number = format!("partition {}", found.number);
        let data = self.volumes.iter().find(|volume| volume.place.ends_with(&number))?;
        let mut tree = root.tree.clone();
        let own = data.tree.get(data.tree.root());
        let var = Inode { kind: tree::Kind::directory(), ..own.clone() };
        let laid = tree.insert(b"var", var).and_then(|id| {
            tree.clear(id);
            tree.graft(b"var", &data.tree, 0)
        });
        let place = format!("{}{DATA}{}", root.place, data.place);
        let volume = Volume { place, system: root.system, used: None, tree };
        self.root = Some(self.volumes.len());
        self.volumes.push(volume);
        Some(laid.context("laying /var over the root"))
    }

    /// Says whether a volume is the root, or below what is laid over it.
    fn is_root(&self, index: usize) -> bool {
        let volume = self.volumes.get(index);
        let below = volume.zip(self.root()).is_some_and(|(volume, root)| {
            root.place.strip_prefix(&volume.place).is_some_and(|rest| rest.starts_with(DATA))
        });
        below || self.root == Some(index)
    }

    /// Returns the end of the place of the partition that a command line names
    /// as the root, or that is a root by its type.
    fn root_partition(&self) -> Option<String> {
        let table = self.disk.as_ref()?;
        let word = |start: &Start| start::root_of(start.cmdline.as_deref()?).map(str::to_owned);
        let wanted = self.starts.iter().find_map(word);
        let named = |found: &&Partition| {
            wanted.as_ref().is_some_and(|wanted| {
                found.id.as_ref().is_some_and(|id| wanted.eq_ignore_ascii_case(id))
            })
        };
        let partitions = &table.partitions;
        let found = partitions.iter().find(named);
        let found = found.or_else(|| partitions.iter().find(|found| found.is_root()))?;
        Some(format!("partition {}", found.number))
    }
}

/// Returns the contents of a file in a tree.
pub fn content<'a>(tree: &'a Tree, path: &[u8]) -> Option<&'a Content> {
    match &tree.get(tree.lookup(path)?).kind {
        tree::Kind::File(content) => Some(content),
        _ => None,
    }
}

/// Names a part of something, or the whole by a word for it.
fn named(place: &str, word: &str) -> String {
    if place.is_empty() { word.to_owned() } else { place.to_owned() }
}

/// Joins a place and what is found there.
fn within(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}: {name}") }
}

/// Takes the first bytes of what is written and no more.
struct Beginning(Vec<u8>);

impl Beginning {
    const MAX: usize = 512;
}

impl std::io::Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = bytes.len().min(Self::MAX - self.0.len());
        self.0.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
