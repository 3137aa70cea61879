//! Packages of Debian as images: `deb:NAME`.
//!
//! A set of packages with all that they depend on becomes one image, a layer
//! for each package. Every byte is checked up to the archive's signature.
//! What a package's scripts would do on installation is not done: see
//! [`unpack`].

pub mod apt;
pub mod control;
pub mod filter;
pub mod index;
pub mod relation;
mod release;
pub mod solve;
mod suite;
mod transport;
pub mod unpack;
pub mod version;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

pub use filter::Filter;
pub use suite::architecture;

use self::index::Package;
use self::relation::Target;
use self::suite::{Suite, Wanted};
use self::transport::Transport;
use super::{Progress, Source, base_layer, is_whole, put_image};
use crate::env;
use crate::error::WithHint;
use crate::oci::{Descriptor, Digest, MEDIA_LAYER, Platform, Process, Reference};
use crate::store::Store;

/// The suite where none is named.
pub const SUITE: &str = "trixie";
/// The annotation of a layer that tells its package, `NAME=VERSION`.
pub const ANNOTATION_PACKAGE: &str = "org.mobyproject.debian.package";

/// Names what makes layers: another number makes them all anew.
const LAYER_KIND: &str = "debian-layer-1";
/// How many packages are fetched and unpacked at once.
const WORKERS: usize = 4;

/// How the archive is found and used.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Suite where a reference names none; [`SUITE`] where this does not.
    pub suite: Option<String>,
    /// What is set above the host's apt configuration.
    pub archive: apt::Override,
    /// Takes an archive that is past its date.
    pub expired: bool,
    /// Asks the archive again for what was resolved before.
    pub refresh: bool,
    /// Never asks the archive.
    pub offline: bool,
    /// Root folder of the host's configuration; `/` where absent.
    pub host: Option<PathBuf>,
}

impl Options {
    /// Reads `MOBY_DEBIAN_SUITE`, `MOBY_DEBIAN_EXPIRED` and what
    /// [`apt::Override::from_env`] does.
    pub fn from_env() -> Self {
        Self {
            suite: env::var("MOBY_DEBIAN_SUITE"),
            archive: apt::Override::from_env(),
            expired: env::var("MOBY_DEBIAN_EXPIRED").is_some(),
            ..Self::default()
        }
    }

    /// Returns the suite that is asked for in place of the default.
    pub fn other_suite(&self) -> Option<&str> {
        self.suite.as_deref().filter(|suite| *suite != SUITE)
    }
}

/// A set of packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Suite, such as `trixie`; absent for the default.
    pub suite: Option<String>,
    /// Components of the archive; `main` where empty.
    pub components: Vec<String>,
    /// The packages asked for.
    pub packages: Vec<Target>,
    /// Packages that are left out though others depend on them.
    pub exclude: Vec<String>,
    /// Which of their files are kept.
    pub filter: Filter,
}

impl Request {
    /// Reads the rest of a reference: `NAME[=VERSION],…[@SUITE][/COMPONENT]`.
    /// What a component other than `main` needs may be in `main`.
    pub fn parse(text: &str) -> Result<Self> {
        let (rest, component) = match text.split_once('/') {
            Some((rest, component)) => (rest, Some(component.to_owned())),
            None => (text, None),
        };
        let (list, suite) = match rest.split_once('@') {
            Some((list, suite)) => (list, Some(suite.to_owned())),
            None => (rest, None),
        };
        let good = [&suite, &component].into_iter().flatten().all(|name| relation::is_name(name));
        ensure!(good, "expected `deb:NAME@SUITE` or `deb:NAME/COMPONENT`, got `deb:{text}`");
        let package = |word: &str| {
            let (name, version) = match word.split_once('=') {
                Some((name, version)) => (name, Some(version)),
                None => (word, None),
            };
            let plain = |b: u8| b.is_ascii_alphanumeric() || b".+-:~".contains(&b);
            let good = version.is_none_or(|v| !v.is_empty() && v.bytes().all(plain));
            ensure!(
                relation::is_name(name) && good,
                "expected `deb:NAME` or `deb:NAME=VERSION`, got `deb:{text}`"
            );
            Ok(version.map_or_else(|| Target::any(name), |v| Target::exactly(name, v)))
        };
        let packages = list.split(',').map(package).collect::<Result<_>>()?;
        let components =
            component.map(|component| vec!["main".to_owned(), component]).unwrap_or_default();
        Ok(Self { suite, components, packages, ..Self::default() })
    }
}

/// Debian's archive as a source of images.
#[derive(Debug)]
pub struct Debian {
    store: Store,
    options: Options,
    transport: Transport,
    suites: Mutex<BTreeMap<Wanted, Arc<Suite>>>,
}

impl Debian {
    /// Uses the archive that `options` and the host's configuration tell of;
    /// `progress` hears of what comes from there.
    pub fn new(store: Store, progress: Arc<dyn Progress>, options: Options) -> Self {
        let (transport, suites) = (Transport::new(progress), Mutex::default());
        Self { store, options, transport, suites }
    }

    /// Returns what was asked for.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns the packages that a request comes to, dependencies first.
    pub fn solve(&self, request: &Request, platform: &Platform) -> Result<Vec<Arc<Package>>> {
        let suite = self.suite(request, platform)?;
        solve::solve(&request.packages, &request.exclude, &|name| suite.find(name))
    }

    /// Returns a layer for each package that a request comes to, the lowest
    /// first, all of them in the store.
    pub fn layers(&self, request: &Request, platform: &Platform) -> Result<Vec<Descriptor>> {
        request.filter.check()?;
        let packages = self.solve(request, platform)?;
        let made: Mutex<BTreeMap<usize, Result<Descriptor>>> = Mutex::default();
        let next = AtomicUsize::new(0);
        let failed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS.min(packages.len()) {
                scope.spawn(|| {
                    while failed.load(Ordering::Relaxed) == 0 {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(package) = packages.get(at) else {
                            return;
                        };
                        let layer = self.layer(package, &request.filter);
                        failed.fetch_add(usize::from(layer.is_err()), Ordering::Relaxed);
                        made.lock().unwrap_or_else(PoisonError::into_inner).insert(at, layer);
                    }
                });
            }
        });
        made.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
    }

    /// Makes the image of a request: what every system has, then the
    /// packages.
    pub fn image(&self, request: &Request, platform: &Platform) -> Result<Descriptor> {
        let mut layers = vec![base_layer(&self.store)?];
        layers.extend(self.layers(request, platform)?);
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
        let process = Process { env: vec![path], ..Process::default() };
        put_image(&self.store, platform, process, layers)
    }

    fn suite(&self, request: &Request, platform: &Platform) -> Result<Arc<Suite>> {
        let named = request.suite.as_ref().or(self.options.suite.as_ref());
        let mut components = request.components.clone();
        if components.is_empty() {
            components.push("main".into());
        }
        let wanted = Wanted {
            suite: named.map_or_else(|| SUITE.to_owned(), Clone::clone),
            components,
            architecture: suite::architecture(platform)?,
        };
        let mut suites = self.suites.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = suites.get(&wanted) {
            return Ok(Arc::clone(known));
        }
        if self.options.offline {
            let missing = anyhow::anyhow!("expected Debian's archive, but this run is offline");
            return Err(missing).hint(|| "run once without --offline".to_owned());
        }
        let host = self.options.host.clone().unwrap_or_else(|| PathBuf::from("/"));
        let archives = apt::find(&host, &self.options.archive)?;
        let now = i64::try_from(env::now().as_secs()).ok().filter(|_| !self.options.expired);
        let read = Suite::read(&wanted, &archives, &self.transport, &self.store, now)
            .with_context(|| format!("reading Debian's suite {}", wanted.suite))?;
        let read = Arc::new(read);
        suites.insert(wanted, Arc::clone(&read));
        Ok(read)
    }

    /// Makes the layer of a package, or finds it made.
    fn layer(&self, package: &Package, filter: &Filter) -> Result<Descriptor> {
        let name = format!("{}={}", package.name, package.version);
        let text = serde_json::to_string(&(package.digest, filter)).context("naming a layer")?;
        let key = Digest::of(text.as_bytes());
        let mut note = String::new();
        let make = |out: &mut dyn crate::store::Out| {
            let layer = self.unpack(package, filter)?;
            serde_json::to_writer(out, &layer).context("noting a layer")
        };
        let file = self.store.derived(LAYER_KIND, &key, make);
        let mut file = file.with_context(|| format!("making a layer of package {name}"))?;
        file.read_to_string(&mut note).context("reading the note of a layer")?;
        let mut layer: Descriptor =
            serde_json::from_str(&note).context("reading the note of a layer")?;
        if !self.store.has(&layer.digest) && !self.store.has_layer(&layer.digest) {
            layer = self.unpack(package, filter)?;
        }
        layer.annotations.insert(ANNOTATION_PACKAGE.into(), name);
        Ok(layer)
    }

    fn unpack(&self, package: &Package, filter: &Filter) -> Result<Descriptor> {
        let blob =
            Descriptor::new("application/vnd.debian.binary-package", package.digest, package.size);
        let address = format!("{}/{}", package.archive, package.path);
        let what = format!("deb:{}={}", package.name, package.version);
        self.transport.download(&what, &address, &blob, &self.store)?;
        let deb = self.store.open_blob(&package.digest)?;
        let (digest, size) = self
            .store
            .put_with(|out| unpack::write_layer(&deb, filter, out))
            .with_context(|| format!("unpacking {}", package.path))?;
        Ok(Descriptor::new(MEDIA_LAYER, digest, size))
    }

    fn name_in_store(&self, reference: &Reference, platform: &Platform) -> String {
        let suite = self.options.suite.as_deref().unwrap_or(SUITE);
        format!("{reference} ({suite}, {platform})")
    }
}

impl Source for Debian {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Descriptor>> {
        let Reference::Debian(text) = reference else {
            return Ok(None);
        };
        let name = self.name_in_store(reference, platform);
        if !self.options.refresh
            && let Some(known) = self.store.named(&name)?
            && is_whole(&self.store, &known)
        {
            return Ok(Some(known));
        }
        let made = self.image(&Request::parse(text)?, platform)?;
        self.store.name([(name, made.clone())])?;
        Ok(Some(made))
    }

    fn fetch(&self, reference: &Reference, descriptor: &Descriptor, store: &Store) -> Result<()> {
        if is_whole(store, descriptor) {
            return Ok(());
        }
        let Reference::Debian(text) = reference else {
            bail!("expected a Debian package, got {reference}");
        };
        let platform = descriptor.platform.clone().unwrap_or_else(Platform::host);
        let made = self.image(&Request::parse(text)?, &platform)?;
        if made.digest == descriptor.digest {
            return Ok(());
        }
        Err(anyhow::anyhow!(
            "{reference}: expected {}, but the archive now comes to {}",
            descriptor.digest,
            made.digest
        ))
        .hint(|| {
            "the archive holds other versions than those locked: use a mirror of that date, or \
             make a new lock"
                .to_owned()
        })
    }
}
