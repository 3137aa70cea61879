//! `moby build`: from a manifest to a bootable system.
//!
//! The pipeline as a whole: load, resolve and fetch, flatten, assemble,
//! write. Each step is a function of its own folder.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use serde_json::json;

use super::sources::SourceArgs;
use super::ui::Ui;
use super::verify::{First, Given};
use super::{Global, table, ui, verify};
use crate::boot::Loaders;
use crate::error::{self, Usage};
use crate::format::{
    self, Compression, FORMATS, Format, Options, Output, Packing, RootCompression, Written,
};
use crate::image::flatten;
use crate::manifest::{self, Manifest};
use crate::oci::{Descriptor, Platform, Reference};
use crate::source::{self, Lock};
use crate::store::Store;
use crate::system::{self, Inputs, Named, Sbom, System};

/// The name of a build whose manifest has none.
const STDIN_NAME: &str = "moby";

/// Build a system from manifests.
///
/// Several manifests are merged in order. What was fetched and compressed is
/// kept in the cache, so that the next build reads only what it writes.
#[derive(Debug, clap::Args)]
#[command(after_help = formats_help())]
pub(super) struct Args {
    /// Manifests: files, `-` for standard input, or http(s) addresses.
    #[arg(required = true, value_name = "MANIFEST")]
    manifests: Vec<String>,
    /// Formats to write, separated by commas.
    #[arg(long, short, value_delimiter = ',', default_value = format::DEFAULT,
          value_parser = parse_format, value_name = "FORMAT")]
    format: Vec<&'static Format>,
    /// Name of the files to write; the last manifest's by default.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Folder to write to.
    #[arg(long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    dir: PathBuf,
    /// File, or disk, to write a format of one file to; `-` for standard
    /// output.
    #[arg(long, short, visible_alias = "o", value_name = "FILE", conflicts_with = "name")]
    output: Option<PathBuf>,
    /// Architecture of the system, such as amd64 or arm64; this machine's by
    /// default.
    #[arg(long, value_name = "ARCH")]
    arch: Option<Platform>,
    /// Size of disk images, such as 1024M or 4G; M is the default unit.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,
    /// Compression of initial roots: zstd, gzip, lz4 or none, with a level
    /// as in zstd:9.
    #[arg(long, value_name = "NAME", default_value_t)]
    initrd_compression: Compression,
    /// Compression of squashfs and erofs roots, with a level as in xz:9: gzip,
    /// xz or zstd for squashfs, none, lz4 or zstd for erofs; zstd:3 and lz4 by
    /// default. An error where no format has such a root.
    #[arg(long, value_name = "NAME")]
    root_compression: Option<RootCompression>,
    /// Compression of qcow2 disks: none, zlib or zstd, with a level as in
    /// zstd:9.
    #[arg(long, value_name = "NAME", default_value_t)]
    qcow2_compression: Packing,
    /// Unpack a kernel that unpacks itself.
    #[arg(long)]
    decompress_kernel: bool,
    /// Accept nothing but what the lock file NAME.lock pins.
    #[arg(long)]
    locked: bool,
    /// Print the merged manifest and build nothing.
    #[arg(long)]
    dry_run: bool,
    /// Build once more under other conditions, and compare byte by byte.
    #[arg(long, conflicts_with = "dry_run")]
    verify: bool,
    /// Where the second build of --verify is at work.
    #[arg(long, value_name = "DIR", hide = true)]
    verify_in: Option<PathBuf>,
    /// Leave the software bill of materials out of the image.
    #[arg(long)]
    no_sbom: bool,
    /// Path of the software bill of materials in the image.
    #[arg(long, value_name = "PATH", default_value = "sbom.spdx.json", hide_default_value = true)]
    sbom_output_filename: String,
    /// Accepted for LinuxKit's sake: the cache does better.
    #[arg(long, value_name = "FILE", hide = true)]
    input_tar: Option<PathBuf>,
    /// Accepted for LinuxKit's sake: no Docker is asked.
    #[arg(long, hide = true)]
    docker: bool,
    #[command(flatten)]
    sources: SourceArgs,
}

fn formats_help() -> String {
    let width = FORMATS.iter().map(|format| format.name.len()).max().unwrap_or(0);
    let row = |format: &Format| format!("  {:<width$}  {}\n", format.name, format.about);
    let rows: String = FORMATS.iter().map(row).collect();
    format!("Formats:\n{rows}")
}

fn parse_format(name: &str) -> Result<&'static Format, String> {
    let known = || FORMATS.iter().map(|format| format.name).collect::<Vec<_>>().join(", ");
    format::find(name).ok_or_else(|| format!("no such format; there are {}", known()))
}

/// Reads a size of a disk: LinuxKit counts in MiB where no unit is given.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale: u64 = match &text[digits.len()..] {
        "" | "M" | "MB" | "MiB" => 1 << 20,
        "K" | "kB" | "KiB" => 1 << 10,
        "G" | "GB" | "GiB" => 1 << 30,
        "T" | "TB" | "TiB" => 1 << 40,
        _ => return Err("expected a number and K, M, G or T".to_owned()),
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(scale))
        .filter(|size| *size > 0)
        .ok_or_else(|| "expected a number above 0 and K, M, G or T".to_owned())
}

/// Runs the command.
pub(super) fn run(mut args: Args, global: &Global) -> Result<()> {
    let started = Instant::now();
    let ui = global.ui();
    args.check()?;
    let cache = args.move_again().unwrap_or_else(|| global.cache_dir());
    let given = RefCell::new(Given::new());
    let manifest = manifest::load(&args.manifests, &|name| {
        let bytes = args.given(name, &ui)?;
        given.borrow_mut().entry(name.to_owned()).or_insert_with(|| bytes.clone());
        Ok(bytes)
    })?;
    if args.dry_run {
        return ui::data(&manifest.to_yaml(&ToString::to_string));
    }
    let store = Store::open(&cache)?;
    let (system, loaders, lock) = assemble(&args, &manifest, &store, &ui)?;
    let options = Options {
        name: args.name(),
        compression: args.initrd_compression,
        packing: args.qcow2_compression,
        root_compression: args.root_compression,
        size: args.size,
        loaders,
        digests: ui.json() || ui.notes(),
    };
    let written = write(&args, &system, &options, &store, &ui)?;
    if !args.locked && args.output.is_none() {
        let text = lock.to_text();
        format::write_with(&args.lock_path(), |out| Ok(out.write_all(text.as_bytes())?))?;
    }
    report(&written, started, &ui)?;
    if args.verify && args.verify_in.is_none() {
        let first = First { name: &args.name(), lock: &lock.to_text(), given: &given.into_inner() };
        verify::verify(&first, &written, &store, &ui)?;
    }
    Ok(())
}

impl Args {
    fn check(&self) -> Result<()> {
        let single = self.format.iter().find(|format| format.single);
        if let (Some(single), true) = (single, self.format.len() > 1) {
            bail!(Usage(format!("format `{}` must be the only format", single.name)));
        }
        if let Some((one, other, ending)) = format::clash(&self.format) {
            bail!(Usage(format!("formats `{one}` and `{other}` both write NAME{ending}")));
        }
        let many = self.format.iter().find(|format| format.files.len() > 1);
        if let (Some(many), Some(_)) = (many, &self.output) {
            let files = many.files.join(", NAME");
            let told = format!("--output takes one file, `{}` writes NAME{files}", many.name);
            bail!(Usage(told));
        }
        if self.output.is_some()
            && self.format.iter().any(|other| other.name != self.format[0].name)
        {
            bail!(Usage("--output takes one format".to_owned()));
        }
        if self.verify && self.output.as_deref().is_some_and(is_device) {
            bail!(Usage("--verify compares files: --output must name one".to_owned()));
        }
        let platform = self.platform();
        if let Some(other) = self.format.iter().find(|format| !format.is_for(&platform)) {
            let (name, arch) = (other.name, &platform.architecture);
            let all =
                ["amd64", "arm64"].into_iter().filter(|arch| other.is_for(&Platform::linux(arch)));
            let all: Vec<&str> = all.collect();
            bail!(Usage(format!("format `{name}` is for {}, not for {arch}", all.join(" and "))));
        }
        if self.input_tar.is_some() && self.sources.pull {
            bail!(Usage("--input-tar and --pull cannot be used together".to_owned()));
        }
        Ok(())
    }

    /// Reads a manifest that is no file: the second build of --verify reads
    /// what the first one was given.
    fn given(&self, name: &str, ui: &Ui) -> Result<Vec<u8>> {
        match &self.verify_in {
            Some(folder) => verify::Again { folder }.given(name),
            None if name == "-" => manifest::standard_input(),
            None => self.sources.get(name, ui),
        }
    }

    /// Moves the second build of --verify to where it is at work, under a
    /// umask of its own; returns its cache.
    fn move_again(&mut self) -> Option<PathBuf> {
        let folder = self.verify_in.as_deref()?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let again = verify::Again { folder };
        self.dir = again.out();
        let name = self.output.as_ref().and_then(|file| file.file_name());
        self.output = name.map(|name| self.dir.join(name));
        self.locked = true;
        Some(again.cache())
    }

    fn platform(&self) -> Platform {
        self.arch.clone().unwrap_or_else(Platform::host)
    }

    fn name(&self) -> String {
        let last = self.manifests.last().map_or(STDIN_NAME, String::as_str);
        let stem = Path::new(last).file_stem().filter(|_| last != "-");
        let stem = stem.map(|stem| stem.to_string_lossy().into_owned());
        self.name.clone().or(stem).unwrap_or_else(|| STDIN_NAME.to_owned())
    }

    /// Returns the folder of the last manifest; this one, for what is no file.
    fn base(&self) -> PathBuf {
        let last = Path::new(self.manifests.last().map_or(".", String::as_str));
        last.parent().filter(|_| last.is_file()).unwrap_or(Path::new(".")).to_owned()
    }

    fn lock_path(&self) -> PathBuf {
        self.dir.join(format!("{}.lock", self.name()))
    }
}

/// Brings what a manifest and the formats name and assembles it; says what
/// was brought.
fn assemble(
    args: &Args,
    manifest: &Manifest,
    store: &Store,
    ui: &Ui,
) -> Result<(System, Loaders, Lock)> {
    let platform = args.platform();
    let sources = args.sources.open(store, ui)?;
    let locked = args.locked.then(|| Lock::read(&args.lock_path(), &args.base())).transpose()?;
    let loaders = format::loaders(&args.format, &platform);
    let wanted = system::references(manifest).into_iter();
    let wanted: Vec<Reference> = wanted.chain(loaders.iter().cloned()).collect();
    let brought = sources.bring(&wanted, &platform, locked.as_ref())?;
    let mut lock = Lock::new(&args.base());
    for (reference, descriptor) in &brought {
        lock.insert(reference, Some(&platform), descriptor.digest);
    }
    let mut layouts = BTreeMap::new();
    for volume in &manifest.volumes {
        let Some(image) = volume.layout() else {
            continue;
        };
        let platforms: Option<Vec<Platform>> = volume
            .platforms
            .as_ref()
            .map(|platforms| platforms.iter().map(|platform| platform.value.clone()).collect());
        let found = sources.bring_index(&image.value, platforms.as_deref(), locked.as_ref())?;
        lock.insert(&image.value, None, found.digest);
        layouts.insert(volume.name.value.clone(), found);
    }
    ui.detail("assembling the root file system");
    let images = flatten_all(&brought, store)?;
    let sbom = Sbom { path: args.sbom_output_filename.clone() };
    let sbom = (!args.no_sbom).then_some(sbom);
    let inputs = Inputs {
        images: &images,
        layouts: &layouts,
        store,
        platform: &platform,
        decompress_kernel: args.decompress_kernel,
        sbom: sbom.as_ref(),
    };
    let trees = loaders.iter().filter_map(|loader| Some(&images.get(loader)?.image.tree));
    let loaders = format::find_loaders(trees, &platform);
    Ok((system::assemble(manifest, &inputs)?, loaders, lock))
}

fn flatten_all(
    brought: &BTreeMap<Reference, Descriptor>,
    store: &Store,
) -> Result<BTreeMap<Reference, Named>> {
    brought
        .par_iter()
        .map(|(reference, descriptor)| {
            let image =
                flatten(store, descriptor).with_context(|| format!("unpacking {reference}"))?;
            let name = system::name(reference, descriptor);
            let statements = source::statements(store, descriptor)?;
            Ok((reference.clone(), Named { name, image, statements }))
        })
        .collect()
}

/// Writes all formats in parallel, and gives no file its name before all
/// are whole.
fn write(
    args: &Args,
    system: &System,
    options: &Options,
    store: &Store,
    ui: &Ui,
) -> Result<Vec<Written>> {
    let (name, dir) = (args.name(), args.dir.clone());
    let device = args.output.as_deref().filter(|path| is_device(path));
    let target = |ending: &str| match &args.output {
        Some(_) if device.is_some() => store.root().join("tmp/output"),
        Some(file) => file.clone(),
        None if dir == Path::new(".") => PathBuf::from(format!("{name}{ending}")),
        None => dir.join(format!("{name}{ending}")),
    };
    let distinct: BTreeSet<&str> = args.format.iter().map(|format| format.name).collect();
    let formats: Vec<&Format> =
        FORMATS.iter().filter(|format| distinct.contains(format.name)).collect();
    let outputs: Vec<Result<Output<'_>>> = formats
        .par_iter()
        .map(|format| {
            ui.detail(&format!("writing {}", format.name));
            let mut output = Output::new(format.name, &target, store, options);
            (format.write)(system, &mut output)
                .with_context(|| format!("writing format {}", format.name))?;
            for warning in output.warnings() {
                ui.note(&format!("warning: {}: {warning}", format.name));
            }
            Ok(output)
        })
        .collect();
    // What is wrong with one format may be wrong with others: all is told.
    let outputs = error::every(outputs)?;
    format::check_root_compression(&outputs)?;
    if let Some(device) = device {
        let mut out = open_device(device)?;
        let copied = outputs.into_iter().try_for_each(|output| output.copy_to(&mut *out));
        copied.with_context(|| format!("writing {}", device.display()))?;
        return Ok(Vec::new());
    }
    let written: Vec<Vec<Written>> =
        outputs.into_iter().map(Output::commit).collect::<Result<_>>()?;
    Ok(written.concat())
}

/// Says whether what is written cannot be given a name beside others and take
/// it at the end: standard output, a disk, a pipe.
fn is_device(path: &Path) -> bool {
    let is_file = |meta: Metadata| meta.is_file() || meta.is_dir();
    path == Path::new("-") || fs::metadata(path).is_ok_and(|meta| !is_file(meta))
}

fn open_device(path: &Path) -> Result<Box<dyn Write>> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdout().lock()));
    }
    let file = File::options().write(true).open(path);
    Ok(Box::new(file.with_context(|| format!("opening {}", path.display()))?))
}

fn report(written: &[Written], started: Instant, ui: &Ui) -> Result<()> {
    let took = started.elapsed();
    if ui.json() {
        return ui::json(&json!({ "files": written, "seconds": took.as_secs_f64() }));
    }
    if written.is_empty() {
        return Ok(());
    }
    let row = |file: &Written| {
        vec![
            file.path.display().to_string(),
            file.format.to_owned(),
            table::size(file.size),
            file.digest.map(|digest| format!("sha256:{}", digest.short())).unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = written.iter().map(row).collect();
    let table = table::table(&["FILE", "FORMAT", "SIZE", "DIGEST"], &[2], &rows);
    ui.note(&format!("{table}built in {}", table::time(took)));
    Ok(())
}
