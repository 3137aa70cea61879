//! `moby diff`: what differs between two images.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Global, lines, table, ui};
use crate::inspect::compare::{Change, Changed, Differences, Part, compare, roots};
use crate::inspect::{Image, Volume, inspect};
use crate::tree::{Content, Id, Kind};

/// The largest file whose lines are compared, in bytes.
const TEXT_MAX: u64 = 256 << 10;

/// Tell what differs between two images, file by file.
///
/// The images may be of different formats, as for `moby inspect`: the root of
/// the one is compared with that of the other, be it in an initrd, on a
/// partition or in an archive, then kernel, command line and partitions. What
/// one of the formats cannot hold, such as extended attributes in an initrd,
/// is left out. Ends with 0 where nothing differs, 1 where something does, 2
/// where there was an error.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The image before.
    before: PathBuf,
    /// The image after.
    after: PathBuf,
    /// Compare other file systems than the roots: the number of a partition,
    /// or a name as `moby inspect` has it.
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
    /// Show the lines that differ in small text files.
    #[arg(long, short)]
    unified: bool,
}

const EXAMPLES: &str = "\
Examples:
  moby diff old.iso new.iso                what an update changes
  moby diff minimal.iso minimal.qcow2      whether two formats hold the same
  moby diff --unified old.qcow2 new.qcow2  with the lines of text files
  moby diff --volume 1 old.img new.img     the first partitions alone
";

/// Runs the command. An error is told here: it must not look like a difference.
pub(super) fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    match told(args, global) {
        Ok(equal) => Ok(ExitCode::from(u8::from(!equal))),
        Err(error) if ui::is_broken_pipe(&error) => Err(error),
        Err(error) => {
            ui::error(&error);
            Ok(ExitCode::from(2))
        }
    }
}

/// Tells what differs; says whether nothing does.
fn told(args: &Args, global: &Global) -> Result<bool> {
    let (before, after) = (inspect(&args.before)?, inspect(&args.after)?);
    let (found, volumes) = match &args.volume {
        Some(name) => {
            let of = |image: &'_ Image, path: &PathBuf| -> Result<usize> {
                let volume = image.volume(name);
                let volume = volume.with_context(|| format!("reading {}", path.display()))?;
                let place = &volume.place;
                Ok(image.volumes.iter().position(|v| &v.place == place).unwrap_or_default())
            };
            let (one, other) = (of(&before, &args.before)?, of(&after, &args.after)?);
            let (one, other) = (&before.volumes[one], &after.volumes[other]);
            let files = roots(one, other)?;
            (Differences { files, parts: Vec::new() }, Some((one, other)))
        }
        None => (compare(&before, &after)?, before.root().zip(after.root())),
    };
    if global.json {
        ui::json(&json!({ "equal": found.is_empty(), "differences": found }))?;
    } else {
        ui::data(&text(&found, volumes, args.unified)?)?;
    }
    let count = found.files.len() + found.parts.len();
    if count == 0 {
        global.ui().note("nothing differs");
    }
    Ok(found.is_empty())
}

fn text(found: &Differences, volumes: Option<(&Volume, &Volume)>, lines: bool) -> Result<String> {
    let mut text = String::new();
    let width = found.files.iter().map(|file| file.path.chars().count()).max().unwrap_or(0);
    for file in &found.files {
        let sign = sign(file.change);
        let path = shown(&file.path);
        let _ = writeln!(text, "{sign} {path:<width$}  {}", what(file), width = width.min(48));
        if let Some((one, other)) = volumes.filter(|_| lines && file.change == Change::Changed) {
            text.push_str(&unified(file, one, other)?);
        }
    }
    for part in &found.parts {
        text.push_str(&of_part(part));
    }
    if !found.files.is_empty() {
        let count = |wanted| found.files.iter().filter(|file| file.change == wanted).count();
        let (added, removed) = (count(Change::Added), count(Change::Removed));
        let changed = count(Change::Changed);
        let total = table::count(found.files.len(), "file");
        let _ = writeln!(text, "{total}: {added} added, {removed} removed, {changed} changed");
    }
    Ok(text)
}

fn sign(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Changed => '~',
    }
}

fn shown(path: &str) -> String {
    let path = if path.is_empty() { "/" } else { path };
    path.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn what(file: &Changed) -> String {
    let what = shown(&file.what.join(", "));
    match (file.change, file.before.or(file.after)) {
        (Change::Added | Change::Removed, Some(size)) => format!("{what}, {}", table::size(size)),
        _ => what,
    }
}

fn of_part(part: &Part) -> String {
    let mut text = format!("{} {}\n", sign(part.change), part.part);
    for (sign, side) in [('-', &part.before), ('+', &part.after)] {
        if !side.is_empty() {
            let _ = writeln!(text, "    {sign} {}", shown(side));
        }
    }
    text
}

/// Shows the lines that differ, where both files are small and text.
fn unified(file: &Changed, one: &Volume, other: &Volume) -> Result<String> {
    let (Some(before), Some(after)) = file.ids else { return Ok(String::new()) };
    let (before, after) = (contents(one, before), contents(other, after));
    let (Some(before), Some(after)) = (before, after) else { return Ok(String::new()) };
    if before.len() > TEXT_MAX || after.len() > TEXT_MAX || before.equals(after)? {
        return Ok(String::new());
    }
    let texts = [before.gather(TEXT_MAX)?, after.gather(TEXT_MAX)?].map(String::from_utf8);
    let [Ok(before), Ok(after)] = texts else { return Ok(String::new()) };
    if before.contains('\0') || after.contains('\0') {
        return Ok(String::new());
    }
    Ok(lines::differences(&before, &after))
}

fn contents(volume: &Volume, id: Id) -> Option<&Content> {
    match &volume.tree.get(id).kind {
        Kind::File(content) => Some(content),
        _ => None,
    }
}
