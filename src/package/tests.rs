//! Tests of whole builds that need no archive and no compiler.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::oci::{Config, Manifest};
use crate::source::Silent;
use crate::source::debian::Options;

const RECIPE: &str = "\
image: demo
config:
  capabilities: [CAP_NET_ADMIN]
  binds: [/dev:/dev]
builder:
  directories: [/tmp, /etc/demo.d]
  files:
    - {path: /usr/bin/demo, source: demo.sh}
    - {path: /etc/secret, contents: x, mode: \"0600\"}
  links:
    /bin/demo: /usr/bin/demo
  command: [/usr/bin/demo]
";

fn package(recipe: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("build.yml"), recipe).unwrap();
    fs::write(dir.path().join("demo.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(dir.path().join("demo.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

fn packages() -> (tempfile::TempDir, Packages) {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    let debian = Arc::new(Debian::new(store.clone(), Arc::new(Silent), Options::default()));
    (cache, Packages::new(store, debian, None))
}

#[test]
fn builds_once_and_alike() {
    let (dir, other) = (package(RECIPE), package(RECIPE));
    fs::set_permissions(other.path().join("demo.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let (_cache, packages) = packages();
    let platform = Platform::linux("amd64");
    let first = packages.build(dir.path(), &platform, false).unwrap();
    assert_eq!(first.name, name(dir.path(), None, &Options::default()).unwrap());
    assert!(first.fresh && first.name.starts_with("docker.io/moby/demo:"));
    let again = packages.build(other.path(), &platform, false).unwrap();
    assert!(!again.fresh && again.image.digest == first.image.digest);
    let forced = packages.build(other.path(), &platform, true).unwrap();
    assert!(forced.fresh && forced.image.digest == first.image.digest);

    // Another platform stands beside the first.
    let arm = packages.build(dir.path(), &Platform::linux("arm64"), false).unwrap();
    assert_ne!(arm.image.digest, first.image.digest);
    assert!(!packages.build(dir.path(), &platform, false).unwrap().fresh);

    let bytes = packages.store.read(&first.image.digest, 1 << 20).unwrap();
    let manifest: Manifest = serde_json::from_slice(&bytes).unwrap();
    let bytes = packages.store.read(&manifest.config.digest, 1 << 20).unwrap();
    let config: Config = serde_json::from_slice(&bytes).unwrap();
    let label = &config.config.labels[LABEL_CONFIG];
    assert_eq!(label, r#"{"capabilities":["CAP_NET_ADMIN"],"binds":["/dev:/dev"]}"#);
    assert!(crate::manifest::parse_label(label, "label").is_ok());
    let entries = packages.store.layer(&manifest.layers[0]).unwrap().entries;
    let shown: Vec<String> = entries
        .iter()
        .map(|entry| format!("{:o} {}", entry.mode, String::from_utf8_lossy(&entry.path)))
        .collect();
    assert_eq!(
        shown,
        [
            "1777 tmp",
            "755 etc",
            "755 etc/demo.d",
            "755 usr",
            "755 usr/bin",
            "755 usr/bin/demo",
            "600 etc/secret",
            "755 bin",
            "777 bin/demo"
        ]
    );
}

#[test]
fn is_another_image_from_another_suite() {
    let debian = |suite: &str| {
        package(&format!("image: x\nbuilder:\n  debian:\n    packages: [a]\n    {suite}\n"))
    };
    for (dir, asked, ending) in [
        (debian(""), None, ""),
        (debian(""), Some("trixie"), ""),
        (debian(""), Some("bookworm"), "-bookworm"),
        (debian("suite: sid"), Some("bookworm"), ""),
        (package(RECIPE), Some("bookworm"), ""),
    ] {
        let plain = name(dir.path(), None, &Options::default()).unwrap();
        let options = Options { suite: asked.map(str::to_owned), ..Options::default() };
        let found = name(dir.path(), None, &options).unwrap();
        assert_eq!(found, plain + ending, "{asked:?}");
    }
}

#[test]
fn takes_the_packages_of_its_architecture() {
    let recipe = "image: x\nbuilder:\n  debian:\n    packages:\n      - all\n      \
        - for-pc [amd64 386]\n      - for-arm=1.0 [arm64]\n";
    let recipe: Recipe = crate::manifest::read(recipe, "build.yml").unwrap();
    let debian = recipe.builder.unwrap().debian.unwrap();
    let names = |arch: &str| -> Vec<String> {
        let request = request(&debian, &Platform::linux(arch)).unwrap();
        request.packages.iter().map(ToString::to_string).collect()
    };
    assert_eq!(names("amd64"), ["all", "for-pc"]);
    assert_eq!(names("arm64"), ["all", "for-arm (= 1.0)"]);
    assert_eq!(names("arm"), ["all"]);
}

#[test]
fn is_a_source() {
    let dir = package(RECIPE);
    let (_cache, packages) = packages();
    let reference = Reference::Package(dir.path().display().to_string());
    let platform = Platform::linux("amd64");
    let image = packages.resolve(&reference, &platform).unwrap().unwrap();
    packages.fetch(&reference, &image, &packages.store).unwrap();
    let (_other, elsewhere) = super::tests::packages();
    elsewhere.fetch(&reference, &image, &elsewhere.store).unwrap();
    assert!(packages.resolve(&"alpine".parse().unwrap(), &platform).unwrap().is_none());
}

#[test]
fn refuses_what_it_cannot_build() {
    for (recipe, expected) in [
        ("image: x\n", "expected a `builder`"),
        ("image: x\ndockerfile: demo.sh\n", "demo.sh: Dockerfiles come with a later version"),
        ("image: x\narches: [arm64]\nbuilder: {links: {/a: b}}\n", "platforms [arm64]"),
        ("image: x\nbuilder: {}\n", "makes something"),
        ("image: x\nbuilder:\n  files: [{path: /a, source: ../x}]\n", "within the package"),
        ("image: x\nbuilder:\n  files: [{path: /a, source: gone}]\n", "gone"),
        ("image: x\nbuilder:\n  files: [{path: /../a, contents: y}]\n", "`..`"),
        ("image: x\nbuilder:\n  debian: {packages: [Bad]}\n", "build.yml:3"),
    ] {
        let dir = package(recipe);
        let (_cache, packages) = packages();
        let error = packages.build(dir.path(), &Platform::linux("amd64"), false).unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{recipe}: {error:#}");
    }
    let nothing = tempfile::tempdir().unwrap();
    let error = name(nothing.path(), None, &Options::default()).unwrap_err();
    assert!(crate::error::hint(&error).unwrap().contains("build.yml"));
}
