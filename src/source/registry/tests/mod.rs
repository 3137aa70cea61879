//! Against a real registry on loopback, with a proxy between that gets things
//! wrong. `tests/support/` has both, for the tests of the program as well.

#![allow(dead_code, reason = "tests of the program use the rest of what is shared")]

mod fault;
#[path = "../../../../tests/support/layout.rs"]
mod layout;
mod login;
#[path = "../../../../tests/support/proxy.rs"]
mod proxy;
#[path = "../../../../tests/support/registry.rs"]
mod registry;
mod tls;
mod whole;

use std::path::Path;

use super::*;
use crate::oci::Platform;
use crate::source::progress::Item;
use crate::source::{Named, Source, Sources};
use layout::{Layer, Tar, noise};
use proxy::{Fault, Proxy, Request};
use registry::Registry as Server;

/// How many bytes the layer of [`Bench::new`] has, about.
const LAYER: usize = 3 << 20;

/// Hears everything.
#[derive(Debug, Default)]
struct Heard {
    notes: Mutex<Vec<String>>,
    started: Mutex<Vec<Item>>,
    finished: Mutex<Vec<Item>>,
}

impl Progress for Heard {
    fn started(&self, item: &Item) {
        self.started.lock().unwrap().push(item.clone());
    }

    fn finished(&self, item: &Item) {
        self.finished.lock().unwrap().push(item.clone());
    }

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
}

/// A registry with one image, `t/app:1`, of one incompressible layer.
struct Bench {
    dir: tempfile::TempDir,
    server: Server,
    layer: String,
    manifest: String,
}

impl Bench {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path())?;
        let layer = Layer::plain(Tar::new().file("data", &noise(7, LAYER)).end());
        let digest = layer.diff.clone();
        let manifest = server.image("t/app", "1", "amd64", &[layer]);
        let manifest = manifest["digest"].as_str().unwrap().to_owned();
        Some(Self { dir, server, layer: digest, manifest })
    }

    fn options(&self) -> Options {
        options(self.dir.path())
    }

    fn store(&self, name: &str) -> Store {
        Store::open(&self.dir.path().join(name)).unwrap()
    }
}

/// Options that wait for nothing long and read nothing of the host's.
fn options(dir: &Path) -> Options {
    Options {
        certificates: dir.join("certs.d"),
        attempts: 3,
        backoff: Duration::from_millis(2),
        idle: Duration::from_millis(400),
        ..Options::default()
    }
}

fn sources(store: &Store, options: Options) -> (Arc<Heard>, Sources) {
    let heard = Arc::new(Heard::default());
    let http = Arc::new(Http::new(&options).unwrap());
    let registry = Registry::new(store.clone(), heard.clone(), http, options);
    let list: Vec<Box<dyn Source>> = vec![Box::new(Named::new(store.clone())), Box::new(registry)];
    (heard.clone(), Sources::new(store.clone(), heard, list))
}

fn pull(store: &Store, options: Options, name: &str) -> (Arc<Heard>, Result<Descriptor>) {
    let (heard, sources) = sources(store, options);
    let reference: Reference = name.parse().unwrap();
    let found = sources.bring(std::slice::from_ref(&reference), &Platform::linux("amd64"), None);
    (heard, found.map(|mut found| found.remove(&reference).unwrap()))
}

/// An error with its hint, the addresses of this run left out.
fn text(error: &anyhow::Error, addresses: &[&str]) -> String {
    let mut text = format!("{error:#}");
    if let Some(hint) = crate::error::hint(error) {
        text.push_str("\nhint: ");
        text.push_str(&hint);
    }
    addresses.iter().fold(text, |text, address| text.replace(address, "HOST"))
}

/// Every blob that a store holds must be what its name says.
#[track_caller]
fn assert_sound(store: &Store) {
    for entry in std::fs::read_dir(store.root().join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let found = Digest::of(&std::fs::read(&path).unwrap()).hex();
        assert_eq!(found, path.file_name().unwrap().to_str().unwrap());
    }
    for name in store.names().unwrap().values() {
        assert!(store.has(&name.digest), "{name:?}");
    }
}
