//! Images brought whole: several at once, compressed and plain, by several at
//! once, and what damage in the store comes to.

use serde_json::json;

use super::*;
use crate::store::EntryKind;

fn zstd(tar: &[u8]) -> Layer {
    let blob = ::zstd::encode_all(tar, 3).unwrap();
    Layer { diff: layout::digest(tar), blob, kind: "tar+zstd" }
}

fn content(store: &Store, manifest: &Descriptor) -> Vec<(String, Vec<u8>)> {
    let manifest = crate::source::choose::manifest(store, &manifest.digest).unwrap();
    let mut found = Vec::new();
    for layer in &manifest.layers {
        let layer = store.layer(layer).unwrap();
        for entry in &layer.entries {
            if let EntryKind::File { offset, len, .. } = entry.kind {
                let mut bytes = vec![0; usize::try_from(len).unwrap()];
                std::os::unix::fs::FileExt::read_exact_at(&*layer.tar, &mut bytes, offset).unwrap();
                found.push((format!("{:?}", entry.path), bytes));
            }
        }
    }
    found
}

#[test]
fn several_images_come_at_once_and_are_unpacked() {
    let Some(bench) = Bench::new() else { return };
    let tar = |name: &str| Tar::new().file(name, &noise(name.len() as u64, 100_000)).end();
    let shared = Layer::gzip(&tar("shared"));
    for (name, layers) in [
        ("t/gzip", vec![shared.clone(), Layer::gzip(&tar("a"))]),
        ("t/zstd", vec![shared.clone(), zstd(&tar("bb"))]),
        ("t/plain", vec![shared.clone(), Layer::plain(tar("ccc"))]),
    ] {
        bench.server.image(name, "1", "amd64", &layers);
    }
    let images = ["amd64", "arm64"].map(|arch| {
        let tar = Tar::new().file("arch", arch.as_bytes()).end();
        bench.server.image("t/multi", arch, arch, &[Layer::gzip(&tar)])
    });
    let index = json!({ "schemaVersion": 2, "manifests": images });
    bench.server.document("t/multi", "1", "index.v1+json", &index);

    let address = &bench.server.address;
    let names = ["gzip", "zstd", "plain", "multi", "app"];
    let references: Vec<Reference> =
        names.iter().map(|name| format!("{address}/t/{name}:1").parse().unwrap()).collect();
    let store = bench.store("cache");
    let (heard, sources) = sources(&store, bench.options());
    let found = sources.bring(&references, &Platform::linux("amd64"), None).unwrap();
    assert_eq!(found.len(), references.len());
    for (reference, descriptor) in &found {
        let files = content(&store, descriptor);
        assert!(!files.is_empty(), "{reference}");
        if reference.to_string().contains("multi") {
            assert_eq!(files[0].1, b"amd64");
        }
    }
    let foreign = images[1]["digest"].as_str().unwrap().parse().unwrap();
    assert!(!store.has(&foreign), "another platform's image was fetched");
    let mut started = heard.started.lock().unwrap().clone();
    started.sort();
    let all = started.len();
    started.dedup_by_key(|item| (item.digest, item.stage));
    assert_eq!(started.len(), all, "a shared layer came twice: {started:?}");
    assert_sound(&store);

    // All of it is named now, so that nobody need be asked again.
    let Bench { dir, server, .. } = bench;
    drop(server);
    let (_, again) = self::sources(&store, options(dir.path()));
    assert_eq!(again.bring(&references, &Platform::linux("amd64"), None).unwrap(), found);
}

#[test]
fn other_platforms_and_names_are_told() {
    let Some(bench) = Bench::new() else { return };
    let address = &bench.server.address;
    let (_, sources) = sources(&bench.store("cache"), bench.options());
    for (name, expected) in [
        ("t/app:1", "has no image for linux/arm64, only for linux/amd64"),
        ("t/app:2", "not found in"),
        ("t/none:1", "not found in"),
    ] {
        let reference = format!("{address}/{name}").parse().unwrap();
        let error = sources.bring(&[reference], &Platform::linux("arm64"), None).unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
}

#[test]
fn a_damaged_blob_of_the_store_is_fetched_again() {
    let Some(bench) = Bench::new() else { return };
    let image = format!("{}/t/app:1", bench.server.address);
    let store = bench.store("cache");
    let (_, sources) = sources(&store, bench.options());
    // Fetched, not unpacked: nobody has looked into the layer yet.
    let root = sources.bring_index(&image.parse().unwrap(), None, None).unwrap();
    store.name([(image.parse::<Reference>().unwrap().to_string(), root)]).unwrap();
    for digest in [&bench.layer, &bench.manifest] {
        let path = store.blob_path(&digest.parse().unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (_, found) = pull(&store, bench.options(), &image);
        assert_eq!(found.unwrap().digest.to_string(), bench.manifest, "{digest}");
        assert_sound(&store);
    }
}

#[test]
fn several_at_once_fetch_a_blob_once() {
    let Some(bench) = Bench::new() else { return };
    let proxy = Proxy::start(&bench.server.address, |_, _| Fault::None);
    let image = format!("{}/t/app:1", proxy.address);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pull(&bench.store("cache"), bench.options(), &image).1.unwrap());
        }
    });
    let blobs = proxy.seen().iter().filter(|r| r.line.ends_with(&bench.layer)).count();
    assert_eq!(blobs, 1);
    assert_sound(&bench.store("cache"));
}

#[test]
fn a_locked_image_is_told_by_its_own_name() {
    let Some(bench) = Bench::new() else { return };
    let image: Reference = format!("{}/t/app:1", bench.server.address).parse().unwrap();
    let platform = Platform::linux("amd64");
    let mut lock = crate::source::Lock::new(bench.dir.path());
    lock.insert(&image, Some(&platform), bench.manifest.parse().unwrap());
    let (heard, sources) = sources(&bench.store("cache"), bench.options());
    sources.bring(std::slice::from_ref(&image), &platform, Some(&lock)).unwrap();
    let started = heard.started.lock().unwrap();
    assert!(!started.is_empty() && started.iter().all(|item| item.image == image.to_string()));
}
