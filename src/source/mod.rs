//! Where images come from: each source answers with an OCI descriptor, so
//! that nothing after this folder knows which one it was.
//!
//! Sources are asked in the order of [`Sources`]: the store itself comes
//! first, unless a fresh answer is wanted, and a registry last. Building
//! local packages is `package/`'s business.

mod archive;
mod base;
mod choose;
mod content;
mod credentials;
pub mod debian;
mod export;
mod files;
mod image;
mod import;
mod keep;
mod layout;
pub mod lock;
mod named;
mod parallel;
pub mod progress;
pub mod registry;
mod statements;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

pub use archive::Archive;
pub use base::base_layer;
pub use choose::{DOCUMENT_MAX, Document};
pub use debian::Debian;
pub use export::{ExportFormat, export};
pub use image::{is_whole, put_image};
pub use import::import;
pub use keep::{Listed, collect, list, remove};
pub use layout::Layout;
pub use lock::Lock;
pub use named::Named;
pub use progress::{Progress, Silent};
pub use registry::Registry;
pub use statements::statements;

use crate::error::{NotFound, WithHint, WrongPlatform, is_not_found};
use crate::oci::{Descriptor, ImageRef, Platform, Reference};
use crate::store::{Store, is_damage};
use parallel::{Permits, each};

/// How many images are worked on at once.
const IMAGES_AT_ONCE: usize = 8;

/// What is told of each layer as soon as the store has it.
pub type Arrived<'a> = dyn Fn(&Descriptor) -> Result<()> + Sync + 'a;

/// One place that images come from.
pub trait Source: fmt::Debug + Send + Sync {
    /// Pins a reference to the manifest of one platform, which the store has
    /// afterwards, or `None` to let the next source answer.
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Descriptor>>;

    /// Brings everything that `descriptor`, a manifest or an index, names
    /// into the store.
    fn fetch(&self, reference: &Reference, descriptor: &Descriptor, store: &Store) -> Result<()>;

    /// Fetches as [`Source::fetch`] does and tells each layer, in any order
    /// and from any thread.
    fn fetch_each(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        store: &Store,
        arrived: &Arrived<'_>,
    ) -> Result<()> {
        self.fetch(reference, descriptor, store)?;
        let manifest = choose::manifest(store, &descriptor.digest)?;
        manifest.layers.iter().try_for_each(arrived)
    }

    /// Pins a reference to all its platforms at once: to its index, which the
    /// store has afterwards, or to its manifest where it has but one. `None`
    /// lets the next source answer.
    fn resolve_index(&self, _reference: &Reference) -> Result<Option<Descriptor>> {
        Ok(None)
    }
}

impl<S: Source + ?Sized> Source for Arc<S> {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Descriptor>> {
        (**self).resolve(reference, platform)
    }

    fn fetch(&self, reference: &Reference, descriptor: &Descriptor, store: &Store) -> Result<()> {
        (**self).fetch(reference, descriptor, store)
    }

    fn fetch_each(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        store: &Store,
        arrived: &Arrived<'_>,
    ) -> Result<()> {
        (**self).fetch_each(reference, descriptor, store, arrived)
    }

    fn resolve_index(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        (**self).resolve_index(reference)
    }
}

/// The sources of a run, in the order of asking.
#[derive(Debug)]
pub struct Sources {
    sources: Vec<Box<dyn Source>>,
    store: Store,
    progress: Arc<dyn Progress>,
    // Unpacking is work for processors: more at once would only take memory.
    unpackers: Permits,
}

impl Sources {
    /// Puts sources in the order of asking.
    pub fn new(store: Store, progress: Arc<dyn Progress>, sources: Vec<Box<dyn Source>>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { sources, store, progress, unpackers: Permits::new(processors) }
    }

    /// Resolves, fetches and unpacks images for one platform, all in
    /// parallel. With a lock, nothing but what it pins is accepted.
    pub fn bring(
        &self,
        references: &[Reference],
        platform: &Platform,
        locked: Option<&Lock>,
    ) -> Result<BTreeMap<Reference, Descriptor>> {
        let wanted: Vec<&Reference> =
            references.iter().collect::<BTreeSet<_>>().into_iter().collect();
        let found = each(IMAGES_AT_ONCE, &wanted, |reference| {
            self.bring_one(reference, platform, locked)
                .with_context(|| format!("fetching {reference}"))
        })?;
        Ok(wanted.into_iter().cloned().zip(found).collect())
    }

    /// Pins a reference without fetching its layers.
    pub fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Descriptor> {
        for source in &self.sources {
            if let Some(descriptor) = source.resolve(reference, platform)? {
                return Ok(descriptor);
            }
        }
        nobody(reference)
    }

    /// Brings an image for several platforms, all of its own where `platforms`
    /// is `None`, and returns its index, or its manifest where it has no
    /// index. Layers are not unpacked.
    pub fn bring_index(
        &self,
        reference: &Reference,
        platforms: Option<&[Platform]>,
        locked: Option<&Lock>,
    ) -> Result<Descriptor> {
        let doing = || format!("fetching {reference}");
        let pinned = locked.map(|lock| lock.pin(reference, None)).transpose()?;
        let asked = pinned.as_ref().map_or(reference, |(_, pinned)| pinned);
        let found = self.first(|source| {
            let Some(root) = source.resolve_index(asked)? else {
                return Ok(None);
            };
            self.fetch_platforms(source, asked, &root, platforms)?;
            Ok(Some(root))
        });
        let found = match found.with_context(doing)? {
            Some(root) => root,
            None => self.bring_without_index(asked, platforms).with_context(doing)?,
        };
        if let Some((digest, _)) = pinned {
            lock::check(reference, &digest, &found.digest)?;
        }
        Ok(found)
    }

    fn fetch_platforms(
        &self,
        source: &dyn Source,
        reference: &Reference,
        root: &Descriptor,
        platforms: Option<&[Platform]>,
    ) -> Result<()> {
        let Some(platforms) = platforms else {
            return source.fetch(reference, root, &self.store);
        };
        // By digest, so that a tag that moves meanwhile does not matter.
        let pinned = match reference {
            Reference::Image(image) => {
                Reference::Image(ImageRef { digest: Some(root.digest), ..image.clone() })
            }
            other => other.clone(),
        };
        for platform in platforms {
            if let Some(manifest) = source.resolve(&pinned, platform)? {
                source.fetch(reference, &manifest, &self.store)?;
            }
        }
        Ok(())
    }

    // A Debian package or a local one has no index: one platform is all.
    fn bring_without_index(
        &self,
        reference: &Reference,
        platforms: Option<&[Platform]>,
    ) -> Result<Descriptor> {
        let platform = match platforms {
            None => Platform::host(),
            Some([one]) => one.clone(),
            Some(_) => {
                return Err(WrongPlatform {
                    what: reference.to_string(),
                    wanted: "several platforms".into(),
                    offered: vec!["one platform at a time".into()],
                }
                .into());
            }
        };
        let found = self.first(|source| {
            let Some(descriptor) = source.resolve(reference, &platform)? else {
                return Ok(None);
            };
            source.fetch(reference, &descriptor, &self.store)?;
            Ok(Some(descriptor))
        })?;
        found.map_or_else(|| nobody(reference), Ok)
    }

    fn bring_one(
        &self,
        reference: &Reference,
        platform: &Platform,
        locked: Option<&Lock>,
    ) -> Result<Descriptor> {
        let pinned = locked.map(|lock| lock.pin(reference, Some(platform))).transpose()?;
        let asked = pinned.as_ref().map_or(reference, |(_, pinned)| pinned);
        let attempt = || {
            self.first(|source| {
                let Some(descriptor) = source.resolve(asked, platform)? else {
                    return Ok(None);
                };
                if let Some((digest, _)) = &pinned {
                    lock::check(reference, digest, &descriptor.digest)?;
                }
                self.fetch_and_unpack(source, asked, &descriptor)?;
                Ok(Some(descriptor))
            })
        };
        let found = match attempt() {
            // The damaged blob is gone now, so that this time it is fetched.
            Err(error) if is_damage(&error) => {
                self.progress.note(&format!("{reference}: {error:#}; fetching it again"));
                attempt()
            }
            other => other,
        };
        found?.map_or_else(|| nobody(reference), Ok)
    }

    fn fetch_and_unpack(
        &self,
        source: &dyn Source,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<()> {
        source.fetch_each(reference, descriptor, &self.store, &|layer| {
            if self.store.has_layer(&layer.digest) {
                return Ok(());
            }
            let _permit = self.unpackers.take();
            let item = progress::Item::unpack(reference, layer);
            self.progress.started(&item);
            self.store.layer(layer)?;
            self.progress.finished(&item);
            Ok(())
        })?;
        // Statements are welcome, not needed.
        match statements::remembered(descriptor) {
            Some(kept) => match source.fetch(reference, &kept, &self.store) {
                Err(error) if !is_not_found(&error) => Err(error),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Asks one source after the other. Content that a source turns out not
    /// to have is the next one's; its error counts if nobody has it.
    fn first<T>(&self, ask: impl Fn(&dyn Source) -> Result<Option<T>>) -> Result<Option<T>> {
        let mut missing = None;
        for source in &self.sources {
            match ask(source.as_ref()) {
                Ok(None) => {}
                Err(error) if is_not_found(&error) => missing = missing.or(Some(error)),
                other => return other,
            }
        }
        missing.map_or(Ok(None), Err)
    }
}

fn nobody<T>(reference: &Reference) -> Result<T> {
    let missing = NotFound { what: reference.to_string(), place: "any source".into() };
    Err(missing).hint(|| match reference {
        Reference::Image(_) => {
            "import it with `moby cache import`, or build without --offline".into()
        }
        _ => "check the name; `moby cache ls` shows what the cache has".into(),
    })
}

/// Refuses a list that no honest image has.
fn limited<T>(list: &[T], what: &str) -> Result<()> {
    const MOST: usize = 4096;
    ensure!(list.len() <= MOST, "expected at most {MOST} {what}, got {}", list.len());
    Ok(())
}

#[cfg(test)]
mod tests;
