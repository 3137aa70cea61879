//! `build.yml`: what a package is and how it is built.
//!
//! Takes all of LinuxKit's keys (docs/packages.md and pkglib), so that its
//! packages are read as they are. `builder` is ours: how a package comes to
//! be without Docker.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::error::WithHint;
use crate::manifest::part::{Decoder, record};
use crate::manifest::{self, ImageConfig, Mode, Spanned};

record! {
    /// What a package is and how it is built.
    Recipe as "package" check check_recipe {
        /// Name of the image.
        image: Spanned<String> = "image",
        /// Organisation that the image belongs to; `moby` by default.
        org: Option<Spanned<String>> = "org",
        /// Tag, in place of the hash of the package's content.
        tag: Option<Spanned<String>> = "tag",
        /// Name of the Dockerfile.
        dockerfile: Option<Spanned<String>> = "dockerfile",
        /// Architectures that the package is for, by their Go names; all by default.
        arches: Option<Vec<Spanned<String>>> = "arches",
        /// Paths outside of the folder that the package is made from too,
        /// `SOURCE:DESTINATION`.
        extra_sources: Option<Vec<Spanned<String>>> = "extra-sources",
        /// Git repository that the package comes from.
        gitrepo: Option<String> = "gitrepo",
        /// Lets a Dockerfile use the network.
        network: Option<bool> = "network",
        /// Accepted and ignored, as LinuxKit does.
        trust: Option<bool> = "disable-content-trust",
        /// Builds the package anew each time.
        disable_cache: Option<bool> = "disable-cache",
        /// How the image is run: becomes its label `org.mobyproject.config`.
        config: Option<ImageConfig> = "config",
        /// Arguments of a Dockerfile.
        build_args: Option<Vec<String>> = "buildArgs",
        /// Images that a Dockerfile needs.
        depends: Option<Depends> = "depends",
        /// How the package is built without a Dockerfile.
        builder: Option<Builder> = "builder",
    }

    /// Images that a Dockerfile needs.
    Depends as "packageDepends" {
        /// Images that are saved into the folder.
        docker_images: Option<DockerImages> = "docker-images",
    }

    /// Images that are saved into the folder of a Dockerfile.
    DockerImages as "packageDockerImages" {
        /// File that lists them.
        from_file: Option<String> = "from-file",
        /// The list itself.
        list: Option<Vec<String>> = "list",
        /// Archive that takes them all.
        target: Option<String> = "target",
        /// Folder that takes an archive of each.
        target_dir: Option<String> = "target-dir",
    }

    /// How a package is built without a Dockerfile: the parts are laid one
    /// over the other in the order of these keys.
    Builder as "packageBuilder" check check_builder {
        /// Packages of Debian, unpacked.
        debian: Option<DebianRecipe> = "debian",
        /// Turns the Debian packages into a kernel's image: `kernel` and
        /// `kernel.tar`.
        kernel: Option<bool> = "kernel",
        /// Programs of a Cargo workspace, built.
        cargo: Option<Cargo> = "cargo",
        /// Folders, by their paths.
        directories: Option<Vec<Spanned<String>>> = "directories",
        /// Files of this folder, and programs that `cargo` built.
        files: Option<Vec<PackageFile>> = "files",
        /// Symbolic links: path and target.
        links: Option<BTreeMap<String, String>> = "links",
        /// Command of the image.
        command: Option<Vec<String>> = "command",
        /// Environment of the image, `NAME=value`; a usual `PATH` by default.
        env: Option<Vec<String>> = "env",
    }

    /// Packages of Debian.
    DebianRecipe as "packageDebian" {
        /// Suite of the archive; `trixie` by default.
        suite: Option<Spanned<String>> = "suite",
        /// Components of the archive; `main` by default.
        components: Option<Vec<String>> = "components",
        /// The packages, `NAME` or `NAME=VERSION`; what they depend on comes with them.
        /// `NAME [amd64]` is for that architecture alone.
        packages: Vec<Spanned<String>> = "packages",
        /// Packages that are left out though others depend on them.
        exclude: Option<Vec<Spanned<String>>> = "exclude",
        /// Patterns of the files to keep; all but documentation by default.
        keep: Option<Vec<Spanned<String>>> = "keep",
        /// Patterns of the files to drop.
        drop: Option<Vec<Spanned<String>>> = "drop",
        /// Lays what every system has below: `/tmp`, `/etc/passwd`, `/bin` and its like;
        /// true by default, and not for parts of the root file system.
        base: Option<bool> = "base",
    }

    /// Programs of the Cargo workspace that this folder lies in.
    Cargo as "packageCargo" {
        /// Members of the workspace to build.
        packages: Vec<Spanned<String>> = "packages",
        /// Profile of the build; `release` by default.
        profile: Option<Spanned<String>> = "profile",
        /// Flags for the compiler; static linking by default.
        rustflags: Option<Vec<String>> = "rustflags",
        /// Programs that the build needs on this machine.
        requires: Option<Vec<String>> = "requires",
    }

    /// A file of a package.
    PackageFile as "packageFile" {
        /// Path in the image.
        path: Spanned<String> = "path",
        /// File of this folder, or name of a program that `cargo` built.
        source: Option<Spanned<String>> = "source",
        /// The contents themselves.
        contents: Option<String> = "contents",
        /// Permission bits, octal in quotes; "0755" for a program, else "0644".
        mode: Option<Spanned<Mode>> = "mode",
    }
}

fn check_recipe(recipe: &Recipe, decoder: &mut Decoder) {
    let word = |text: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        !text.is_empty() && text.split('/').all(|part| !part.is_empty() && part.bytes().all(plain))
    };
    for name in std::iter::once(&recipe.image).chain(&recipe.org) {
        if !word(name) {
            let text = "expected lower-case letters, digits, `.`, `_`, `-`";
            decoder.problems.push(name.at.invalid(format!("{text}, got `{}`", name.value)));
        }
    }
}

fn check_builder(builder: &Builder, decoder: &mut Decoder) {
    let files = builder.files.iter().flatten();
    for file in files {
        if file.source.is_some() == file.contents.is_some() {
            decoder.problems.push(file.at.invalid("expected either `source` or `contents`"));
        }
    }
    if builder.kernel == Some(true) && builder.debian.is_none() {
        decoder.problems.push(builder.at.invalid("`kernel` needs the packages of `debian`"));
    }
}

/// The largest `build.yml`, in bytes.
const RECIPE_MAX: u64 = 1 << 20;

impl Recipe {
    /// Reads the `build.yml` of a package's folder.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("build.yml");
        let read = || -> std::io::Result<String> {
            let mut text = String::new();
            let file = std::fs::File::open(&path)?;
            std::io::Read::read_to_string(&mut std::io::Read::take(file, RECIPE_MAX), &mut text)?;
            Ok(text)
        };
        let text = read()
            .with_context(|| format!("reading {}", path.display()))
            .hint(|| "a package is a folder with a build.yml; see pkg/ for examples".to_owned())?;
        Ok(manifest::read(&text, &path.display().to_string())?)
    }

    /// Returns the repository of the image, `docker.io/ORG/IMAGE`.
    pub fn repository(&self, org: Option<&str>) -> String {
        let own = self.org.as_ref().map(|org| org.value.as_str());
        let org = org.or(own).unwrap_or(super::ORG);
        format!("docker.io/{org}/{}", self.image.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_kinds() {
        let linuxkit = "image: x\norg: linuxkit\narches: [amd64]\nnetwork: true\n\
            extra-sources:\n  - ../a:a\ndisable-content-trust: true\nbuildArgs: [A=b]\n\
            depends:\n  docker-images:\n    list: [a]\n    target-dir: d\n\
            config:\n  capabilities: [CAP_NET_ADMIN]\n  binds: [/dev:/dev]\n";
        let recipe: Recipe = manifest::read(linuxkit, "build.yml").unwrap();
        assert_eq!(recipe.repository(None), "docker.io/linuxkit/x");
        assert_eq!(recipe.repository(Some("me")), "docker.io/me/x");
        let ours = "image: y\nbuilder:\n  debian:\n    packages: [runc]\n    keep: [usr/bin]\n\
            \x20 files:\n    - {path: /a, source: a, mode: \"0755\"}\n  links: {/b: /a}\n";
        let recipe: Recipe = manifest::read(ours, "build.yml").unwrap();
        assert_eq!(recipe.repository(None), "docker.io/moby/y");
    }

    #[test]
    fn tells_what_is_wrong() {
        for (text, expected) in [
            ("imag: x\n", "image"),
            ("image: X\n", "lower-case"),
            ("image: x\nbuilder:\n  kernel: true\n", "needs the packages"),
            ("image: x\nbuilder:\n  files: [{path: /a}]\n", "either `source` or `contents`"),
            ("image: x\nbuilder:\n  debian: {packges: [a]}\n", "packages"),
        ] {
            let error = manifest::read::<Recipe>(text, "build.yml").unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("build.yml:"), "{error}");
        }
    }
}
