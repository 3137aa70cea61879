//! Packages: a folder with a `build.yml` becomes an image in the store.
//!
//! A package is named by a hash of what it is made from, so that it is built
//! once and found again. Built without Docker and without root: Debian
//! packages are unpacked, programs compiled by cargo, files laid over them.
//! Dockerfiles are refused for now.

mod cargo;
mod kernel;
mod layer;
mod recipe;
mod tag;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

pub use recipe::{Builder, Cargo, DebianRecipe, Depends, DockerImages, PackageFile, Recipe};
pub use tag::tag;

use self::layer::LayerWriter;
use crate::error::WithHint;
use crate::manifest::part::Part;
use crate::oci::{
    ANNOTATION_REF_NAME, Descriptor, Index, MEDIA_INDEX, MEDIA_LAYER, Platform, Process, Reference,
};
use crate::source::debian::{self, Debian, Request, relation::Target};
use crate::source::{Source, base_layer, is_whole, put_image};
use crate::store::Store;

/// The organisation of a package that names none.
pub const ORG: &str = "moby";
/// The label that tells how an image is run.
pub const LABEL_CONFIG: &str = "org.mobyproject.config";

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the full name of a package's image, `docker.io/ORG/IMAGE:TAG`.
/// `org` takes the place of the package's own organisation.
pub fn name(dir: &Path, org: Option<&str>, debian: &debian::Options) -> Result<String> {
    name_of(dir, &Recipe::read(dir)?, org, debian)
}

/// Names the image of a recipe. From a suite that neither the package nor the
/// default names, it is another image.
fn name_of(
    dir: &Path,
    recipe: &Recipe,
    org: Option<&str>,
    debian: &debian::Options,
) -> Result<String> {
    let tag = tag(dir, recipe).with_context(|| format!("hashing {}", dir.display()))?;
    let name = format!("{}:{tag}", recipe.repository(org));
    let packages = recipe.builder.as_ref().and_then(|builder| builder.debian.as_ref());
    let open = packages.is_some_and(|packages| packages.suite.is_none());
    Ok(match debian.other_suite().filter(|_| open) {
        Some(suite) => format!("{name}-{suite}"),
        None => name,
    })
}

/// A package that is in the store.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image's full name, `docker.io/ORG/IMAGE:TAG`.
    pub name: String,
    /// Its manifest for the platform.
    pub image: Descriptor,
    /// Whether it was built just now, and not found.
    pub fresh: bool,
}

/// Builds packages, and is the source of `@pkg:DIR`.
#[derive(Debug)]
pub struct Packages {
    store: Store,
    debian: Arc<Debian>,
    org: Option<String>,
    // A package that is named twice is built once.
    building: Mutex<BTreeMap<PathBuf, Arc<Mutex<()>>>>,
}

impl Packages {
    /// Builds into a store, with Debian's packages from `debian`. `org` takes
    /// the place of each package's own organisation.
    pub fn new(store: Store, debian: Arc<Debian>, org: Option<String>) -> Self {
        Self { store, debian, org, building: Mutex::default() }
    }

    /// Builds a package for one platform, unless the store has it. `force`
    /// builds it anew in any case.
    pub fn build(&self, dir: &Path, platform: &Platform, force: bool) -> Result<Built> {
        let doing = || format!("building the package {}", dir.display());
        let lock = self.lock(dir).with_context(doing)?;
        let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.build_alone(dir, platform, force).with_context(doing)
    }

    fn lock(&self, dir: &Path) -> Result<Arc<Mutex<()>>> {
        let path = dir.canonicalize().context("finding the folder")?;
        let mut all = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(all.entry(path).or_default()))
    }

    fn build_alone(&self, dir: &Path, platform: &Platform, force: bool) -> Result<Built> {
        let recipe = Recipe::read(dir)?;
        let name = name_of(dir, &recipe, self.org.as_deref(), self.debian.options())?;
        let known = self.named(&name, platform)?;
        if let Some(image) = known.filter(|_| !force && recipe.disable_cache != Some(true)) {
            return Ok(Built { name, image, fresh: false });
        }
        check_platform(&recipe, platform)?;
        let Some(builder) = &recipe.builder else {
            return Err(no_builder(dir, &recipe));
        };
        let layers = self.layers(dir, builder, platform)?;
        let image = put_image(&self.store, platform, process(&recipe, builder), layers)?;
        self.give_name(&name, &image)?;
        Ok(Built { name, image, fresh: true })
    }

    fn layers(
        &self,
        dir: &Path,
        builder: &Builder,
        platform: &Platform,
    ) -> Result<Vec<Descriptor>> {
        let mut layers = Vec::new();
        if let Some(recipe) = &builder.debian {
            let packages = self.debian.layers(&request(recipe, platform)?, platform)?;
            if builder.kernel == Some(true) {
                layers.push(self.layer(|out| kernel::write(&self.store, &packages, out))?);
            } else {
                if recipe.base.unwrap_or(true) {
                    layers.push(base_layer(&self.store)?);
                }
                layers.extend(packages);
            }
        }
        let programs = builder.cargo.as_ref();
        let programs = programs.map(|recipe| cargo::build(dir, recipe, platform)).transpose()?;
        let own = builder.files.is_some() || builder.links.is_some();
        if own || builder.directories.is_some() {
            layers.push(self.layer(|out| write_files(dir, builder, programs.as_deref(), out))?);
        }
        ensure!(!layers.is_empty(), "expected a `builder` that makes something, found none");
        Ok(layers)
    }

    fn layer(
        &self,
        make: impl FnOnce(&mut dyn std::io::Write) -> Result<()>,
    ) -> Result<Descriptor> {
        let (digest, size) = self.store.put_with(make)?;
        Ok(Descriptor::new(MEDIA_LAYER, digest, size))
    }

    /// Finds a whole image of a name for a platform.
    fn named(&self, name: &str, platform: &Platform) -> Result<Option<Descriptor>> {
        let Some(found) = self.store.named(name)? else {
            return Ok(None);
        };
        let mut images = self.images(&found);
        images.retain(|image| {
            let fits = image.platform.as_ref().is_none_or(|offered| platform.accepts(offered));
            fits && is_whole(&self.store, image)
        });
        Ok(images.into_iter().next())
    }

    /// Returns the manifests that a descriptor of the store leads to.
    fn images(&self, found: &Descriptor) -> Vec<Descriptor> {
        if !found.is_index() {
            return vec![found.clone()];
        }
        let bytes = self.store.read(&found.digest, 4 << 20).unwrap_or_default();
        let index = serde_json::from_slice::<Index>(&bytes);
        index.map(|index| index.manifests).unwrap_or_default()
    }

    /// Names an image, beside those of other platforms under that name.
    fn give_name(&self, name: &str, image: &Descriptor) -> Result<()> {
        let known = self.store.named(name)?;
        let mut manifests = known.map(|known| self.images(&known)).unwrap_or_default();
        manifests.retain(|other| other.platform.is_some() && other.platform != image.platform);
        manifests.push(image.clone());
        manifests.sort_by(|a, b| a.platform.cmp(&b.platform));
        let media_type = Some(MEDIA_INDEX.into());
        let index = Index { schema_version: 2, media_type, manifests };
        let bytes = serde_json::to_vec(&index).context("writing an index")?;
        let digest = self.store.put(&bytes)?;
        let named = Descriptor::new(MEDIA_INDEX, digest, bytes.len() as u64);
        self.store.name([(name.to_owned(), named)])
    }
}

impl Source for Packages {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Descriptor>> {
        let Reference::Package(dir) = reference else {
            return Ok(None);
        };
        let mut built = self.build(Path::new(dir), platform, false)?;
        // Records name the package by its tag, not by a path of this machine.
        built.image.annotations.insert(ANNOTATION_REF_NAME.into(), built.name);
        Ok(Some(built.image))
    }

    fn fetch(&self, reference: &Reference, descriptor: &Descriptor, store: &Store) -> Result<()> {
        if is_whole(store, descriptor) {
            return Ok(());
        }
        let Reference::Package(dir) = reference else {
            anyhow::bail!("expected a package, got {reference}");
        };
        let platform = descriptor.platform.clone().unwrap_or_else(Platform::host);
        let built = self.build(Path::new(dir), &platform, true)?.image;
        let (wanted, made) = (descriptor.digest, built.digest);
        if wanted == made {
            return Ok(());
        }
        Err(anyhow!("{reference}: expected {wanted}, but it now comes to {made}")).hint(|| {
            "the package, the archive or the compiler has changed since it was locked".to_owned()
        })
    }
}

fn check_platform(recipe: &Recipe, platform: &Platform) -> Result<()> {
    let Some(arches) = &recipe.arches else {
        return Ok(());
    };
    let known: Vec<&str> = arches.iter().map(|arch| arch.value.as_str()).collect();
    ensure!(
        known.contains(&platform.architecture.as_str()),
        "expected one of the platforms [{}], got {platform}",
        known.join(", ")
    );
    Ok(())
}

fn no_builder(dir: &Path, recipe: &Recipe) -> anyhow::Error {
    let name = recipe.dockerfile.as_ref().map_or("Dockerfile", |name| name.value.as_str());
    let path = dir.join(name);
    let error = if path.exists() {
        anyhow!("{}: Dockerfiles come with a later version of moby", path.display())
    } else {
        let path = dir.join("build.yml");
        anyhow!("{}: expected a `builder`, found none", path.display())
    };
    let hinted: Result<()> = Err(error).hint(|| {
        "say in build.yml how it is built by `builder:`, or build it elsewhere and bring it in \
         by `moby cache import`"
            .to_owned()
    });
    hinted.expect_err("an error stays one")
}

fn request(recipe: &DebianRecipe, platform: &Platform) -> Result<Request> {
    let texts = |list: &Option<Vec<crate::manifest::Spanned<String>>>| -> Vec<String> {
        list.iter().flatten().map(|text| text.value.clone()).collect()
    };
    let mut packages: Vec<Target> = Vec::new();
    for package in &recipe.packages {
        let Some(name) = for_platform(&package.value, platform) else {
            continue;
        };
        let read = Request::parse(name);
        let read = read.map_err(|error| package.at.invalid(format!("{error:#}")))?;
        packages.extend(read.packages);
    }
    Ok(Request {
        suite: recipe.suite.as_ref().map(|suite| suite.value.clone()),
        components: recipe.components.clone().unwrap_or_default(),
        packages,
        exclude: texts(&recipe.exclude),
        filter: debian::Filter { keep: texts(&recipe.keep), drop: texts(&recipe.drop) },
    })
}

/// Takes the architectures off a package's name, `NAME [amd64 arm64]` as Debian
/// writes it; `None` where this one is not among them.
fn for_platform<'a>(text: &'a str, platform: &Platform) -> Option<&'a str> {
    let limited = text.strip_suffix(']').and_then(|text| text.split_once(" ["));
    let Some((name, architectures)) = limited else {
        return Some(text);
    };
    let wanted = architectures.split(' ').any(|name| name == platform.architecture);
    wanted.then_some(name)
}

fn process(recipe: &Recipe, builder: &Builder) -> Process {
    let mut labels = BTreeMap::new();
    if let Some(config) = &recipe.config {
        let text = match config.encode() {
            Value::Null => String::new(),
            value => value.to_string(),
        };
        labels.insert(LABEL_CONFIG.to_owned(), text);
    }
    let env = builder.env.clone().unwrap_or_else(|| vec![PATH.to_owned()]);
    Process { env, cmd: builder.command.clone().unwrap_or_default(), labels, ..Process::default() }
}

/// Writes the files, folders and links of a package's own.
fn write_files(
    dir: &Path,
    builder: &Builder,
    programs: Option<&Path>,
    out: &mut dyn std::io::Write,
) -> Result<()> {
    let mut layer = LayerWriter::new(out);
    for path in builder.directories.iter().flatten() {
        layer.folder(path.value.as_bytes())?;
    }
    for file in builder.files.iter().flatten() {
        let path = file.path.value.as_bytes();
        let mode = file.mode.as_ref().map(|mode| u32::from(mode.value.0));
        if let Some(text) = &file.contents {
            layer.file(path, mode.unwrap_or(0o644), text.len() as u64, text.as_bytes())?;
        }
        if let Some(source) = &file.source {
            let (host, default) = find_file(dir, &source.value, programs)?;
            layer.host_file(path, mode.unwrap_or(default), &host)?;
        }
    }
    for (path, target) in builder.links.iter().flatten() {
        layer.link(path.as_bytes(), target.as_bytes())?;
    }
    layer.finish()
}

/// Finds a file of the package, or a program that was built, with the mode
/// that it has unless another is named: umask plays no part.
fn find_file(dir: &Path, name: &str, programs: Option<&Path>) -> Result<(PathBuf, u32)> {
    let climbs = name.starts_with('/') || name.split('/').any(|part| part == "..");
    ensure!(!climbs, "expected a path within the package, got `{name}`");
    if let Some(program) = programs.map(|dir| dir.join(name)).filter(|path| path.is_file()) {
        return Ok((program, 0o755));
    }
    let path = dir.join(name);
    let meta = path.metadata().with_context(|| format!("reading {}", path.display()))?;
    ensure!(meta.is_file(), "expected {} to be a file", path.display());
    let run = std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o100 != 0;
    Ok((path, if run { 0o755 } else { 0o644 }))
}

#[cfg(test)]
mod tests;
