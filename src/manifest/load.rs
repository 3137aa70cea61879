//! Loading: from files, standard input and addresses, several merged into one.
//!
//! Merges as LinuxKit does: what a later manifest says of the kernel replaces
//! what an earlier one said, key by key; lists are appended. So for `disk`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::place::{Invalid, InvalidManifest, Mark, Place, Source, finish};
use super::{Manifest, check, decode};

/// How large a manifest may be, in bytes.
const MAX_LEN: u64 = 16 << 20;

/// Loads manifests and merges them in order.
///
/// A name is a path, or `-` for standard input or an address that begins with
/// `http://` or `https://`, which are given to `fetch`. What is wrong in any of
/// them is one [`InvalidManifest`].
pub fn load(names: &[String], fetch: &dyn Fn(&str) -> Result<Vec<u8>>) -> Result<Manifest> {
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    for name in names {
        let bytes = read(name, fetch).with_context(|| format!("reading {name}"))?;
        match String::from_utf8(bytes) {
            Ok(text) => sources.push(source(&text, name)),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                problems.push(not_utf8(name, &error.as_bytes()[..valid]));
            }
        }
    }
    Ok(merged(sources, problems)?)
}

/// Parses one manifest. `name` is its path, `-` or an address, for errors and
/// as what relative paths start from.
pub fn parse(text: &str, name: &str) -> Result<Manifest, InvalidManifest> {
    merged(vec![source(text, name)], Vec::new())
}

fn is_remote(name: &str) -> bool {
    name.starts_with("http://") || name.starts_with("https://")
}

fn read(name: &str, fetch: &dyn Fn(&str) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let is_given = name == "-" || is_remote(name);
    let bytes = if is_given { fetch(name)? } else { limited(File::open(name)?)? };
    anyhow::ensure!(
        bytes.len() as u64 <= MAX_LEN,
        "expected a manifest of at most {} MiB, got more",
        MAX_LEN >> 20
    );
    Ok(bytes)
}

/// Reads a manifest from standard input, or so much of it that [`load`] refuses
/// it.
pub fn standard_input() -> Result<Vec<u8>> {
    limited(std::io::stdin().lock())
}

fn limited(reader: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_LEN + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn source(text: &str, name: &str) -> Arc<Source> {
    let local = name != "-" && !is_remote(name);
    let folder = local.then(|| Path::new(name).parent().unwrap_or(Path::new("")).to_path_buf());
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
    Arc::new(Source { name: name.to_owned(), folder, text })
}

fn not_utf8(name: &str, valid: &[u8]) -> Invalid {
    let text = String::from_utf8_lossy(valid);
    let line = text.lines().count().max(1);
    let column = text.lines().last().map_or(0, |line| line.chars().count()) + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mark = Mark { line: number(line), column: number(column) };
    Place::new(&source("", name), mark, "").invalid("this is not UTF-8")
}

/// Decodes, merges and checks; tells everything that is wrong in all of them.
fn merged(
    sources: Vec<Arc<Source>>,
    mut problems: Vec<Invalid>,
) -> Result<Manifest, InvalidManifest> {
    let order: BTreeMap<String, usize> =
        sources.iter().enumerate().map(|(i, source)| (source.name.clone(), i)).collect();
    let mut all: Option<Manifest> = None;
    let mut complete = true;
    for source in sources {
        let (manifest, found) = decode::<Manifest>(source);
        problems.extend(found);
        match (&mut all, manifest) {
            (Some(all), Some(manifest)) => append(all, manifest),
            (None, Some(manifest)) => all = Some(manifest),
            (_, None) => complete = false,
        }
    }
    let all = all.filter(|_| complete);
    if let Some(manifest) = &all {
        check::whole(manifest, &mut problems);
    }
    let file = |at: &Place| order.get(at.file()).copied();
    problems.sort_by_key(|Invalid { at, .. }| (file(at), at.line(), at.column()));
    finish(all, problems)
}

fn append(all: &mut Manifest, later: Manifest) {
    match (&mut all.kernel, later.kernel) {
        (Some(kernel), Some(later)) => {
            // As LinuxKit: an empty text replaces nothing, except for `tar` and `ucode`.
            let given = |text: &super::Spanned<String>| !text.is_empty();
            replace(&mut kernel.image, later.image);
            replace(&mut kernel.cmdline, later.cmdline.filter(given));
            replace(&mut kernel.binary, later.binary.filter(given));
            replace(&mut kernel.tar, later.tar);
            replace(&mut kernel.ucode, later.ucode);
        }
        (kernel, later) => replace(kernel, later),
    }
    match (&mut all.disk, later.disk) {
        (Some(disk), Some(later)) => {
            replace(&mut disk.size, later.size);
            replace(&mut disk.sector, later.sector);
            replace(&mut disk.table, later.table);
            replace(&mut disk.root, later.root);
            replace(&mut disk.compression, later.compression);
            replace(&mut disk.data, later.data);
        }
        (disk, later) => replace(disk, later),
    }
    all.init.extend(later.init);
    all.onboot.extend(later.onboot);
    all.onshutdown.extend(later.onshutdown);
    all.services.extend(later.services);
    all.files.extend(later.files);
    all.volumes.extend(later.volumes);
    replace(&mut all.trust, later.trust);
}

fn replace<T>(value: &mut Option<T>, later: Option<T>) {
    if later.is_some() {
        *value = later;
    }
}
