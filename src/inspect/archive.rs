//! Tar archives: a root file system, a kernel with its initrd, disks, or
//! container images.

use anyhow::{Context, Result, ensure};

use super::detect::{Kind as Detected, Look};
use super::span::Span;
use super::{Image, Start, Volume, content, layout, named, within};
use crate::image::apply;
use crate::store::{self, EntryKind};
use crate::tree::{Content, Kind, Tree};

/// What boots a root is in an archive of it, and in no other format.
const STARTED: [&[u8]; 3] = [b"boot/kernel", b"boot/cmdline", b"boot/ucode.cpio"];
/// What makes an archive of a root a build context.
const DOCKERFILE: &[u8] = b"Dockerfile";
/// An archive of disks has no more files than this.
const FILES_MAX: usize = 16;
/// The longest command line that is read, in bytes.
const CMDLINE_MAX: u64 = 64 << 10;

impl Image {
    /// Adds a tar archive that is not packed.
    pub(super) fn add_archive(&mut self, place: &str, span: &Span, depth: u32) -> Result<()> {
        let mut tree = Tree::new();
        add_layer(&mut tree, span).context("reading a tar archive")?;
        let has = |path: &str| content(&tree, path.as_bytes());
        if has("oci-layout").is_some() && has("index.json").is_some() {
            self.kinds.push("OCI layout in a tar archive".to_owned());
            return self.add_layout(&layout::InTree(&tree));
        }
        if let Some(manifest) = has("manifest.json") {
            self.kinds.push("docker archive".to_owned());
            return self.add_docker(&tree, manifest);
        }
        if let (Some(kernel), Some(initrd)) = (has("kernel"), has("initrd.img")) {
            self.kinds.push("kernel and initrd in a tar archive".to_owned());
            let start = Start::new("direct", &[named(place, "kernel")]);
            return self.add_set(start, kernel, Some(initrd), has("cmdline"));
        }
        let disks = disks(&tree)?;
        if !disks.is_empty() {
            let ovf = tree.entries(tree.root()).into_iter().flatten();
            let is_ova = ovf.into_iter().any(|(name, _)| name.ends_with(b".ovf"));
            self.kinds.push(if is_ova { "OVA" } else { "tar archive" }.to_owned());
            let several = disks.len() > 1;
            for (name, disk) in disks {
                let place = if several { within(place, &name) } else { place.to_owned() };
                self.add(&place, &disk, depth + 1).with_context(|| format!("reading {name}"))?;
            }
            return Ok(());
        }
        self.add_root(named(place, "root"), "tar", tree)
    }

    /// Adds a root that has what starts it in it.
    pub(super) fn add_root(
        &mut self,
        place: String,
        system: &'static str,
        mut tree: Tree,
    ) -> Result<()> {
        let context = content(&tree, DOCKERFILE).is_some() && content(&tree, STARTED[0]).is_some();
        if system == "tar" {
            let what = if context { "build context of a root" } else { "root in a tar archive" };
            self.kinds.push(what.to_owned());
        }
        if let Some(kernel) = content(&tree, STARTED[0]).cloned() {
            let cmdline = content(&tree, STARTED[1]).cloned();
            let start = Start::new("direct", &["/boot/kernel".to_owned()]);
            self.add_set(start, &kernel, None, cmdline.as_ref())?;
        }
        for path in STARTED {
            tree.remove(path)?;
        }
        if context {
            tree.remove(DOCKERFILE)?;
        }
        self.volumes.push(Volume { place, system, used: None, tree });
        Ok(())
    }

    /// Adds a kernel and what it is given.
    pub(super) fn add_set(
        &mut self,
        mut start: Start,
        kernel: &Content,
        initrd: Option<&Content>,
        cmdline: Option<&Content>,
    ) -> Result<()> {
        start.kernel = Some(self.add_kernel("kernel".to_owned(), &Span::of_content(kernel)?)?);
        if let Some(initrd) = initrd {
            let span = Span::of_content(initrd)?;
            start.initrd = Some(self.add_initrd("initrd".to_owned(), &span)?);
        }
        let text = cmdline.map(|cmdline| cmdline.gather(CMDLINE_MAX)).transpose();
        let text = text.context("reading the command line")?;
        start.cmdline = text.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
        self.starts.push(start);
        Ok(())
    }
}

/// Applies a tar archive to a tree.
pub(super) fn add_layer(tree: &mut Tree, span: &Span) -> Result<()> {
    let mut entries = store::read_entries(&mut span.reader(0))?;
    let (tar, base, all) = span.place();
    for entry in &mut entries {
        if let EntryKind::File { offset, len, .. } = &mut entry.kind {
            let end = offset.checked_add(*len).filter(|end| *end <= all);
            ensure!(end.is_some(), "expected contents within the archive");
            *offset += base;
        }
    }
    apply(tree, &store::Layer { entries, tar, diff_id: None })
}

/// Returns the disks among the files of an archive that has little else.
fn disks(tree: &Tree) -> Result<Vec<(String, Span)>> {
    let entries = tree.entries(tree.root()).into_iter().flatten();
    let mut found = Vec::new();
    for (index, (name, entry)) in entries.enumerate() {
        let Kind::File(content) = &tree.get(entry.id).kind else { return Ok(Vec::new()) };
        if index >= FILES_MAX {
            return Ok(Vec::new());
        }
        let span = Span::of_content(content)?;
        let is_disk = matches!(
            Look::of(&span)?.kind(),
            Some(
                Detected::Iso(_)
                    | Detected::Raw(_)
                    | Detected::Disk(_)
                    | Detected::StreamVmdk
                    | Detected::FixedVhd(_)
            )
        );
        if is_disk {
            found.push((String::from_utf8_lossy(name).into_owned(), span));
        }
    }
    Ok(found)
}
