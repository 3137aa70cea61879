//! `oci`: the whole assembly as an image, a layer for each component, in one
//! archive: what goes through registries, and what `skopeo copy oci-archive:`
//! and `oci:FILE` in a manifest read.
//!
//! Follows OCI Image Format Specification 1.1: "Image Layout", "Image
//! Manifest", "Image Configuration", "Image Layer Filesystem Changeset", the
//! layers as tar under Zstandard. A layer has all folders above what it has,
//! so that layers laid over each other in order are the tree, whoever does
//! it. The image is the root with its kernel below `boot`; nothing in it is
//! for a container to run.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use super::identity::identity;
use super::{Format, Output};
use crate::env::EPOCH;
use crate::fs::tar;
use crate::oci::{
    ANNOTATION_REF_NAME, Descriptor, Digest, Hasher, Index, MEDIA_CONFIG, MEDIA_INDEX, MEDIA_LAYER,
    MEDIA_MANIFEST, Manifest,
};
use crate::store::{Store, decompress};
use crate::system::{Part, System};
use crate::tree::{Content, Id, Inode, Kind, Tree};

pub(super) const FORMAT: Format = Format {
    name: "oci",
    about: "an OCI image, one layer a component, in a tar archive",
    files: &[".oci.tar"],
    single: false,
    loaders: &[],
    write,
};

/// [`EPOCH`] as RFC 3339 has it.
const CREATED: &str = "2017-04-18T16:30:00Z";
/// Level of Zstandard.
const LEVEL: i32 = 3;
/// What names begin with that remove what is below, "Whiteouts".
const WHITEOUT: &[u8] = b".wh.";
/// What came from no component.
const ADDED: &str = "what moby adds";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A compressed layer.
struct Layer {
    /// What is in it.
    about: String,
    file: Content,
    /// The digest of the archive under the compression.
    diff_id: Digest,
}

fn write(system: &System, output: &mut Output<'_>) -> Result<()> {
    let store = output.store;
    let components = components(system)?;
    let layers: Vec<Layer> = components
        .into_par_iter()
        .map(|(about, tree)| {
            let made = layer(&tree, store).with_context(|| format!("writing the layer of {about}"));
            made.map(|(file, diff_id)| Layer { about, file, diff_id })
        })
        .collect::<Result<_>>()?;
    let mut blobs: BTreeMap<Digest, Content> = BTreeMap::new();
    let mut add = |media: &str, content: Content| -> Result<Descriptor> {
        let descriptor = Descriptor::new(media, content.digest()?, content.len());
        blobs.insert(descriptor.digest, content);
        Ok(descriptor)
    };
    let config = add(MEDIA_CONFIG, document(&config(system, &layers))?)?;
    let packed = format!("{MEDIA_LAYER}+zstd");
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MEDIA_MANIFEST.to_owned()),
        config,
        layers: layers
            .iter()
            .map(|layer| add(&packed, layer.file.clone()))
            .collect::<Result<_>>()?,
        annotations: BTreeMap::from([created()]),
    };
    let mut root = add(MEDIA_MANIFEST, document(&manifest)?)?;
    root.platform = Some(system.platform.clone());
    root.annotations = reference(&output.options.name);
    let media_type = Some(MEDIA_INDEX.to_owned());
    let index = document(&Index { schema_version: 2, media_type, manifests: vec![root] })?;
    let key = Digest::of(format!("oci-1 {}", index.digest()?).as_bytes());
    output.stream(".oci.tar", Some(key), |out| {
        tar::write_file("oci-layout", EPOCH, &Content::Bytes(LAYOUT.into()), out)?;
        tar::write_file("index.json", EPOCH, &index, out)?;
        for (digest, content) in &blobs {
            tar::write_file(&format!("blobs/sha256/{}", digest.hex()), EPOCH, content, out)?;
        }
        tar::finish(out)
    })
}

/// Divides a system: what each component is, and the tree of what came from
/// it. All files of the manifest are one.
fn components(system: &System) -> Result<Vec<(String, Tree)>> {
    let mut divided: Vec<(String, Tree)> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let of_part: Vec<usize> = system
        .parts
        .iter()
        .map(|part| {
            let about = about(part);
            *known.entry(about.clone()).or_insert_with(|| {
                divided.push((about, Tree::new()));
                divided.len() - 1
            })
        })
        .collect();
    let mut copies: BTreeMap<Id, Id> = BTreeMap::new();
    for found in system.tree.walk() {
        let inode = system.tree.get(found.id);
        let place = of_part.get(inode.part as usize).copied().unwrap_or_default();
        let tree = &mut divided[place].1;
        check_name(&found.path)?;
        copy_parents(&system.tree, &found.path, tree)?;
        match copies.get(&found.id).filter(|_| found.link) {
            Some(copy) => tree.link(*copy, &found.path)?,
            None => {
                let copy = tree.insert(&found.path, bare(inode))?;
                copies.insert(found.id, copy);
            }
        }
    }
    divided.retain(|(_, tree)| tree.capacity() > 1);
    // What changes with every component comes last.
    divided.sort_by_key(|(about, _)| about == ADDED);
    Ok(divided)
}

/// Says what a part is, for people and as the key of a component.
fn about(part: &Part) -> String {
    match (part.location.as_str(), part.source.as_str()) {
        ("", "") => ADDED.to_owned(),
        (location, _) if location.starts_with("files[") => "files".to_owned(),
        (location, "") => location.to_owned(),
        (location, source) => format!("{location} from {source}"),
    }
}

fn check_name(path: &[u8]) -> Result<()> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if name.starts_with(WHITEOUT) {
        let path = String::from_utf8_lossy(path);
        bail!("expected no name that begins with `.wh.`, which layers remove, got `{path}`");
    }
    Ok(())
}

/// Copies the folders above a path, the root among them.
fn copy_parents(from: &Tree, path: &[u8], to: &mut Tree) -> Result<()> {
    let parent = path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |end| &path[..end]);
    if !parent.is_empty() && to.lookup(parent).is_some() {
        return Ok(());
    }
    let ends = parent.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in [0].into_iter().chain(ends).chain([parent.len()]) {
        let id = from.lookup(&parent[..end]).context("expected a folder above each entry")?;
        to.insert(&parent[..end], bare(from.get(id)))?;
    }
    Ok(())
}

/// Copies an inode without its part, and a folder without its entries.
fn bare(inode: &Inode) -> Inode {
    let kind = match &inode.kind {
        Kind::Directory(_) => Kind::directory(),
        other => other.clone(),
    };
    Inode { meta: inode.meta.clone(), kind, part: 0 }
}

/// Returns a layer and the digest of what is in it, out of the store where
/// they are known.
fn layer(tree: &Tree, store: &Store) -> Result<(Content, Digest)> {
    let key = identity(tree)?;
    let made = Cell::new(None);
    let file = store.derived("oci-layer-1", &key, |out| {
        let digests = compress(tree, out)?;
        made.set(Some(digests));
        Ok(())
    })?;
    let mut known = store.derived("oci-digests-1", &key, |out| {
        let digests = made.get().map_or_else(|| digests(&file), Ok)?;
        let bytes = postcard::to_stdvec(&digests).context("encoding the digests of a layer")?;
        out.write_all(&bytes).context("writing the digests of a layer")
    })?;
    let mut bytes = Vec::new();
    known.read_to_end(&mut bytes).context("reading the digests of a layer")?;
    let (diff_id, digest, len): Digests =
        postcard::from_bytes(&bytes).context("reading the digests of a layer")?;
    Ok((Content::Span { file: file.into(), offset: 0, len, digest }, diff_id))
}

/// The digest of a layer unpacked, and digest and length as it is.
type Digests = (Digest, Digest, u64);

fn compress(tree: &Tree, out: &mut dyn Write) -> Result<Digests> {
    let mut encoder = zstd::Encoder::new(Hasher::new(out), LEVEL).context("starting zstd")?;
    // The bytes are the same for any number but 0.
    let threads = u32::try_from(rayon::current_num_threads()).unwrap_or(1).max(1);
    encoder.multithread(threads).context("starting zstd")?;
    let mut plain = Hasher::new(encoder);
    tar::write(tree, &|_| Vec::new(), &mut plain)?;
    let (encoder, diff_id, _) = plain.finish();
    let (_, digest, len) = encoder.finish().context("finishing zstd")?.finish();
    Ok((diff_id, digest, len))
}

/// Finds the digests of a layer that is there by reading it.
fn digests(file: &File) -> Result<Digests> {
    let content = Content::of_file(file.try_clone().context("opening a layer")?)?;
    let mut plain = Hasher::new(io::sink());
    let packed = BufReader::with_capacity(1 << 18, content.reader());
    io::copy(&mut decompress(packed)?, &mut plain).context("unpacking a layer")?;
    Ok((plain.finish().1, content.digest()?, content.len()))
}

fn config(system: &System, layers: &[Layer]) -> Value {
    let platform = &system.platform;
    let step = |layer: &Layer| {
        json!({
            "created": CREATED,
            "created_by": format!("moby build: {}", layer.about),
        })
    };
    let mut config = json!({
        "created": CREATED,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {},
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>(),
        },
        "history": layers.iter().map(step).collect::<Vec<_>>(),
    });
    if let Some(variant) = &platform.variant {
        config["variant"] = json!(variant);
    }
    config
}

fn document(value: &impl Serialize) -> Result<Content> {
    let bytes = serde_json::to_vec(value).context("writing a document of an image")?;
    Ok(Content::Bytes(bytes.into()))
}

fn created() -> (String, String) {
    ("org.opencontainers.image.created".to_owned(), CREATED.to_owned())
}

/// Names the image in the layout, where the build's name can be one: "org.
/// opencontainers.image.ref.name" has its own grammar.
fn reference(name: &str) -> BTreeMap<String, String> {
    let within = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let plain = name.chars().all(within) && ends(name.chars().next()) && ends(name.chars().last());
    let named = |name: &str| (ANNOTATION_REF_NAME.to_owned(), name.to_owned());
    plain.then(|| named(name)).into_iter().chain([created()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Hasher, Platform};
    use crate::store::read_entries;
    use crate::tree::Metadata;

    fn system() -> System {
        let mut tree = Tree::new();
        let mut add = |path: &str, kind: Kind, part: u32| {
            tree.insert(path.as_bytes(), Inode { meta: Metadata::root(0o640, 5), kind, part })
                .unwrap()
        };
        add("etc", Kind::directory(), 2);
        add("etc/init.d", Kind::directory(), 1);
        let id = add("etc/init.d/a", Kind::bytes(&b"a"[..]), 1);
        add("etc/motd", Kind::bytes(&b"m"[..]), 3);
        add("etc/issue", Kind::bytes(&b"i"[..]), 4);
        tree.link(id, b"etc/again").unwrap();
        let part = |source: &str, location: &str| Part {
            source: source.to_owned(),
            location: location.to_owned(),
        };
        let parts = vec![
            Part::default(),
            part("init:1", "init[0]"),
            part("web:1", "services[0]"),
            part("linuxkit.files", "files[0]"),
            part("linuxkit.files", "files[1]"),
        ];
        System { tree, parts, kernel: None, platform: Platform::linux("amd64"), disk: None }
    }

    #[test]
    fn makes_a_layer_of_each_component_with_the_folders_above() {
        let divided = components(&system()).unwrap();
        let told: Vec<(String, Vec<String>)> = divided
            .iter()
            .map(|(about, tree)| {
                let mut tar = Vec::new();
                tar::write(tree, &|_| Vec::new(), &mut tar).unwrap();
                let entries = read_entries(&mut &tar[..]).unwrap();
                assert!(entries.iter().all(|entry| entry.mode == 0o640 && entry.mtime == 5));
                let path = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
                (about.clone(), entries.iter().map(|entry| path(&entry.path)).collect())
            })
            .collect();
        let expected: [(&str, &[&str]); 3] = [
            ("init[0] from init:1", &["etc", "etc/init.d", "etc/init.d/a", "etc/again"]),
            ("services[0] from web:1", &["etc"]),
            ("files", &["etc", "etc/issue", "etc/motd"]),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(about, paths)| {
                ((*about).to_owned(), paths.iter().map(|path| (*path).to_owned()).collect())
            })
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn refuses_names_that_layers_remove() {
        let mut system = system();
        let inode = Inode { meta: Metadata::default(), kind: Kind::Fifo, part: 1 };
        system.tree.insert(b"etc/.wh.motd", inode).unwrap();
        let told = components(&system).unwrap_err().to_string();
        assert!(told.contains("`etc/.wh.motd`"), "{told}");
    }

    #[test]
    fn knows_a_layer_again() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let (_, tree) = components(&system()).unwrap().remove(0);
        let (first, diff_id) = layer(&tree, &store).unwrap();
        std::fs::remove_dir_all(place.path().join("derived/oci-digests-1")).unwrap();
        let (second, again) = layer(&tree, &store).unwrap();
        assert_eq!(first.digest().unwrap(), second.digest().unwrap());
        assert_eq!((first.len(), diff_id), (second.len(), again));
        let mut plain = Hasher::new(io::sink());
        tar::write(&tree, &|_| Vec::new(), &mut plain).unwrap();
        assert_eq!(plain.finish().1, diff_id);
    }

    #[test]
    fn names_the_image_where_the_name_can_be_one() {
        assert_eq!(reference("web-1.2").len(), 2);
        for bad in ["", "a b", "-a", "a/b."] {
            assert_eq!(reference(bad).len(), 1, "{bad}");
        }
    }
}
