//! The program against a real registry: killed while it fetches, beside
//! another one of its kind, refused.

mod support;

use std::process::Stdio;
use std::time::Duration;

use support::layout::{Layer, Tar, noise};
use support::proxy::{Fault, Proxy};
use support::registry::Registry;
use support::{moby, names, run, stderr, succeed};

/// Much more than the sockets of a connection hold.
const LAYER: usize = 24 << 20;

struct Bench {
    home: tempfile::TempDir,
    registry: Registry,
    layer: String,
}

impl Bench {
    fn new() -> Option<Self> {
        let home = tempfile::tempdir().expect("a folder");
        let registry = Registry::start(home.path())?;
        let layer = Layer::plain(Tar::new().file("data", &noise(9, LAYER)).end());
        let digest = layer.diff.clone();
        registry.image("t/app", "1", "amd64", &[layer]);
        Some(Self { home, registry, layer: digest })
    }

    fn pull(&self, address: &str) -> std::process::Command {
        let mut command = moby(self.home.path());
        command.arg("--cache").arg(self.home.path().join("cache"));
        command.args(["cache", "pull", "--arch", "linux/amd64"]).arg(format!("{address}/t/app:1"));
        command
    }

    /// Everything that the cache holds by digest is what its name says.
    fn assert_sound(&self) {
        let blobs = self.home.path().join("cache/blobs/sha256");
        for name in names(&blobs) {
            let bytes = std::fs::read(blobs.join(&name)).expect("a blob");
            assert_eq!(support::layout::digest(&bytes), format!("sha256:{name}"));
        }
    }
}

#[test]
fn a_killed_pull_is_taken_up_by_the_next() {
    let Some(bench) = Bench::new() else { return };
    let layer = bench.layer.clone();
    let proxy = Proxy::start(&bench.registry.address, move |request, nth| {
        let first = request.line.ends_with(&layer) && nth == 0;
        if first { Fault::Stall(LAYER / 3 * 2) } else { Fault::None }
    });
    let mut child = bench.pull(&proxy.address).stderr(Stdio::null()).spawn().expect("moby");
    proxy.stalled.recv_timeout(Duration::from_secs(120)).expect("the middle of the layer");
    child.kill().expect("moby at work");
    child.wait().expect("the end of moby");
    bench.assert_sound();
    assert_eq!(names(&bench.home.path().join("cache/partial")).len(), 1);

    succeed(&mut bench.pull(&proxy.address));
    let seen = proxy.seen();
    let asked: Vec<_> = seen.iter().filter(|r| r.line.ends_with(&bench.layer)).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let from = asked[1].range.as_deref().and_then(|range| range.strip_prefix("bytes="));
    let from: usize = from.and_then(|r| r.trim_end_matches('-').parse().ok()).expect("a range");
    assert!(from > 0 && from < LAYER, "{from}");
    bench.assert_sound();
    assert_eq!(names(&bench.home.path().join("cache/partial")), Vec::<String>::new());
    let mut list = moby(bench.home.path());
    let list = list.arg("--cache").arg(bench.home.path().join("cache")).args(["cache", "ls"]);
    let list = String::from_utf8(succeed(list).stdout).expect("text");
    assert!(list.contains(&format!("{}/t/app:1", proxy.address)), "{list}");
}

#[test]
fn two_at_once_fetch_everything_once() {
    let Some(bench) = Bench::new() else { return };
    let proxy = Proxy::start(&bench.registry.address, |_, _| Fault::None);
    let start = || bench.pull(&proxy.address).stderr(Stdio::piped()).spawn().expect("moby");
    for child in [start(), start()] {
        let output = child.wait_with_output().expect("the end of moby");
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let fetched = proxy.seen().iter().filter(|r| r.line.ends_with(&bench.layer)).count();
    assert_eq!(fetched, 1);
    bench.assert_sound();
}

#[test]
fn a_missing_image_is_told_with_a_way_out() {
    let Some(bench) = Bench::new() else { return };
    let image = format!("{}/t/none:1", bench.registry.address);
    let mut command = moby(bench.home.path());
    command.arg("--cache").arg(bench.home.path().join("cache")).args(["cache", "pull", &image]);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output).replace(&bench.registry.address, "HOST");
    assert_eq!(
        told,
        "error: fetching HOST/t/none:1\n  caused by: asking for HOST/t/none:1\n  \
         caused by: HOST/t/none:1 was not found in HOST\n  \
         caused by: HOST answered 404 Not Found: manifest unknown\n\n\
         hint: check the name and the tag\n"
    );
}
