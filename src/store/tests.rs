//! Tests of the store, on real folders.

use std::fs::FileTimes;
use std::io::Write;
use std::time::{Duration, SystemTime};

use super::*;
use crate::oci::{Descriptor, Digest, MEDIA_LAYER};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn tar_of(add: impl FnOnce(&mut ::tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    add(&mut builder);
    builder.into_inner().unwrap()
}

fn add(builder: &mut ::tar::Builder<Vec<u8>>, path: &str, kind: ::tar::EntryType, data: &[u8]) {
    let mut header = ::tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    // Set raw, as the crate refuses the names that an attacker would use.
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    builder.append(&header, data).unwrap();
}

fn put_layer(store: &Store, bytes: &[u8]) -> Descriptor {
    let digest = store.put(bytes).unwrap();
    Descriptor::new(MEDIA_LAYER, digest, bytes.len() as u64)
}

fn compressions(plain: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    xz.write_all(plain).unwrap();
    vec![
        ("plain", plain.to_vec()),
        ("gzip", gzip.finish().unwrap()),
        ("zstd", zstd::encode_all(plain, 1).unwrap()),
        ("xz", xz.finish().unwrap()),
    ]
}

#[test]
fn unpacks_each_compression_alike() {
    let (_dir, store) = store();
    let plain = tar_of(|tar| {
        add(tar, "./etc/", ::tar::EntryType::Directory, b"");
        add(tar, "/etc/hosts", ::tar::EntryType::Regular, b"127.0.0.1");
    });
    for (name, bytes) in compressions(&plain) {
        let blob = put_layer(&store, &bytes);
        for _ in 0..2 {
            let layer = store.layer(&blob).unwrap();
            let paths: Vec<_> = layer.entries.iter().map(|e| e.path.as_slice()).collect();
            assert_eq!(paths, [&b"etc"[..], b"etc/hosts"], "{name}");
            let EntryKind::File { offset, len, digest } = layer.entries[1].kind else {
                panic!("{name}: expected a file");
            };
            let mut read = vec![0; len as usize];
            std::os::unix::fs::FileExt::read_exact_at(&*layer.tar, &mut read, offset).unwrap();
            assert_eq!((read.as_slice(), digest), (&b"127.0.0.1"[..], Digest::of(b"127.0.0.1")));
        }
    }
}

#[test]
fn refuses_what_leads_out_and_what_is_cut() {
    let (_dir, store) = store();
    let out = tar_of(|tar| add(tar, "a/../../x", ::tar::EntryType::Regular, b"x"));
    let error = store.layer(&put_layer(&store, &out)).unwrap_err();
    assert!(format!("{error:#}").contains("without `..`"), "{error:#}");
    let whole = tar_of(|tar| add(tar, "x", ::tar::EntryType::Regular, &[7; 2000]));
    assert!(store.layer(&put_layer(&store, &whole[..1500])).is_err());
    assert!(
        store.layer(&put_layer(&store, &zstd::encode_all(&whole[..], 1).unwrap()[..20])).is_err()
    );
    assert_eq!(std::fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn finds_a_damaged_blob_and_removes_it() {
    let (_dir, store) = store();
    let plain = tar_of(|tar| add(tar, "x", ::tar::EntryType::Regular, b"x"));
    let blob = put_layer(&store, &plain);
    let mut damaged = plain;
    damaged[600] ^= 1;
    std::fs::write(store.blob_path(&blob.digest), damaged).unwrap();
    let error = store.layer(&blob).unwrap_err();
    assert!(is_damage(&error), "{error:#}");
    assert!(!store.has(&blob.digest) && !store.has_layer(&blob.digest));
}

#[test]
fn remakes_a_cut_layer_from_its_blob() {
    let (_dir, store) = store();
    let plain = tar_of(|tar| add(tar, "x", ::tar::EntryType::Regular, b"x"));
    let blob = put_layer(&store, &plain);
    store.layer(&blob).unwrap();
    let tar = store.root().join("layers").join(format!("{}.tar", blob.digest.hex()));
    std::fs::write(&tar, b"cut").unwrap();
    assert_eq!(store.layer(&blob).unwrap().entries.len(), 1);
    assert_eq!(std::fs::read(&tar).unwrap(), plain);
}

#[test]
fn resumes_a_download() {
    let (_dir, store) = store();
    let blob = Descriptor::new(MEDIA_LAYER, Digest::of(b"hello"), 5);
    let mut first = store.download(&blob).unwrap().unwrap();
    first.write(b"he").unwrap();
    drop(first);
    let mut second = store.download(&blob).unwrap().unwrap();
    assert_eq!(second.position(), 2);
    second.write(b"llo").unwrap();
    second.finish().unwrap();
    assert!(store.download(&blob).unwrap().is_none());
    assert_eq!(store.read(&blob.digest, 10).unwrap(), b"hello");
}

#[test]
fn refuses_a_wrong_or_long_download() {
    let (_dir, store) = store();
    let blob = Descriptor::new(MEDIA_LAYER, Digest::of(b"hello"), 5);
    let mut wrong = store.download(&blob).unwrap().unwrap();
    wrong.write(b"jello").unwrap();
    assert!(is_damage(&wrong.finish().unwrap_err()));
    let mut long = store.download(&blob).unwrap().unwrap();
    assert_eq!(long.position(), 0);
    assert!(long.write(b"hello world").is_err());
    drop(long);
    let mut short = store.download(&blob).unwrap().unwrap();
    short.write(b"he").unwrap();
    assert!(short.finish().is_err());
    assert!(!store.has(&blob.digest));
}

#[test]
fn derives_once() {
    let (_dir, store) = store();
    let key = Digest::of(b"key");
    let mut made = 0;
    for _ in 0..2 {
        let mut file = store
            .derived("kind-1", &key, |out| {
                made += 1;
                out.write_all(b"dear")?;
                Ok(())
            })
            .unwrap();
        assert_eq!(std::io::read_to_string(&mut file).unwrap(), "dear");
    }
    assert_eq!(made, 1);
    let failed = store.derived("kind-1", &Digest::of(b"other"), |_| anyhow::bail!("no"));
    assert!(failed.is_err());
}

#[test]
fn names_images_and_cleans() {
    let (dir, store) = store();
    let blob = put_layer(&store, b"manifest");
    store.name([("docker.io/a/b:1".to_owned(), blob.clone())]).unwrap();
    assert_eq!(store.named("docker.io/a/b:1").unwrap().unwrap().digest, blob.digest);
    assert_eq!(store.unname(&["x".into(), "docker.io/a/b:1".into()]).unwrap(), ["docker.io/a/b:1"]);
    assert!(store.names().unwrap().is_empty());
    drop(store);
    Store::clean(dir.path()).unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().usage().unwrap().blobs, 0);
}

#[test]
fn forgets_derived_artefacts_that_nothing_reads() {
    let (dir, store) = store();
    let day = Duration::from_secs(24 * 60 * 60);
    let times = [("old", 31, 31), ("read", 400, 1), ("written", 1, 400), ("asked for", 31, 31)];
    for (name, modified, accessed) in times {
        let key = Digest::of(name.as_bytes());
        store.keep_derived("test-1", &key, name.as_bytes()).unwrap();
        let before = |days: u32| SystemTime::UNIX_EPOCH + (crate::env::now() - day * days);
        let times = FileTimes::new().set_modified(before(modified)).set_accessed(before(accessed));
        let file = store.known("test-1", &key).unwrap();
        file.set_times(times).unwrap();
    }
    // Who is not alone removes nothing.
    let other = Store::open(dir.path()).unwrap();
    let kept = || {
        let place = dir.path().join("derived/test-1");
        let there =
            |(name, ..): &(&str, u32, u32)| place.join(Digest::of(name.as_bytes()).hex()).exists();
        times.iter().map(there).collect::<Vec<_>>()
    };
    assert_eq!(kept(), [true; 4]);
    // Whatever the file system notes.
    store.known("test-1", &Digest::of(b"asked for")).unwrap();
    drop((store, other));
    Store::open(dir.path()).unwrap();
    assert_eq!(kept(), [false, true, true, true]);
}
