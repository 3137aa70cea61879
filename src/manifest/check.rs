//! Checks that need more than one value: of a file or volume entry, and of
//! the whole manifest once all its files are merged.

use std::collections::{BTreeMap, BTreeSet};

use super::part::Decoder;
use super::place::{Invalid, MAX_PROBLEMS, Spanned};
use super::suggest::nearest;
use super::text::{Bind, Id};
use super::{Container, Disk, File, Manifest, Mount, Place, Root, Volume};

/// Tells what the keys of a `files` entry together show to be wrong.
pub(crate) fn file(file: &File, decoder: &mut Decoder) {
    let path = &file.path;
    let mut tell = |at: &Place, message: String| decoder.problems.push(at.invalid(message));
    if path.is_empty() {
        tell(&path.at, "expected a path, got an empty text".into());
    } else if path.split('/').any(|part| part == "..") || path.contains('\0') {
        tell(&path.at, format!("expected a path without `..`, got `{path}`"));
    }
    let symlink = file.symlink.as_ref().filter(|target| !target.is_empty());
    let source = file.source.as_ref().filter(|source| !source.is_empty());
    let given = [
        ("directory", file.directory),
        ("symlink", symlink.is_some()),
        ("contents", file.contents.is_some()),
        ("source", source.is_some()),
        ("metadata", file.metadata.is_some()),
    ];
    let given: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    match given[..] {
        [_] => {}
        [] => tell(
            &file.at,
            format!(
                "the contents of `{path}` are not specified: give `contents`, `source`, `metadata`, `symlink` or `directory`"
            ),
        ),
        // LinuxKit takes what is given besides for a slip that does no harm.
        ["symlink", "contents"] | ["directory", "symlink"] => {}
        [..] => {
            let listed = given.join("`, `");
            tell(&file.at, format!("`{path}` can be only one of `{listed}`"));
        }
    }
}

/// Tells what is wrong with a volume's name.
pub(crate) fn volume(volume: &Volume, decoder: &mut Decoder) {
    let name = &volume.name;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
    if name.is_empty() || !name.bytes().all(plain) {
        let message =
            format!("expected a name of lower-case letters, digits, `_` and `-`, got `{name}`");
        decoder.problems.push(name.at.invalid(message));
    }
}

/// Tells what the merged manifest shows to be wrong.
pub(crate) fn whole(manifest: &Manifest, problems: &mut Vec<Invalid>) {
    let services = manifest.services.iter().map(|service| &service.container.name);
    unique("service", services, problems);
    unique("volume", manifest.volumes.iter().map(|volume| &volume.name), problems);
    let names: BTreeSet<&str> =
        manifest.containers().map(|container| container.name.value.as_str()).collect();
    for container in manifest.containers() {
        let config = &container.config;
        let gids = config.additional_gids.iter().flatten();
        for id in config.uid.iter().chain(&config.gid).chain(gids) {
            known_id(id, &names, problems);
        }
    }
    for file in &manifest.files {
        for id in file.uid.iter().chain(&file.gid) {
            known_id(id, &names, problems);
        }
    }
    known_volumes(manifest, problems);
    order(manifest, problems);
    compressed_root(manifest.disk.as_ref(), problems);
}

/// Tells of a compression for a root that has none.
fn compressed_root(disk: Option<&Disk>, problems: &mut Vec<Invalid>) {
    if let Some(Disk { compression: Some(compression), root: Some(root), .. }) = disk
        && !matches!(root.value, Root::Squashfs | Root::Erofs)
    {
        let found = root.value.word();
        let message = format!("expected a root of squashfs or erofs to compress, got {found}");
        problems.push(compression.at.invalid(message));
    }
}

fn unique<'a>(
    what: &str,
    names: impl Iterator<Item = &'a Spanned<String>>,
    problems: &mut Vec<Invalid>,
) {
    let mut seen: BTreeMap<&str, &Place> = BTreeMap::new();
    for name in names {
        match seen.get(name.value.as_str()) {
            None => drop(seen.insert(&name.value, &name.at)),
            Some(_) if problems.len() > MAX_PROBLEMS => return,
            Some(first) => {
                let place = format!("{}:{}", first.file(), first.line());
                let message = format!("the {what} name `{name}` is taken, at {place}");
                problems.push(name.at.invalid(message));
            }
        }
    }
}

fn known_id(id: &Spanned<Id>, names: &BTreeSet<&str>, problems: &mut Vec<Invalid>) {
    if problems.len() <= MAX_PROBLEMS
        && let Id::Name(name) = &id.value
        && !matches!(name.as_str(), "" | "root")
        && !names.contains(name.as_str())
    {
        let suggestion = nearest(name, names.iter().copied());
        let message = format!("no container is named `{name}`");
        problems.push(id.at.invalid(message).suggest(suggestion));
    }
}

/// Tells which containers mount volumes that there are not.
fn known_volumes(manifest: &Manifest, problems: &mut Vec<Invalid>) {
    let known: BTreeSet<&str> =
        manifest.volumes.iter().map(|volume| volume.name.value.as_str()).collect();
    for Use { source, at, .. } in manifest.containers().flat_map(used) {
        if problems.len() <= MAX_PROBLEMS && !known.contains(source) {
            let suggestion = nearest(source, known.iter().copied());
            let message = format!("no volume is named `{source}`");
            problems.push(at.invalid(message).suggest(suggestion));
        }
    }
}

/// Tells which containers would write to a read-only volume.
pub(crate) fn access(manifest: &Manifest) -> Vec<Invalid> {
    let readonly = manifest.volumes.iter().filter(|volume| volume.readonly == Some(true));
    let readonly: BTreeSet<&str> = readonly.map(|volume| volume.name.value.as_str()).collect();
    let writes = |used: &Use<'_>| {
        let access = used.options.iter().find(|option| matches!(option.as_str(), "ro" | "rw"));
        readonly.contains(used.source) && access.is_none_or(|access| access == "rw")
    };
    let tell = |Use { source, at, .. }: Use<'_>| {
        at.invalid(format!("the volume `{source}` is read-only: mount it with the option `ro`"))
    };
    manifest.containers().flat_map(used).filter(writes).map(tell).collect()
}

/// Returns what a container mounts that must be volumes.
fn used(container: &Container) -> impl Iterator<Item = Use<'_>> {
    let config = &container.config;
    let mounts = config.mounts.iter().flatten().filter_map(mounted);
    let binds = config.binds.iter().chain(&config.binds_add).flatten().map(bound);
    mounts.chain(binds).filter(|used| !used.source.starts_with('/'))
}

/// How a container mounts what may be a volume.
struct Use<'a> {
    source: &'a str,
    options: &'a [String],
    at: &'a Place,
}

fn mounted(mount: &Mount) -> Option<Use<'_>> {
    let is_bind = mount.kind.as_ref().is_some_and(|kind| kind.value == "bind");
    let source = mount.source.as_ref().filter(|_| is_bind)?;
    let options = mount.options.as_deref().unwrap_or_default();
    Some(Use { source: &source.value, options, at: &source.at })
}

fn bound(bind: &Spanned<Bind>) -> Use<'_> {
    let options = bind.options.as_deref().unwrap_or_default();
    Use { source: &bind.source, options, at: &bind.at }
}

/// Checks that `after` names services and that they can be put in an order.
fn order(manifest: &Manifest, problems: &mut Vec<Invalid>) {
    let mut waits: BTreeMap<&str, Vec<&Spanned<String>>> = BTreeMap::new();
    for service in &manifest.services {
        waits.entry(&service.container.name.value).or_default().extend(&service.after);
    }
    for name in waits.values().flatten() {
        if problems.len() <= MAX_PROBLEMS && !waits.contains_key(name.value.as_str()) {
            let suggestion = nearest(name, waits.keys().copied());
            let message = format!("no service is named `{name}`");
            problems.push(name.at.invalid(message).suggest(suggestion));
        }
    }
    let circle = circle(&waits);
    let waits_in = |name: &&str| waits[*name].iter().find(|on| circle.contains(on.value.as_str()));
    if let Some(on) = circle.iter().find_map(waits_in) {
        let names: Vec<&str> = circle.iter().copied().take(MAX_PROBLEMS).collect();
        let message = format!("these services wait for each other: `{}`", names.join("`, `"));
        problems.push(on.at.invalid(message));
    }
}

/// Returns what is left when, again and again, services that wait for nothing
/// are taken away: those in a circle, and those that wait for them.
fn circle<'a>(waits: &BTreeMap<&'a str, Vec<&'a Spanned<String>>>) -> BTreeSet<&'a str> {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    let mut waiters: BTreeMap<&str, Vec<&'a str>> = BTreeMap::new();
    for (name, on) in waits {
        let known = on.iter().filter(|on| waits.contains_key(on.value.as_str()));
        for on in known.clone() {
            waiters.entry(&on.value).or_default().push(name);
        }
        left.insert(name, known.count());
    }
    let mut free: Vec<&str> =
        left.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    while let Some(name) = free.pop() {
        for waiter in waiters.remove(name).unwrap_or_default() {
            if let Some(count) = left.get_mut(waiter) {
                *count -= 1;
                if *count == 0 {
                    free.push(waiter);
                }
            }
        }
    }
    waits.keys().copied().filter(|name| left[name] > 0).collect()
}
