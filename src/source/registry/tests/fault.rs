//! Answers that are late, cut, wrong or refusals.

use super::*;

/// Where something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Manifest,
    Layer,
}

/// A fault at the first so many requests, and what must be in the error or,
/// where it is empty, success.
type Case = (&'static str, At, usize, Fault, &'static [&'static str]);

const ALWAYS: usize = usize::MAX;

fn told(status: u16, headers: &str, message: &str) -> Fault {
    let body = format!(r#"{{"errors":[{{"code":"X","message":"{message}"}}]}}"#);
    Fault::Answer(status, headers.to_owned(), body)
}

fn plain(status: u16, text: &str) -> Fault {
    Fault::Answer(status, String::new(), text.to_owned())
}

fn cases() -> Vec<Case> {
    use At::{Layer, Manifest};
    let wait = "Retry-After: 0\r\n";
    vec![
        ("cut short", Layer, 1, Fault::Cut(LAYER / 2), &[]),
        ("short and says so", Layer, 1, Fault::Short(LAYER / 2), &[]),
        ("short always", Layer, ALWAYS, Fault::Short(0), &["giving up after 3", "bytes, got 0"]),
        ("too long", Layer, ALWAYS, Fault::Longer, &["expected", "bytes, got more"]),
        ("damaged", Layer, ALWAYS, Fault::Damage, &["downloaded content: expected sha256:"]),
        ("damaged once", Layer, 1, Fault::Damage, &[]),
        ("stalls once", Layer, 1, Fault::Stall(LAYER / 2), &[]),
        ("stalls", Layer, ALWAYS, Fault::Stall(0), &["giving up after 3", "timed out"]),
        ("stalls", Manifest, ALWAYS, Fault::Stall(0), &["giving up after 3", "timed out"]),
        ("damaged", Manifest, ALWAYS, Fault::Damage, &["manifests/1: expected sha256:"]),
        ("cut", Manifest, 1, Fault::Cut(10), &[]),
        ("401", Manifest, ALWAYS, told(401, "", "who"), &["401", "who", "hint: log in with"]),
        ("403", Layer, ALWAYS, told(403, "", "no"), &["HOST answered 403", ": no", "hint: check"]),
        ("404", Manifest, ALWAYS, told(404, "", "gone"), &["not found in HOST", "gone", "the tag"]),
        ("404", Layer, ALWAYS, Fault::status(404), &["not found in HOST", "404"]),
        ("429 once", Manifest, 1, told(429, wait, "slow"), &[]),
        ("429 twice", Layer, 2, told(429, wait, "slow"), &[]),
        ("429", Layer, ALWAYS, told(429, wait, "slow"), &["giving up", "429", "slow", "--mirror"]),
        ("500 once", Layer, 1, Fault::status(500), &[]),
        ("503 twice", Manifest, 2, Fault::status(503), &[]),
        ("503", Manifest, ALWAYS, Fault::status(503), &["giving up after 3 attempts", "503"]),
        ("no manifest", Manifest, ALWAYS, told(200, "", "x"), &["expected an image manifest"]),
        ("no JSON", Manifest, ALWAYS, plain(200, "<html>"), &["reading an image manifest"]),
        ("plain text", Manifest, ALWAYS, plain(400, "by TLS\nonly"), &["Bad Request: by TLS"]),
    ]
}

#[test]
fn faults_are_mended_or_told() {
    let Some(bench) = Bench::new() else { return };
    for (number, (name, at, times, fault, expected)) in cases().into_iter().enumerate() {
        let layer = bench.layer.clone();
        let proxy = Proxy::start(&bench.server.address, move |request, nth| {
            let here = match at {
                At::Manifest => request.line.contains("/manifests/"),
                At::Layer => request.line.ends_with(&layer),
            };
            if here && nth < times { fault.clone() } else { Fault::None }
        });
        let store = bench.store(&number.to_string());
        let image = format!("{}/t/app:1", proxy.address);
        let (heard, found) = pull(&store, bench.options(), &image);
        match found {
            Ok(found) => {
                assert!(expected.is_empty(), "{name} at {at:?}: expected an error");
                assert_eq!(found.digest.to_string(), bench.manifest);
            }
            Err(error) => {
                let text = text(&error, &[&proxy.address]);
                assert!(!expected.is_empty(), "{name} at {at:?}: {text}");
                for part in expected {
                    assert!(text.contains(part), "{name} at {at:?}: no `{part}` in: {text}");
                }
            }
        }
        // The same is not told twice in a row.
        let mut notes = heard.notes.lock().unwrap().clone();
        let all = notes.len();
        notes.dedup();
        assert_eq!(notes.len(), all, "{name} at {at:?}: {notes:?}");
        assert_sound(&store);
        // Whatever happened, the next attempt succeeds.
        let plain = Options { mirrors: mirror(&proxy.address, &bench), ..bench.options() };
        let (_, found) = pull(&store, plain, &image);
        let found = found.unwrap_or_else(|error| panic!("{name} at {at:?}, again: {error:#}"));
        assert_eq!(found.digest.to_string(), bench.manifest);
        assert_sound(&store);
    }
}

/// The registry itself, asked before the proxy.
fn mirror(of: &str, bench: &Bench) -> Vec<Mirror> {
    vec![format!("{of}=http://{}", bench.server.address).parse().unwrap()]
}

#[test]
fn a_broken_blob_is_resumed_where_it_broke() {
    let Some(bench) = Bench::new() else { return };
    for (number, ranged) in [true, false].into_iter().enumerate() {
        let layer = bench.layer.clone();
        let proxy = Proxy::start(&bench.server.address, move |request, nth| {
            match (request.line.ends_with(&layer), nth) {
                (true, 0) => Fault::Cut(LAYER / 2),
                (true, _) if !ranged => Fault::Whole,
                _ => Fault::None,
            }
        });
        let store = bench.store(&number.to_string());
        let image = format!("{}/t/app:1", proxy.address);
        let (heard, found) = pull(&store, bench.options(), &image);
        found.unwrap();
        let asked = proxy.seen();
        let asked: Vec<_> = asked.iter().filter(|r| r.line.ends_with(&bench.layer)).collect();
        assert_eq!(asked.len(), 2, "{asked:?}");
        assert_eq!(asked[0].range, None);
        let from = asked[1].range.as_deref().and_then(|range| range.strip_prefix("bytes="));
        let from: usize = from.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap();
        assert!(from > 0 && from <= LAYER / 2, "{from}");
        assert_sound(&store);
        let started = heard.started.lock().unwrap();
        let fetched = |items: &[Item]| {
            let layer = |item: &&Item| item.digest.to_string() == bench.layer;
            items.iter().filter(layer).count()
        };
        // Once fetched, once unpacked.
        assert_eq!(fetched(&started), 2, "{started:?}");
        assert_eq!(fetched(&heard.finished.lock().unwrap()), 2);
    }
}

#[test]
fn what_a_former_run_left_wrong_does_no_harm() {
    let Some(bench) = Bench::new() else { return };
    let store = bench.store("cache");
    let digest: Digest = bench.layer.parse().unwrap();
    let partial = store.root().join("partial").join(digest.hex());
    std::fs::write(&partial, vec![0; 4096]).unwrap();
    let (_, sources) = sources(&store, bench.options());
    let image: Reference = format!("{}/t/app:1", bench.server.address).parse().unwrap();
    // Not by `bring`, which tries again after any damage.
    sources.bring_index(&image, None, None).unwrap();
    assert!(store.has(&digest) && !partial.exists());
    assert_sound(&store);
}

#[test]
fn a_mirror_that_fails_gives_way_to_the_registry() {
    let Some(bench) = Bench::new() else { return };
    let layer = bench.layer.clone();
    let proxy = Proxy::start(&bench.server.address, move |request, _| {
        if request.line.ends_with(&layer) { Fault::Damage } else { Fault::None }
    });
    let mirror = format!("http://{}", proxy.address).parse().unwrap();
    let store = bench.store("cache");
    let options = Options { mirrors: vec![mirror], ..bench.options() };
    let image = format!("{}/t/app:1", bench.server.address);
    let (heard, found) = pull(&store, options, &image);
    assert_eq!(found.unwrap().digest.to_string(), bench.manifest);
    let notes = heard.notes.lock().unwrap().join("\n");
    assert!(notes.contains("downloaded content: expected") && notes.contains("asking"), "{notes}");
    let started = heard.started.lock().unwrap();
    let mut once = started.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), started.len(), "{started:?}");
    assert_sound(&store);
}

#[test]
fn a_manifest_is_had_by_its_address() {
    let Some(bench) = Bench::new() else { return };
    let fine = Fault::Answer(200, String::new(), "kernel: {}\n".into());
    let proxy = Proxy::start(&bench.server.address, move |request, nth| {
        match (request.line.as_str(), nth) {
            ("GET /busy.yml", 0) => Fault::status(503),
            ("GET /busy.yml" | "GET /moby.yml", _) => fine.clone(),
            ("GET /moved.yml", _) => {
                Fault::Answer(302, "Location: /moby.yml\r\n".into(), String::new())
            }
            _ => Fault::status(404),
        }
    });
    let http = Http::new(&bench.options()).unwrap();
    for name in ["moby.yml", "busy.yml", "moved.yml"] {
        let found = http.get(&format!("http://{}/{name}", proxy.address)).unwrap();
        assert_eq!(found, b"kernel: {}\n", "{name}");
    }
    let error = http.get(&format!("http://{}/gone.yml", proxy.address)).unwrap_err();
    let text = text(&error, &[&proxy.address]);
    assert!(text.contains("fetching http://HOST/gone.yml") && text.contains("404"), "{text}");
    assert!(crate::error::is_not_found(&error));
}
