//! Registries, their mirrors and their faults.
//!
//! Follows OCI Distribution Specification 1.1, "Pulling", and the
//! Distribution project's token authentication. Built on `reqwest` alone:
//! what a registry client must decide (ranges, Retry-After, mirrors, limits on
//! answers) is most of it, and `oci-client` decides it otherwise or not at all.

mod auth;
mod blob;
mod endpoint;
mod http;
mod retry;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use endpoint::Mirror;
pub use http::Http;

use super::choose::{DOCUMENT_MAX, Document};
use super::content::Content;
use super::credentials::Credentials;
use super::parallel::Permits;
use super::progress::Progress;
use crate::error::DigestMismatch;
use crate::oci::{Descriptor, Digest, ImageRef, MEDIA_INDEX, MEDIA_MANIFEST, Reference};
use crate::store::Store;
use endpoint::Endpoint;

/// The kinds of document that are asked for, the best first.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Other places to ask before an image's own registry.
    pub mirrors: Vec<Mirror>,
    /// Hosts (with port) that speak plain http; loopback does by itself.
    pub insecure: Vec<String>,
    /// PEM files of certificate authorities to trust besides the host's.
    pub authorities: Vec<PathBuf>,
    /// Folder of `HOST/*.crt`, authorities of one host, as Docker has it.
    pub certificates: PathBuf,
    /// Docker's `config.json`.
    pub docker_config: Option<PathBuf>,
    /// Where credential helpers are looked for, like `PATH`.
    pub helper_path: Option<String>,
    /// How often something is tried before it has failed.
    pub attempts: u32,
    /// How long the first wait between attempts is; each next is twice that.
    pub backoff: Duration,
    /// How long a server may say nothing.
    pub idle: Duration,
    /// How many blobs come at once.
    pub at_once: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            insecure: Vec::new(),
            authorities: Vec::new(),
            certificates: "/etc/docker/certs.d".into(),
            docker_config: None,
            helper_path: None,
            attempts: 5,
            backoff: Duration::from_millis(250),
            idle: Duration::from_secs(30),
            at_once: 4,
        }
    }
}

/// Answers references to images.
#[derive(Debug)]
pub struct Registry {
    store: Store,
    progress: Arc<dyn Progress>,
    http: Arc<Http>,
    credentials: Credentials,
    options: Options,
    // What each reference was found to be, to be named once it is all here.
    roots: Mutex<BTreeMap<String, Descriptor>>,
    headers: Mutex<BTreeMap<(String, String), String>>,
    permits: Permits,
}

impl Registry {
    /// Fetches images into a store.
    pub fn new(
        store: Store,
        progress: Arc<dyn Progress>,
        http: Arc<Http>,
        options: Options,
    ) -> Self {
        let credentials =
            Credentials::new(options.docker_config.clone(), options.helper_path.clone());
        let permits = Permits::new(options.at_once);
        let (roots, headers) = (Mutex::default(), Mutex::default());
        Self { store, progress, http, credentials, options, roots, headers, permits }
    }

    /// Asks an image's mirrors and then its own registry.
    fn ask<T>(&self, image: &ImageRef, ask: impl Fn(&Endpoint) -> Result<T>) -> Result<T> {
        let (mirrors, origin) = endpoint::endpoints(&image.domain, &self.options);
        for mirror in &mirrors {
            match ask(mirror) {
                Ok(found) => return Ok(found),
                // Whatever ails a mirror, the origin is the one to tell.
                Err(error) => self
                    .progress
                    .note(&format!("mirror {}: {error:#}; asking {}", mirror.base, image.domain)),
            }
        }
        ask(&origin)
    }

    /// Fetches a manifest or index by tag or digest.
    fn document(&self, endpoint: &Endpoint, image: &ImageRef, name: &str) -> Result<Vec<u8>> {
        let url = format!("{}/v2/{}/manifests/{name}", endpoint.base, image.path);
        self.retry(&url, || {
            let answer = self
                .authorized(endpoint, image, &|client| client.get(&url).header("Accept", ACCEPT))?;
            let promised = answer.header("docker-content-digest").map(str::to_owned);
            let bytes = answer.whole(DOCUMENT_MAX)?;
            // A digest of our own asking is checked by who asked.
            if let Some(Ok(expected)) = promised.map(|text| text.parse::<Digest>()) {
                check(&url, expected, &bytes)?;
            }
            Ok(bytes)
        })
    }

    fn fetch_root(&self, image: &ImageRef) -> Result<Descriptor> {
        let by_digest = image.digest.map(|digest| digest.to_string());
        let name = by_digest.as_deref().or(image.tag.as_deref()).unwrap_or("latest");
        let bytes = match image.digest {
            Some(digest) if self.store.has(&digest) => self.store.read(&digest, DOCUMENT_MAX)?,
            _ => self.ask(image, |endpoint| {
                let bytes = self.document(endpoint, image, name)?;
                if let Some(expected) = image.digest {
                    check(&endpoint.base, expected, &bytes)?;
                }
                Ok(bytes)
            })?,
        };
        let kind = match Document::parse(&bytes)? {
            Document::Index(_) => MEDIA_INDEX,
            Document::Manifest(_) => MEDIA_MANIFEST,
        };
        Ok(Descriptor::new(kind, self.store.put(&bytes)?, bytes.len() as u64))
    }
}

impl Content for Registry {
    fn root(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let Reference::Image(image) = reference else {
            return Ok(None);
        };
        let root = self.fetch_root(image).with_context(|| format!("asking for {image}"))?;
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        roots.insert(image.to_string(), root.clone());
        Ok(Some(root))
    }

    fn bring(&self, reference: &Reference, blob: &Descriptor, store: &Store) -> Result<()> {
        let Reference::Image(image) = reference else {
            bail!("{reference}: expected an image of a registry");
        };
        if !is_document(&blob.media_type) {
            return self.blob(image, blob, store);
        }
        let bytes = self.ask(image, |endpoint| {
            let bytes = self.document(endpoint, image, &blob.digest.to_string())?;
            check(&endpoint.base, blob.digest, &bytes)?;
            Ok(bytes)
        })?;
        store.put(&bytes).map(drop)
    }

    fn fetched(&self, reference: &Reference, store: &Store) -> Result<()> {
        let name = reference.to_string();
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let root = roots.get(&name).cloned();
        drop(roots);
        store.name(root.map(|root| (name, root)))
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn permits(&self) -> &Permits {
        &self.permits
    }
}

// A registry keeps documents and blobs at different addresses.
fn is_document(media_type: &str) -> bool {
    ["manifest.v1+json", "index.v1+json", "manifest.v2+json", "manifest.list.v2+json"]
        .iter()
        .any(|ending| media_type.ends_with(ending))
}

fn check(what: &str, expected: Digest, bytes: &[u8]) -> Result<()> {
    let found = Digest::of(bytes);
    if found == expected {
        return Ok(());
    }
    Err(DigestMismatch { what: what.into(), expected, found }.into())
}

#[cfg(test)]
mod tests;
