//! `moby pkg`: packages, from a folder with a `build.yml` to an image.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::sources::SourceArgs;
use super::{Global, table, ui};
use crate::oci::{Digest, Manifest, Platform};
use crate::package::{self, Built};
use crate::source::{DOCUMENT_MAX, debian};
use crate::store::Store;

/// Build packages into the cache, without Docker.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Build packages, unless the cache has them.
    Build(Build),
    /// Print the full names of packages' images, with their tags.
    #[command(alias = "show_tag")]
    ShowTag(ShowTag),
}

#[derive(Debug, clap::Args)]
struct Build {
    /// Folders of packages, each with a build.yml.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Platforms to build for, such as linux/arm64; this machine's by default.
    #[arg(long, visible_aliases = ["platforms", "arch"], value_delimiter = ',',
          value_name = "PLATFORM")]
    platform: Vec<Platform>,
    /// Build even what the cache has.
    #[arg(long, short)]
    force: bool,
    /// Organisation of the images, in place of the packages' own.
    #[arg(long)]
    org: Option<String>,
    #[command(flatten)]
    sources: SourceArgs,
}

#[derive(Debug, clap::Args)]
struct ShowTag {
    /// Folders of packages, each with a build.yml.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Organisation of the images, in place of the packages' own.
    #[arg(long)]
    org: Option<String>,
}

/// What was built, as `--json` tells it.
#[derive(Debug, Serialize)]
struct Told {
    name: String,
    platform: String,
    digest: Digest,
    /// Bytes of all layers.
    size: u64,
    /// Whether it was built now, and not found.
    built: bool,
}

/// Runs the command.
pub(super) fn run(args: Args, global: &Global) -> Result<()> {
    match args.command {
        Command::Build(args) => build(&args, global),
        Command::ShowTag(args) => show_tag(&args, global),
    }
}

fn build(args: &Build, global: &Global) -> Result<()> {
    let (store, ui) = (global.store()?, global.ui());
    let packages = args.sources.packages(&store, args.org.clone(), &ui);
    let host = [Platform::host()];
    let platforms = if args.platform.is_empty() { &host[..] } else { &args.platform };
    let mut all = Vec::new();
    for dir in &args.dirs {
        for platform in platforms {
            ui.detail(&format!("building {} for {platform}", dir.display()));
            let built = packages.build(dir, platform, args.force)?;
            all.push(tell(&store, platform, built)?);
        }
    }
    if global.json {
        return ui::json(&all);
    }
    let row = |told: &Told| {
        let state = if told.built { "built" } else { "found" }.to_owned();
        vec![told.name.clone(), told.platform.clone(), table::size(told.size), state]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    ui::data(&table::table(&["PACKAGE", "PLATFORM", "SIZE", ""], &[2], &rows))
}

fn tell(store: &Store, platform: &Platform, built: Built) -> Result<Told> {
    let bytes = store.read(&built.image.digest, DOCUMENT_MAX)?;
    let manifest: Manifest = serde_json::from_slice(&bytes)?;
    Ok(Told {
        name: built.name,
        platform: platform.to_string(),
        digest: built.image.digest,
        size: manifest.layers.iter().map(|layer| layer.size).sum(),
        built: built.fresh,
    })
}

fn show_tag(args: &ShowTag, global: &Global) -> Result<()> {
    let debian = debian::Options::from_env();
    let name = |dir: &PathBuf| package::name(dir, args.org.as_deref(), &debian);
    let names = args.dirs.iter().map(name).collect::<Result<Vec<_>>>()?;
    if global.json {
        return ui::json(&names);
    }
    ui::data(&(names.join("\n") + "\n"))
}
