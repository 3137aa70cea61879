//! Tests of the sources, on layouts and archives made here.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::*;
use crate::error;
use crate::oci::{Digest, Index, MEDIA_CONFIG, MEDIA_INDEX, MEDIA_LAYER, MEDIA_MANIFEST, Manifest};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("cache")).unwrap();
    (dir, store)
}

fn sources(store: &Store) -> Sources {
    let sources: Vec<Box<dyn Source>> = vec![
        Box::new(Named::new(store.clone())),
        Box::new(Layout::new(store.clone())),
        Box::new(Archive::new(store.clone())),
    ];
    Sources::new(store.clone(), Arc::new(Silent), sources)
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Writes a layout with one image for two platforms, `docker.io/t/multi:1`,
/// and returns its files.
fn layout(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    let mut blob = |kind: &str, bytes: Vec<u8>| {
        let digest = Digest::of(&bytes);
        let found = Descriptor::new(kind, digest, bytes.len() as u64);
        files.push((format!("blobs/sha256/{}", digest.hex()), bytes));
        found
    };
    let mut manifests = Vec::new();
    for arch in ["amd64", "arm64"] {
        let layer = tar_of(&[("etc/arch", arch.as_bytes())]);
        let diff_id = Digest::of(&layer);
        let config = format!(
            r#"{{"architecture":"{arch}","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        );
        let manifest = Manifest {
            schema_version: 2,
            media_type: None,
            config: blob(MEDIA_CONFIG, config.into_bytes()),
            layers: vec![blob(MEDIA_LAYER, layer)],
            annotations: BTreeMap::new(),
        };
        let mut entry = blob(MEDIA_MANIFEST, serde_json::to_vec(&manifest).unwrap());
        entry.platform = Some(Platform::linux(arch));
        manifests.push(entry);
    }
    let index = Index { schema_version: 2, media_type: None, manifests };
    let mut root = blob(MEDIA_INDEX, serde_json::to_vec(&index).unwrap());
    root.annotations.insert(crate::oci::ANNOTATION_REF_NAME.into(), "docker.io/t/multi:1".into());
    let top = Index { schema_version: 2, media_type: None, manifests: vec![root] };
    files.push(("index.json".to_owned(), serde_json::to_vec(&top).unwrap()));
    for (name, bytes) in &files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    files
}

fn arch_of(store: &Store, manifest: &Descriptor) -> String {
    let layer = &choose::manifest(store, &manifest.digest).unwrap().layers[0];
    let layer = store.layer(layer).unwrap();
    let crate::store::EntryKind::File { offset, len, .. } = layer.entries[0].kind else {
        panic!("expected a file");
    };
    let mut bytes = vec![0; len as usize];
    std::os::unix::fs::FileExt::read_exact_at(&*layer.tar, &mut bytes, offset).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn imports_each_kind_of_layout_and_chooses_the_platform() {
    let (dir, _) = store();
    let folder = dir.path().join("layout");
    let files = layout(&folder);
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    let plain = tar_of(&files);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let archives = [
        ("l.tar", plain.clone()),
        ("l.tar.gz", gzip.finish().unwrap()),
        ("l.tar.zst", zstd::encode_all(plain.as_slice(), 1).unwrap()),
    ];
    let mut places = vec![folder];
    for (name, bytes) in archives {
        places.push(dir.path().join(name));
        std::fs::write(places.last().unwrap(), bytes).unwrap();
    }
    for place in places {
        let (_dir, store) = store();
        let images = import(&place, &store).unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].0, "docker.io/t/multi:1");
        for arch in ["amd64", "arm64"] {
            let wanted = ["t/multi:1".parse().unwrap()];
            let found = sources(&store).bring(&wanted, &Platform::linux(arch), None).unwrap();
            assert_eq!(arch_of(&store, &found[&wanted[0]]), arch, "{}", place.display());
            let by_digest = format!("t/multi@{}", images[0].1.digest).parse().unwrap();
            let found = sources(&store).resolve(&by_digest, &Platform::linux(arch)).unwrap();
            assert_eq!(arch_of(&store, &found), arch);
        }
        let listed = list(&store).unwrap();
        assert_eq!(listed[0].platforms, ["linux/amd64", "linux/arm64"]);
        let wrong =
            sources(&store).resolve(&"t/multi:1".parse().unwrap(), &Platform::linux("s390x"));
        let error = wrong.unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("linux/s390x, only for linux/amd64, linux/arm64"), "{text}");
        assert!(error::hint(&error).unwrap().contains("--arch"));
    }
}

#[test]
fn answers_layout_and_archive_references() {
    let (dir, store) = store();
    let folder = dir.path().join("layout");
    layout(&folder);
    let arm = Platform::linux("arm64");
    for tag in ["", ":1", ":docker.io/t/multi:1", ":t/multi:1"] {
        let wanted = [Reference::Layout(format!("{}{tag}", folder.display()))];
        let found = sources(&store).bring(&wanted, &arm, None).unwrap();
        assert_eq!(arch_of(&store, &found[&wanted[0]]), "arm64", "{tag}");
    }
    let missing = Reference::Layout(format!("{}:2", folder.display()));
    let error = sources(&store).resolve(&missing, &arm).unwrap_err();
    assert!(error::hint(&error).unwrap().contains("docker.io/t/multi:1"), "{error:#}");

    import(&folder, &store).unwrap();
    let name = "t/multi:1".parse().unwrap();
    let archive = dir.path().join("saved.tar");
    let mut out = std::fs::File::create(&archive).unwrap();
    export(&store, &name, ExportFormat::Docker, Some(&arm), &mut out).unwrap();
    let (_dir, other) = self::store();
    for tag in ["", ":t/multi:1"] {
        let wanted = [Reference::Archive(format!("{}{tag}", archive.display()))];
        let found = sources(&other).bring(&wanted, &arm, None).unwrap();
        assert_eq!(arch_of(&other, &found[&wanted[0]]), "arm64");
        assert!(sources(&other).resolve(&wanted[0], &Platform::linux("amd64")).is_err());
    }
    assert_eq!(import(&archive, &other).unwrap()[0].0, "docker.io/t/multi:1");
}

#[test]
fn exports_alike_and_what_it_exports_is_imported() {
    let (dir, store) = store();
    let folder = dir.path().join("layout");
    layout(&folder);
    let images = import(&folder, &store).unwrap();
    let name = "t/multi:1".parse().unwrap();
    let written = |platform: Option<&Platform>| {
        let mut bytes = Vec::new();
        export(&store, &name, ExportFormat::Oci, platform, &mut bytes).unwrap();
        bytes
    };
    assert_eq!(written(None), written(None));
    let path = dir.path().join("out.tar");
    std::fs::write(&path, written(None)).unwrap();
    let (_dir, other) = self::store();
    assert_eq!(import(&path, &other).unwrap()[0].1.digest, images[0].1.digest);
    std::fs::write(&path, written(Some(&Platform::linux("arm64")))).unwrap();
    let (_dir, other) = self::store();
    import(&path, &other).unwrap();
    assert_eq!(list(&other).unwrap()[0].platforms, ["linux/arm64"]);
}

#[test]
fn brings_an_index_for_the_platforms_asked_for() {
    let (dir, store) = store();
    let folder = dir.path().join("layout");
    layout(&folder);
    let wanted = Reference::Layout(folder.display().to_string());
    let count = || std::fs::read_dir(store.root().join("blobs/sha256")).unwrap().count();
    let arm = [Platform::linux("arm64")];
    let root = sources(&store).bring_index(&wanted, Some(&arm), None).unwrap();
    assert!(root.is_index());
    assert_eq!(count(), 4);
    sources(&store).bring_index(&wanted, None, None).unwrap();
    assert_eq!(count(), 7);
    let other = [Platform::linux("s390x")];
    assert!(sources(&store).bring_index(&wanted, Some(&other), None).is_err());
}

#[test]
fn honours_the_lock() {
    let (dir, store) = store();
    let folder = dir.path().join("layout");
    layout(&folder);
    import(&folder, &store).unwrap();
    let (wanted, arm) = (["t/multi:1".parse().unwrap()], Platform::linux("arm64"));
    let bring = |lock: Option<&Lock>| sources(&store).bring(&wanted, &arm, lock);
    let found = bring(None).unwrap().remove(&wanted[0]).unwrap();
    let mut lock = Lock::new(Path::new("."));
    assert!(bring(Some(&lock)).is_err());
    lock.insert(&wanted[0], Some(&arm), found.digest);
    assert_eq!(bring(Some(&lock)).unwrap()[&wanted[0]].digest, found.digest);
    lock.insert(&wanted[0], Some(&arm), Digest::of(b"other"));
    assert!(bring(Some(&lock)).is_err());
    let place = [Reference::Layout(folder.display().to_string())];
    lock.insert(&place[0], Some(&arm), Digest::of(b"other"));
    let error = sources(&store).bring(&place, &arm, Some(&lock)).unwrap_err();
    assert!(format!("{error:#}").contains("is locked to"), "{error:#}");
}

#[test]
fn refuses_damaged_layouts_and_names_nothing() {
    let (dir, store) = store();
    let folder = dir.path().join("layout");
    let files = layout(&folder);
    for (name, bytes) in files.iter().filter(|(name, _)| name != "oci-layout") {
        let (_dir, store) = self::store();
        std::fs::write(folder.join(name), &bytes[..bytes.len() - 1]).unwrap();
        assert!(import(&folder, &store).is_err(), "{name}");
        std::fs::write(folder.join(name), bytes).unwrap();
        assert!(store.names().unwrap().is_empty());
    }
    let bad = tar_of(&[("index.json", b"{}")]);
    let path = dir.path().join("bad.tar");
    for bytes in [&bad[..], &bad[..600], b"", b"junk"] {
        std::fs::write(&path, bytes).unwrap();
        assert!(import(&path, &store).is_err());
    }
    import(&folder, &store).unwrap();
}

#[test]
fn removes_and_collects() {
    let (dir, store) = store();
    let folder = dir.path().join("layout");
    layout(&folder);
    import(&folder, &store).unwrap();
    let root = store.root().to_owned();
    assert!(remove(&store, &["docker.io/t/other:1".into()]).is_err());
    drop(store);
    collect(&root).unwrap();
    let store = Store::open(&root).unwrap();
    assert_eq!(list(&store).unwrap()[0].platforms.len(), 2);
    remove(&store, &["docker.io/t/multi:1".into()]).unwrap();
    drop(store);
    collect(&root).unwrap();
    assert_eq!(Store::open(&root).unwrap().usage().unwrap().blobs, 0);
}

/// What a build names while somebody waits to collect stays.
#[test]
fn collects_nothing_that_was_named_while_it_waited() {
    let (dir, store) = store();
    let folder = dir.path().join("layout");
    layout(&folder);
    let root = store.root().to_owned();
    let waiting = std::thread::spawn({
        let root = root.clone();
        move || collect(&root)
    });
    // The kernel's list of locks tells when it waits for this store's.
    let lock = std::fs::metadata(root.join("lock")).unwrap();
    let inode = format!(":{} ", std::os::unix::fs::MetadataExt::ino(&lock));
    let waits = |locks: String| locks.lines().any(|l| l.contains("-> ") && l.contains(&inode));
    while !waiting.is_finished() && !waits(std::fs::read_to_string("/proc/locks").unwrap()) {
        std::thread::yield_now();
    }
    import(&folder, &store).unwrap();
    drop(store);
    waiting.join().unwrap().unwrap();
    let store = Store::open(&root).unwrap();
    assert_eq!(list(&store).unwrap()[0].platforms.len(), 2);
}

#[test]
fn imports_the_golden_images() {
    let tar = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/linuxkit/golden/images/layout.tar");
    if !tar.exists() {
        eprintln!("skipped: {} is absent", tar.display());
        return;
    }
    let (_dir, store) = store();
    let images = import(&tar, &store).unwrap();
    assert_eq!(images.len(), 30);
    let wanted: Vec<Reference> = images.iter().map(|(name, _)| name.parse().unwrap()).collect();
    let found = sources(&store).bring(&wanted, &Platform::linux("amd64"), None).unwrap();
    assert_eq!(found.len(), 30);
}
