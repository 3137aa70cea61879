//! What a manifest names: an image in a registry, or another source.
//!
//! Follows the grammar of the Distribution project's `reference` document:
//! `[domain/]path[:tag][@digest]`, Docker Hub's domain and `library/` being
//! implied. The other schemes are ours.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, ensure};

use super::Digest;

/// Anything that an `image:` of a manifest can name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// An image of a registry, or of the store under that name.
    Image(ImageRef),
    /// A local package by its folder: `@pkg:DIR`.
    Package(String),
    /// A Debian package with all that it depends on: `deb:NAME`, or
    /// `deb:NAME@SUITE/COMPONENT`.
    Debian(String),
    /// An image of an OCI layout on disk: `oci:DIR[:TAG]`.
    Layout(String),
    /// An archive that `docker save` wrote: `docker-archive:FILE[:REF]`.
    Archive(String),
}

/// An image of a registry, spelled out in full.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageRef {
    /// Registry, such as `docker.io` or `localhost:5000`.
    pub domain: String,
    /// Repository, such as `library/alpine`.
    pub path: String,
    /// Tag; `latest` where neither tag nor digest was given.
    pub tag: Option<String>,
    /// Digest that pins the content.
    pub digest: Option<Digest>,
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let rest = |prefix: &str| text.strip_prefix(prefix).map(str::to_owned);
        let made = if let Some(dir) = rest("@pkg:") {
            Self::Package(dir)
        } else if let Some(name) = rest("deb:") {
            Self::Debian(name)
        } else if let Some(dir) = rest("oci:") {
            Self::Layout(dir)
        } else if let Some(file) = rest("docker-archive:") {
            Self::Archive(file)
        } else {
            return text.parse().map(Self::Image);
        };
        ensure!(!text.ends_with(':'), "expected a name after `{text}`");
        Ok(made)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(image) => image.fmt(f),
            Self::Package(dir) => write!(f, "@pkg:{dir}"),
            Self::Debian(name) => write!(f, "deb:{name}"),
            Self::Layout(dir) => write!(f, "oci:{dir}"),
            Self::Archive(file) => write!(f, "docker-archive:{file}"),
        }
    }
}

impl FromStr for ImageRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match name[slash..].rfind(':') {
            Some(colon) => (&name[..slash + colon], Some(&name[slash + colon + 1..])),
            None => (name, None),
        };
        let (domain, path) = split_domain(name);
        ensure!(is_path(&path), "expected an image like `name:tag`, got `{text}`");
        ensure!(is_domain(&domain), "expected a registry host before the first `/` of `{text}`");
        if let Some(tag) = tag {
            ensure!(is_tag(tag), "expected a tag of letters, digits, `_`, `.`, `-` in `{text}`");
        }
        let tag = tag.or(if digest.is_none() { Some("latest") } else { None });
        Ok(Self { domain, path, tag: tag.map(Into::into), digest })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

fn split_domain(name: &str) -> (String, String) {
    match name.split_once('/') {
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => {
            let hub = first == "index.docker.io";
            (if hub { "docker.io" } else { first }.into(), rest.into())
        }
        Some(_) => ("docker.io".into(), name.into()),
        None => ("docker.io".into(), format!("library/{name}")),
    }
}

fn is_domain(domain: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    let first = domain.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'[');
    first && domain.bytes().all(plain)
}

fn is_path(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let component = |part: &str| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        part.bytes().all(plain) && edge(part.bytes().next()) && edge(part.bytes().last())
    };
    path.len() <= 255 && path.split('/').all(component)
}

fn is_tag(tag: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let first = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    first && tag.len() <= 128 && tag.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_out_what_is_implied() {
        let hex = "a".repeat(64);
        for (text, full) in [
            ("alpine", "docker.io/library/alpine:latest".to_owned()),
            ("golden/base:1", "docker.io/golden/base:1".to_owned()),
            ("localhost/x", "localhost/x:latest".to_owned()),
            ("127.0.0.1:5000/a/b:t", "127.0.0.1:5000/a/b:t".to_owned()),
            ("@pkg:../init", "@pkg:../init".to_owned()),
            ("deb:busybox-static", "deb:busybox-static".to_owned()),
            (&format!("a/b@sha256:{hex}"), format!("docker.io/a/b@sha256:{hex}")),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), full);
        }
        for bad in ["", "UPPER/x", "a//b", "a:b:c/", "a/b:", "a@b", "deb:", "../x", "a/../b"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
