//! `moby cache`: what was fetched and made, looked at, moved, removed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::sources::SourceArgs;
use super::{Global, table, ui};
use crate::format;
use crate::oci::{ImageRef, Platform, Reference};
use crate::source::{self, ExportFormat};
use crate::store::Store;

/// Look at, fill and empty the cache.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the images that the cache has by name.
    Ls,
    /// Fetch images into the cache.
    Pull(Pull),
    /// Put the images of a layout or archive on disk into the cache.
    Import(Import),
    /// Write an image of the cache to a tar archive.
    Export(Export),
    /// Remove images by name, and what only they used.
    Rm(Rm),
    /// Remove everything.
    Clean,
}

#[derive(Debug, clap::Args)]
struct Pull {
    /// Images by name.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Reference>,
    /// Platforms to fetch, such as linux/arm64; this machine's by default.
    #[arg(long, visible_alias = "arch", value_delimiter = ',', value_name = "PLATFORM")]
    platform: Vec<Platform>,
    #[command(flatten)]
    sources: SourceArgs,
}

#[derive(Debug, clap::Args)]
struct Import {
    /// An OCI layout, a folder or a tar archive of it, or a docker archive.
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Export {
    /// The image by name.
    image: ImageRef,
    /// `oci`, a layout, or `docker`, what `docker load` takes.
    #[arg(long, value_enum, default_value = "oci")]
    format: Form,
    /// The platform to take; all that there are, or this machine's.
    #[arg(long, visible_alias = "arch", value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// The file to write; standard output by default.
    #[arg(long, short, visible_alias = "outfile", value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Form {
    /// An OCI layout.
    Oci,
    /// What `docker load` takes.
    Docker,
}

#[derive(Debug, clap::Args)]
struct Rm {
    /// Images by name.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<ImageRef>,
}

/// Runs the command.
pub(super) fn run(args: Args, global: &Global) -> Result<()> {
    match args.command {
        Command::Ls => list(global),
        Command::Pull(args) => pull(&args, global),
        Command::Import(args) => import(&args, global),
        Command::Export(args) => export(&args, global),
        Command::Rm(args) => remove(&args, global),
        Command::Clean => {
            Store::clean(&global.cache_dir())?;
            global.ui().note("removed everything from the cache");
            Ok(())
        }
    }
}

fn list(global: &Global) -> Result<()> {
    let all = source::list(&global.store()?)?;
    if global.json {
        return ui::json(&all);
    }
    let row = |image: &source::Listed| {
        let platforms = image.platforms.join(" ");
        vec![image.name.clone(), image.digest.short(), table::size(image.size), platforms]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    ui::data(&table::table(&["IMAGE", "DIGEST", "SIZE", "PLATFORMS"], &[2], &rows))
}

fn pull(args: &Pull, global: &Global) -> Result<()> {
    let (store, ui) = (global.store()?, global.ui());
    let sources = args.sources.open(&store, &ui)?;
    let host = [Platform::host()];
    let platforms = if args.platform.is_empty() { &host[..] } else { &args.platform };
    for reference in &args.images {
        let found = sources.bring_index(reference, Some(platforms), None)?;
        store.name([(reference.to_string(), found)])?;
        ui.note(&format!("pulled {reference}"));
    }
    Ok(())
}

fn import(args: &Import, global: &Global) -> Result<()> {
    let (store, ui) = (global.store()?, global.ui());
    let images = source::import(&args.path, &store)?;
    for (name, descriptor) in images {
        ui.note(&format!("imported {name} {}", descriptor.digest.short()));
    }
    Ok(())
}

fn export(args: &Export, global: &Global) -> Result<()> {
    let store = global.store()?;
    let form = match args.format {
        Form::Oci => ExportFormat::Oci,
        Form::Docker => ExportFormat::Docker,
    };
    let write = |out: &mut dyn Write| {
        source::export(&store, &args.image, form, args.platform.as_ref(), out)
    };
    match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        None => write(&mut io::stdout().lock()),
        Some(path) => format::write_with(path, |file: &mut BufWriter<File>| write(file))
            .with_context(|| format!("exporting {}", args.image)),
    }
}

fn remove(args: &Rm, global: &Global) -> Result<()> {
    let names: Vec<String> = args.images.iter().map(ToString::to_string).collect();
    // Collecting waits until nobody has the store open, this process too.
    source::remove(&global.store()?, &names)?;
    source::collect(&global.cache_dir())?;
    names.iter().for_each(|name| global.ui().note(&format!("removed {name}")));
    Ok(())
}
