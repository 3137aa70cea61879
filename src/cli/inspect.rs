//! `moby inspect`: what is in an image.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::json;

use super::{Global, picture, table, ui};
use crate::error::Usage;
use crate::inspect::files::{self, Totals, below, extract, totals};
use crate::inspect::{Image, Partition, Volume, inspect};
use crate::tree::{Inode, Kind, Tree, Walked};

/// Look into an image: its partitions, what starts it, its files.
///
/// An image is a file of any format that `moby build` writes, whoever wrote
/// it: a disk, a disc, a file system, an initrd, a kernel, an archive, an OCI
/// layout. NAME stands for NAME-kernel and what belongs to it. Nothing is
/// mounted and nothing is changed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The image: a file, an OCI layout, or the name of a build.
    image: PathBuf,
    /// A file to write to standard output, or a folder to list.
    path: Option<String>,
    /// List the files, all or those below PATH.
    #[arg(long)]
    files: bool,
    /// Put the files, all or those below PATH, into a new folder.
    #[arg(long, value_name = "DIR", conflicts_with = "files")]
    extract: Option<PathBuf>,
    /// Take the files of another file system than the root: the number of a
    /// partition, or a name as the overview has it, such as `disc`.
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  moby inspect minimal.iso                     an overview
  moby inspect minimal.qcow2 etc/os-release    one file, to standard output
  moby inspect minimal.qcow2 --files usr/bin   what is below a folder
  moby inspect minimal.img --volume 1 --files  the files of the first partition
  moby inspect minimal --extract root          the whole root, into a new folder
";

/// Runs the command.
pub(super) fn run(args: &Args, global: &Global) -> Result<()> {
    let image = inspect(&args.image)?;
    let wanted = args.path.is_some() || args.files || args.extract.is_some();
    if !wanted && args.volume.is_none() {
        return overview(args, &image, global);
    }
    let volume = match &args.volume {
        Some(name) => image.volume(name)?,
        None => image.root().context("expected a root in the image, found none")?,
    };
    let tree = &volume.tree;
    let given = args.path.as_deref().unwrap_or_default();
    let (path, id) = files::resolve(tree, given.as_bytes())
        .with_context(|| format!("looking into {} ({})", volume.place, volume.system))?;
    if let Some(folder) = &args.extract {
        let done = extract(tree, &path, folder)?;
        let left_out = match done.left_out {
            0 => String::new(),
            n => format!(", left out {n} devices, pipes and sockets"),
        };
        global.ui().note(&format!("made {} files in {}{left_out}", done.made, folder.display()));
        return Ok(());
    }
    if args.files || tree.is_folder(id) {
        return list(tree, &path, global);
    }
    if global.json {
        bail!(Usage("--json shows no contents of files".to_owned()));
    }
    let mut out = io::stdout().lock();
    files::cat(tree, id, &mut out)?;
    out.flush().context("writing standard output")
}

/// A file as programs read it.
#[derive(Serialize)]
struct Row {
    path: String,
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    mtime: i64,
    size: Option<u64>,
    digest: Option<String>,
    target: Option<String>,
    device: Option<String>,
    attributes: Vec<String>,
}

impl Row {
    fn new(path: &[u8], inode: &Inode) -> Result<Self> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut row = Self {
            path: text(path),
            kind: crate::inspect::compare::word(&inode.kind),
            mode: format!("{:04o}", inode.meta.mode),
            uid: inode.meta.uid,
            gid: inode.meta.gid,
            mtime: inode.meta.mtime,
            size: None,
            digest: None,
            target: None,
            device: None,
            attributes: inode.meta.xattrs.keys().map(|name| text(name)).collect(),
        };
        match &inode.kind {
            Kind::File(content) => {
                row.size = Some(content.len());
                row.digest = Some(content.digest()?.to_string());
            }
            Kind::Symlink(target) => row.target = Some(text(target)),
            Kind::Char(major, minor) | Kind::Block(major, minor) => {
                row.device = Some(format!("{major}:{minor}"));
            }
            _ => {}
        }
        Ok(row)
    }
}

/// Lists what is below a path, line by line.
fn list(tree: &Tree, folder: &[u8], global: &Global) -> Result<()> {
    let mut found: Vec<_> =
        tree.walk().filter(|found| below(folder, &found.path).is_some()).collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    if global.json {
        let row = |found: &Walked| {
            let shown = || format!("reading /{}", String::from_utf8_lossy(&found.path));
            Row::new(&found.path, tree.get(found.id)).with_context(shown)
        };
        return ui::json(&found.iter().map(row).collect::<Result<Vec<Row>>>()?);
    }
    for some in found.chunks(1000) {
        let mut text = String::new();
        for found in some.iter().filter(|found| !found.path.is_empty()) {
            line(&mut text, &found.path, tree.get(found.id));
        }
        ui::data(&text)?;
    }
    Ok(())
}

fn line(text: &mut String, path: &[u8], inode: &Inode) {
    let mode = mode(inode);
    let owner = format!("{}:{}", inode.meta.uid, inode.meta.gid);
    let (size, arrow) = match &inode.kind {
        Kind::File(content) => (content.len().to_string(), String::new()),
        Kind::Symlink(target) => (String::new(), format!(" -> {}", plain(target))),
        Kind::Char(major, minor) | Kind::Block(major, minor) => {
            (format!("{major},{minor}"), String::new())
        }
        _ => (String::new(), String::new()),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{mode}  {owner:<9} {size:>11}  {}{arrow}", plain(path));
}

/// Shows bytes as text, without what a terminal would obey.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Shows a mode as `ls -l` does.
fn mode(inode: &Inode) -> String {
    let kind = match &inode.kind {
        Kind::Directory(_) => 'd',
        Kind::File(_) => '-',
        Kind::Symlink(_) => 'l',
        Kind::Char(..) => 'c',
        Kind::Block(..) => 'b',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
    };
    let bits = inode.meta.mode;
    let mut shown = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bit = |mask: u16| bits >> shift & mask != 0;
        shown.push(if bit(4) { 'r' } else { '-' });
        shown.push(if bit(2) { 'w' } else { '-' });
        shown.push(match (bits & special != 0, bit(1)) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    shown
}

fn overview(args: &Args, image: &Image, global: &Global) -> Result<()> {
    if global.json {
        let root = image.root().map(|root| totals(&root.tree));
        return ui::json(&json!({ "image": image, "system": image.system(), "totals": root }));
    }
    let mut text = head(&args.image.display().to_string(), image);
    disk(&mut text, image);
    starts(&mut text, image);
    images(&mut text, image);
    roots(&mut text, image);
    for problem in &image.problems {
        let _ = writeln!(text, "\nproblem: {}", plain(problem.as_bytes()));
    }
    ui::data(&text)
}

/// What it is, and how large.
fn head(name: &str, image: &Image) -> String {
    let mut text = format!("{name}: {}", image.kinds.join(", "));
    if let Some(system) = image.system() {
        let _ = write!(text, ": {}", plain(system.as_bytes()));
    }
    let (size, allocated) = (table::size(image.size), table::size(image.allocated));
    let _ = write!(text, "\n{size}, {allocated} of them on the host's disk");
    if let Some(disk) = image.disk.as_ref().filter(|disk| disk.size != image.size) {
        let _ = write!(text, ", a disk of {}", table::size(disk.size));
    }
    text.push('\n');
    text
}

fn disk(text: &mut String, image: &Image) {
    let Some(disk) = image.disk.as_ref().filter(|disk| disk.table.is_some()) else { return };
    let table = disk.table.unwrap_or_default().to_uppercase();
    let _ = writeln!(text, "\n{table} {}, sectors of {} bytes", disk.id, disk.sector);
    text.push_str(&picture::disk(disk));
    let optional = |size: Option<u64>| size.map(table::size).unwrap_or_default();
    let row = |partition: &Partition| {
        vec![
            partition.number.to_string(),
            plain(partition.name.as_bytes()),
            partition.kind.clone(),
            partition.system.unwrap_or("-").to_owned(),
            table::size(partition.start),
            table::size(partition.size),
            optional(partition.used),
        ]
    };
    let rows: Vec<_> = disk.partitions.iter().map(row).collect();
    let heading = ["PARTITION", "NAME", "TYPE", "FILE SYSTEM", "START", "SIZE", "USED"];
    text.push_str(&table::table(&heading, &[4, 5, 6], &rows));
}

fn starts(text: &mut String, image: &Image) {
    if !image.starts.is_empty() {
        text.push('\n');
    }
    for start in &image.starts {
        let steps: Vec<String> = start.steps.iter().map(|step| plain(step.as_bytes())).collect();
        let _ = writeln!(text, "{:<13} {}", start.firmware, steps.join(" > "));
        let section =
            |(name, len): &(String, u32)| format!("{name} {}", table::size((*len).into()));
        let sections: Vec<String> = start.sections.iter().map(section).collect();
        if !sections.is_empty() {
            let _ = writeln!(text, "{:<13} {}", "", plain(sections.join(", ").as_bytes()));
        }
    }
    for kernel in &image.kernels {
        let release = kernel.release.as_deref().unwrap_or("of unknown release");
        let release = plain(release.as_bytes());
        let machine = kernel.machine.map(|machine| format!(", {machine}")).unwrap_or_default();
        let (place, size) = (plain(kernel.place.as_bytes()), table::size(kernel.size));
        let _ = writeln!(text, "{:<13} {release}{machine}, {size}: {place}", "kernel");
    }
    let mut told: Vec<&str> = Vec::new();
    for cmdline in image.starts.iter().filter_map(|start| start.cmdline.as_deref()) {
        if !told.contains(&cmdline) {
            let _ = writeln!(text, "{:<13} {}", "command line", plain(cmdline.as_bytes()));
            told.push(cmdline);
        }
    }
    for initrd in &image.initrds {
        let unpacked: u64 = initrd.segments.iter().map(|segment| segment.unpacked).sum();
        let packed = initrd.segments.iter().find(|segment| !segment.microcode);
        let with = packed.map_or("?", |segment| segment.compression);
        let more = if initrd.segments.iter().any(|segment| segment.microcode) {
            ", microcode first"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "{:<13} {}, {} segments ({with}), unpacked {}{more}: {}",
            "initrd",
            table::size(initrd.size),
            initrd.segments.len(),
            table::size(unpacked),
            plain(initrd.place.as_bytes())
        );
    }
}

fn images(text: &mut String, image: &Image) {
    if image.images.is_empty() {
        return;
    }
    let mut rows = Vec::new();
    for found in &image.images {
        let name = found.name.clone().unwrap_or_else(|| "-".to_owned());
        let digest = found.digest.map(|digest| digest.short()).unwrap_or_default();
        let size = found.layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
        rows.push(vec![
            plain(name.as_bytes()),
            found.platform.clone().unwrap_or_default(),
            digest,
            table::size(size),
        ]);
        for (index, layer) in found.layers.iter().enumerate() {
            let digest = layer.digest.map(|digest| digest.short()).unwrap_or_default();
            let name = format!("  layer {}", index + 1);
            rows.push(vec![name, String::new(), digest, table::size(layer.size)]);
        }
    }
    text.push('\n');
    text.push_str(&table::table(&["IMAGE", "PLATFORM", "DIGEST", "SIZE"], &[3], &rows));
}

fn roots(text: &mut String, image: &Image) {
    let root = image.root;
    for (index, volume) in image.volumes.iter().enumerate() {
        let totals = totals(&volume.tree);
        let what = if Some(index) == root { "root in " } else { "" };
        let _ = write!(text, "\n{what}{}", summary(volume, &totals));
        if Some(index) == root && !totals.largest.is_empty() {
            let row = |folder: &files::Folder| {
                let path = plain(format!("/{}", folder.path).as_bytes());
                vec![table::size(folder.bytes), folder.files.to_string(), path]
            };
            let rows: Vec<_> = totals.largest.iter().map(row).collect();
            text.push_str(&table::table(&["SIZE", "FILES", "FOLDER"], &[0, 1], &rows));
        }
    }
}

fn summary(volume: &Volume, totals: &Totals) -> String {
    let mut text = format!(
        "{} ({}): {} in {} files, {} folders",
        plain(volume.place.as_bytes()),
        volume.system,
        table::size(totals.bytes),
        totals.files,
        totals.folders
    );
    for (count, what) in [(totals.links, "links"), (totals.nodes, "devices and other nodes")] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    text.push('\n');
    text
}
