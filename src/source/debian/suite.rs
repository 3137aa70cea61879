//! A suite of Debian with its updates, ready for look-ups.

use std::collections::BTreeSet;
use std::io::{BufReader, Read};

use anyhow::{Context, Result, bail};

use super::apt::{Archive, Archives};
use super::index::{self, Index, Package};
use super::release::{Release, read_keys};
use super::transport::Transport;
use crate::error::is_not_found;
use crate::oci::{Descriptor, Platform};
use crate::store::Store;

/// The largest `InRelease` that is read.
const RELEASE_MAX: u64 = 8 << 20;
/// The largest `Packages` file, unpacked.
const PACKAGES_MAX: u64 = 1 << 30;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    pub(super) suite: String,
    pub(super) components: Vec<String>,
    pub(super) architecture: &'static str,
}

/// A suite: indexes of packages, each with the archive it is about.
#[derive(Debug)]
pub(super) struct Suite {
    parts: Vec<(String, Index)>,
}

impl Suite {
    /// Reads what the archives hold now. `now` is the time that their
    /// validity is held against.
    pub(super) fn read(
        wanted: &Wanted,
        archives: &Archives,
        transport: &Transport,
        store: &Store,
        now: Option<i64>,
    ) -> Result<Self> {
        let suite = &wanted.suite;
        let reader = Reader { wanted, transport, store, now };
        let mut parts = reader.read(&archives.main, suite)?;
        if parts.is_empty() {
            bail!("{}: expected the suite `{suite}`, found none", archives.main.base);
        }
        // A suite without releases has no updates: those are in the suite.
        if !["sid", "unstable", "experimental"].contains(&suite.as_str()) {
            parts.extend(reader.read(&archives.main, &format!("{suite}-updates"))?);
            if let Some(security) = &archives.security {
                parts.extend(reader.read(security, &format!("{suite}-security"))?);
            }
        }
        Ok(Self { parts })
    }

    /// Finds the packages of a name and those that provide it, in all parts.
    pub(super) fn find(&self, name: &str) -> Result<Vec<Package>> {
        let mut found = Vec::new();
        for (base, index) in &self.parts {
            let packages = index.find(name)?;
            found.extend(packages.into_iter().map(|mut package| {
                package.archive.clone_from(base);
                package
            }));
        }
        Ok(found)
    }
}

struct Reader<'a> {
    wanted: &'a Wanted,
    transport: &'a Transport,
    store: &'a Store,
    now: Option<i64>,
}

impl Reader<'_> {
    /// Reads a suite of an archive; one that is not there has no parts.
    fn read(&self, archive: &Archive, suite: &str) -> Result<Vec<(String, Index)>> {
        let dir = format!("{}/dists/{suite}", archive.base);
        let address = format!("{dir}/InRelease");
        let message = match self.transport.read(&address, RELEASE_MAX) {
            Ok(message) => message,
            Err(error) if is_not_found(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let release = Release::read(&message, &read_keys(archive)?)
            .with_context(|| format!("verifying {address}"))?;
        release.check(suite, self.now).with_context(|| format!("reading {address}"))?;
        let mut parts = Vec::new();
        for component in self.wanted.components.iter().collect::<BTreeSet<_>>() {
            let path = format!("{component}/binary-{}/Packages", self.wanted.architecture);
            let found = ["xz", "gz"].iter().find_map(|ending| {
                let path = format!("{path}.{ending}");
                Some((release.file(&path)?, path))
            });
            let Some((blob, path)) = found.or_else(|| Some((release.file(&path)?, path))) else {
                bail!(
                    "{address}: expected packages of `{component}` for this platform, found none"
                );
            };
            let index = self
                .index(&dir, &path, &blob, release.by_hash())
                .with_context(|| format!("reading {dir}/{path}"))?;
            parts.push((archive.base.clone(), index));
        }
        Ok(parts)
    }

    fn index(&self, dir: &str, path: &str, blob: &Descriptor, by_hash: bool) -> Result<Index> {
        let file = self.store.derived(index::KIND, &blob.digest, |out| {
            let plain = format!("{dir}/{path}");
            let (folder, _) = plain.rsplit_once('/').expect("the path has folders");
            let hashed = format!("{folder}/by-hash/SHA256/{}", blob.digest.hex());
            let address = if by_hash { &hashed } else { &plain };
            let what = format!("deb:{} {}", self.wanted.suite, path);
            match self.transport.download(&what, address, blob, self.store) {
                Err(error) if by_hash && is_not_found(&error) => {
                    self.transport.download(&what, &plain, blob, self.store)?;
                }
                other => other?,
            }
            let file = self.store.open_blob(&blob.digest)?;
            let from = BufReader::with_capacity(1 << 17, file);
            let plain: Box<dyn Read> = match path.rsplit_once('.') {
                Some((_, "xz")) => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(from)),
                Some((_, "gz")) => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
                _ => Box::new(from),
            };
            let plain = plain.take(PACKAGES_MAX);
            index::write(BufReader::with_capacity(1 << 17, plain), out)?;
            // The index is all that is wanted of it.
            self.store.remove_blob(&blob.digest)
        })?;
        Index::open(file)
    }
}

/// Returns Debian's name of a platform's architecture.
pub fn architecture(platform: &Platform) -> Result<&'static str> {
    Ok(match platform.architecture.as_str() {
        "amd64" => "amd64",
        "arm64" => "arm64",
        "arm" => "armhf",
        "386" => "i386",
        "ppc64le" => "ppc64el",
        "riscv64" => "riscv64",
        "s390x" => "s390x",
        _ => bail!("expected a platform that Debian has packages for, got {platform}"),
    })
}
