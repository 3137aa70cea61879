//! Tests against a small archive that is made, signed and served here.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgp::composed::{
    CleartextSignedMessage, EncryptionCaps, KeyType, SecretKeyParamsBuilder, SignedPublicKey,
    SignedSecretKey, SubkeyParamsBuilder,
};
use pgp::ser::Serialize;
use pgp::types::Password;

use super::*;
use crate::oci::{Config, Manifest};
use crate::source::Silent;

/// A file of a package: path, contents; a link where they start with `->`.
type File<'a> = (&'a str, &'a str);

fn tar_of(files: &[File<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(1_000_000);
        header.set_size(0);
        if let Some(target) = text.strip_prefix("->") {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, path, target).unwrap();
        } else if let Some(target) = text.strip_prefix("=>") {
            header.set_entry_type(tar::EntryType::Link);
            tar.append_link(&mut header, path, target).unwrap();
        } else if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o750);
            tar.append_data(&mut header, path, std::io::empty()).unwrap();
        } else {
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

fn compressed(bytes: &[u8], how: &str) -> Vec<u8> {
    match how {
        "xz" => {
            let mut to = liblzma::write::XzEncoder::new(Vec::new(), 1);
            to.write_all(bytes).unwrap();
            to.finish().unwrap()
        }
        "gz" => {
            let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            to.write_all(bytes).unwrap();
            to.finish().unwrap()
        }
        "zst" => zstd::encode_all(bytes, 1).unwrap(),
        _ => bytes.to_vec(),
    }
}

fn ar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut ar = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        writeln!(ar, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, "100644", bytes.len())
            .unwrap();
        ar.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            ar.push(b'\n');
        }
    }
    ar
}

fn deb_of(control: &str, files: &[File<'_>], how: &str) -> Vec<u8> {
    let control = compressed(&tar_of(&[("./control", control)]), "xz");
    let data = compressed(&tar_of(files), how);
    let name = format!("data.tar.{how}");
    ar_of(&[("debian-binary", b"2.0\n"), ("control.tar.xz", &control), (&name, &data)])
}

fn new_key() -> SignedSecretKey {
    let mut signer = SubkeyParamsBuilder::default();
    signer.key_type(KeyType::Ed25519Legacy).can_sign(true).can_encrypt(EncryptionCaps::None);
    let mut params = SecretKeyParamsBuilder::default();
    params
        .key_type(KeyType::Ed25519Legacy)
        .can_certify(true)
        .can_sign(false)
        .can_encrypt(EncryptionCaps::None)
        .primary_user_id("Archive <archive@localhost>".into())
        .subkeys(vec![signer.build().unwrap()]);
    params.build().unwrap().generate(rand::thread_rng()).unwrap()
}

/// An archive in a folder, and a host that is configured for it.
struct Archive {
    dir: tempfile::TempDir,
    key: SignedSecretKey,
    /// Paragraphs of `Packages`.
    packages: String,
    valid_until: &'static str,
}

impl Archive {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (packages, valid_until) = (String::new(), "Fri, 01 Jan 2100 00:00:00 UTC");
        Self { dir, key: new_key(), packages, valid_until }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    /// Adds a package: `fields` are further lines of its control file.
    fn add(&mut self, name: &str, version: &str, fields: &str, files: &[File<'_>], how: &str) {
        let control = format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n{fields}");
        let deb = deb_of(&control, files, how);
        let path = format!("pool/{name}_{version}.deb");
        fs::create_dir_all(self.root().join("pool")).unwrap();
        fs::write(self.root().join(&path), &deb).unwrap();
        self.packages += &format!(
            "{control}Filename: {path}\nSize: {}\nSHA256: {}\n\n",
            deb.len(),
            Digest::of(&deb).hex()
        );
    }

    /// Writes the suite's files and signs them.
    fn publish(&self, suite: &str) {
        let dir = self.root().join("dists").join(suite);
        let packages = compressed(self.packages.as_bytes(), "xz");
        fs::create_dir_all(dir.join("main/binary-amd64")).unwrap();
        fs::write(dir.join("main/binary-amd64/Packages.xz"), &packages).unwrap();
        let release = format!(
            "Suite: stable\nCodename: {suite}\nDate: Sat, 21 Nov 2026 09:15:44 UTC\n\
             Valid-Until: {}\nSHA256:\n {} {} main/binary-amd64/Packages.xz\n",
            self.valid_until,
            Digest::of(&packages).hex(),
            packages.len(),
        );
        let signer = &self.key.secret_subkeys[0].key;
        let signed =
            CleartextSignedMessage::sign(rand::thread_rng(), &release, signer, &Password::empty());
        let text = signed.unwrap().to_armored_string(None.into()).unwrap();
        fs::write(dir.join("InRelease"), text).unwrap();
    }

    /// Returns a source of packages for a host whose apt names `base`.
    fn source(&self, base: &str) -> (tempfile::TempDir, Debian) {
        let host = self.dir.path().join("host");
        let keyring = host.join("usr/share/keyrings/test.gpg");
        fs::create_dir_all(host.join("etc/apt/sources.list.d")).unwrap();
        fs::create_dir_all(keyring.parent().unwrap()).unwrap();
        let mut bytes = Vec::new();
        SignedPublicKey::from(self.key.clone()).to_writer(&mut bytes).unwrap();
        fs::write(&keyring, bytes).unwrap();
        let list = format!(
            "Types: deb\nURIs: {base}\nSuites: bookworm\nComponents: main\n\
             Signed-By: /usr/share/keyrings/test.gpg\n"
        );
        fs::write(host.join("etc/apt/sources.list.d/debian.sources"), list).unwrap();
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        let options = Options { host: Some(host), ..Options::default() };
        (cache, Debian::new(store, Arc::new(Silent), options))
    }

    fn by_file(&self) -> (tempfile::TempDir, Debian) {
        self.source(&format!("file:{}", self.root().display()))
    }
}

fn sample() -> Archive {
    let mut archive = Archive::new();
    archive.add(
        "hello",
        "1.0-1",
        "Depends: libhello (>= 1), missing | libc\nRecommends: gone\n",
        &[
            ("./", ""),
            ("./bin/", ""),
            ("./bin/hello", "binary"),
            ("./bin/hi", "=>./bin/hello"),
            ("./etc/", ""),
            ("./etc/hello.d/", ""),
            ("./usr/share/doc/hello/", ""),
            ("./usr/share/doc/hello/copyright", "free"),
            ("./usr/share/doc/hello/README", "long"),
        ],
        "xz",
    );
    archive.add("libhello", "1.2", "", &[("./usr/lib/libhello.so", "->libhello.so.1")], "zst");
    archive.add("libc", "2", "Essential: yes\n", &[("./lib/libc.so", "c")], "gz");
    archive
}

fn paths(store: &Store, image: &Descriptor) -> Vec<String> {
    let bytes = store.read(&image.digest, 1 << 20).unwrap();
    let manifest: Manifest = serde_json::from_slice(&bytes).unwrap();
    let config = store.read(&manifest.config.digest, 1 << 20).unwrap();
    let config: Config = serde_json::from_slice(&config).unwrap();
    assert_eq!(config.rootfs.diff_ids.len(), manifest.layers.len());
    let mut paths = Vec::new();
    for layer in &manifest.layers[1..] {
        for entry in store.layer(layer).unwrap().entries {
            paths.push(String::from_utf8(entry.path).unwrap());
        }
    }
    paths
}

fn amd64() -> Platform {
    Platform::linux("amd64")
}

#[test]
fn makes_an_image_of_a_package() {
    let archive = sample();
    archive.publish("trixie");
    let reference: Reference = "deb:hello".parse().unwrap();
    let (_cache, debian) = archive.by_file();
    let image = debian.resolve(&reference, &amd64()).unwrap().unwrap();
    assert_eq!(
        paths(&debian.store, &image),
        [
            "usr/lib/libhello.so",
            "var/lib/dpkg/status.d/libhello",
            "usr/lib/libc.so",
            "var/lib/dpkg/status.d/libc",
            "usr/bin/hello",
            "usr/bin/hi",
            "etc",
            "etc/hello.d",
            "usr/share/doc/hello",
            "usr/share/doc/hello/copyright",
            "var/lib/dpkg/status.d/hello",
        ]
    );
    // Another cache comes to the same digest, and so does a named version.
    let (_other, again) = archive.by_file();
    let again = again.resolve(&reference, &amd64()).unwrap().unwrap();
    assert_eq!(image.digest, again.digest);
    let pinned: Reference = "deb:hello=1.0-1,libc@trixie".parse().unwrap();
    assert!(debian.resolve(&pinned, &amd64()).unwrap().is_some());
    debian.fetch(&reference, &image, &debian.store).unwrap();
    assert!(debian.resolve(&"alpine".parse().unwrap(), &amd64()).unwrap().is_none());
}

#[test]
fn answers_from_the_cache_unless_asked_afresh() {
    let mut archive = sample();
    archive.publish("trixie");
    let reference: Reference = "deb:libc".parse().unwrap();
    let (_cache, mut debian) = archive.by_file();
    let first = debian.resolve(&reference, &amd64()).unwrap().unwrap();
    archive.add("libc", "3", "", &[("./lib/libc.so", "newer")], "gz");
    archive.publish("trixie");
    let cached = debian.resolve(&reference, &amd64()).unwrap().unwrap();
    assert_eq!(first.digest, cached.digest);
    debian.options.refresh = true;
    debian.suites = Mutex::default();
    let fresh = debian.resolve(&reference, &amd64()).unwrap().unwrap();
    assert_ne!(first.digest, fresh.digest);
    // What was locked is still whole here, but cannot be made elsewhere.
    debian.fetch(&reference, &first, &debian.store).unwrap();
    let (_other, elsewhere) = archive.by_file();
    let error = elsewhere.fetch(&reference, &first, &elsewhere.store).unwrap_err();
    assert!(error.to_string().contains("the archive now comes to"), "{error:#}");
}

#[test]
fn trusts_only_what_is_signed() {
    let mut archive = sample();
    archive.publish("trixie");
    let release = archive.root().join("dists/trixie/InRelease");
    let good = fs::read_to_string(&release).unwrap();
    let resolve = |archive: &Archive| {
        let (_cache, debian) = archive.by_file();
        let resolved = debian.resolve(&"deb:libc".parse().unwrap(), &amd64());
        resolved.map(drop).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(resolve(&archive), Ok(()));
    let unsigned = good.split_once("\n\n").unwrap().1.split("-----BEGIN").next().unwrap();
    for (bad, why) in [
        (good.replace("stable", "strange"), "no known key"),
        (unsigned.to_owned(), "OpenPGP signature"),
        (good.replace("-----END", "-----ENDE"), ""),
        (format!("{unsigned}\n{good}"), ""),
    ] {
        fs::write(&release, bad).unwrap();
        let error = resolve(&archive).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    // Another key's signature is good for nothing.
    let own = std::mem::replace(&mut archive.key, new_key());
    archive.publish("trixie");
    archive.key = own;
    assert!(resolve(&archive).unwrap_err().contains("no known key"));
}

#[test]
fn checks_dates_names_and_digests() {
    let mut archive = sample();
    archive.valid_until = "Sat, 01 Jan 2000 00:00:00 UTC";
    archive.publish("trixie");
    let reference: Reference = "deb:libc".parse().unwrap();
    let (_cache, mut debian) = archive.by_file();
    let error = debian.resolve(&reference, &amd64()).unwrap_err();
    assert!(format!("{error:#}").contains("was to be replaced"), "{error:#}");
    assert!(crate::error::hint(&error).unwrap().contains("MOBY_DEBIAN_EXPIRED"));
    debian.options.expired = true;
    debian.resolve(&reference, &amd64()).unwrap();

    // A suite under another's name.
    let dists = archive.root().join("dists");
    fs::rename(dists.join("trixie"), dists.join("forky")).unwrap();
    let error = debian.resolve(&"deb:libc@forky".parse().unwrap(), &amd64()).unwrap_err();
    assert!(format!("{error:#}").contains("expected the suite `forky`"), "{error:#}");

    archive.valid_until = "Fri, 01 Jan 2100 00:00:00 UTC";
    archive.publish("trixie");
    let deb = archive.root().join("pool/libc_2.deb");
    let mut bytes = fs::read(&deb).unwrap();
    bytes[100] ^= 1;
    fs::write(&deb, bytes).unwrap();
    let (_cache, debian) = archive.by_file();
    let error = debian.resolve(&reference, &amd64()).unwrap_err();
    assert!(format!("{error:#}").contains("making a layer of package libc=2"), "{error:#}");
    assert!(crate::store::is_damage(&error));
    let error = debian.resolve(&"deb:nothing".parse().unwrap(), &amd64()).unwrap_err();
    assert!(format!("{error:#}").contains("no package `nothing`"), "{error:#}");
}

/// Serves a folder over HTTP, with ranges; the first answer of each of the
/// first `cuts` connections that carries a .deb breaks off halfway.
fn serve(root: PathBuf, cuts: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let ranges = Arc::new(AtomicUsize::new(0));
    let (left, seen) = (AtomicUsize::new(cuts), Arc::clone(&ranges));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(&stream.unwrap(), &root, &left, &seen);
        }
    });
    (address, ranges)
}

fn answer(mut stream: &TcpStream, root: &Path, cuts: &AtomicUsize, ranges: &AtomicUsize) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let path = request.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = headers.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let start = value.strip_prefix("bytes=").filter(|_| name.eq_ignore_ascii_case("range"))?;
        start.trim_end_matches('-').parse::<usize>().ok()
    });
    let Ok(bytes) = fs::read(root.join(&path)) else {
        write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        return;
    };
    let from = range.unwrap_or(0).min(bytes.len());
    ranges.fetch_add(usize::from(range.is_some()), Ordering::Relaxed);
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let mut head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n",
        bytes.len() - from
    );
    if range.is_some() {
        head += &format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
    }
    let is_deb = Path::new(&path).extension().is_some_and(|ending| ending == "deb");
    let cut = is_deb
        && cuts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
    let end = if cut { from + (bytes.len() - from) / 2 } else { bytes.len() };
    // A client that turns away is its own affair.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(&bytes[from..end]);
}

#[test]
fn resumes_over_http() {
    let archive = sample();
    archive.publish("trixie");
    let (address, ranges) = serve(archive.root(), 2);
    let (_cache, debian) = archive.source(&address);
    let image = debian.resolve(&"deb:hello".parse().unwrap(), &amd64()).unwrap().unwrap();
    assert!(paths(&debian.store, &image).contains(&"usr/bin/hello".to_owned()));
    assert!(ranges.load(Ordering::Relaxed) > 0);
}

#[test]
fn refuses_hostile_packages() {
    let control = "Package: x\n";
    let good_control = compressed(&tar_of(&[("./control", control)]), "xz");
    let with_data = |name: &str, data: &[u8]| {
        ar_of(&[("debian-binary", b"2.0\n"), ("control.tar.xz", &good_control), (name, data)])
    };
    let mut climbing = tar_of(&[("aa/bb/x", "data")]);
    climbing[..7].copy_from_slice(b"../../x");
    let whole = deb_of(control, &[("./usr/x", "data")], "xz");
    let mut huge = tar::Header::new_gnu();
    huge.set_path("usr/huge").unwrap();
    huge.set_size(300 << 20);
    huge.set_cksum();
    let zeros = std::io::repeat(0).take(301 << 20);
    let bomb = zstd::encode_all(huge.as_bytes().chain(zeros), 1).unwrap();
    let mut cut_size = whole.clone();
    cut_size[8 + 48..8 + 58].copy_from_slice(b"9999999999");
    for (what, deb) in [
        ("empty", Vec::new()),
        ("no archive", b"!<arch>".to_vec()),
        ("members cut off", whole[..whole.len() - 60].to_vec()),
        ("a wild size", cut_size),
        ("no data", ar_of(&[("debian-binary", b"2.0\n"), ("control.tar.xz", &good_control)])),
        ("format 3", ar_of(&[("debian-binary", b"3.0\n")])),
        ("unknown compression", with_data("data.tar.bz9", b"")),
        ("a path that climbs", with_data("data.tar", &climbing)),
        ("a bomb", with_data("data.tar.zst", &bomb)),
        ("a broken stream", with_data("data.tar.xz", &good_control[..40])),
        ("a link to nothing", with_data("data.tar", &tar_of(&[("./usr/x", "=>./usr/y")]))),
        ("a name that climbs", deb_of("Package: ../../x\n", &[], "xz")),
        ("no control file", {
            let none = compressed(&tar_of(&[("./other", "")]), "xz");
            ar_of(&[("debian-binary", b"2.0\n"), ("control.tar.xz", &none), ("data.tar", &[])])
        }),
    ] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&deb).unwrap();
        let result = unpack::write_layer(&file, &Filter::default(), &mut std::io::sink());
        assert!(result.is_err(), "{what}");
    }
}

#[test]
fn reads_requests() {
    let request = Request::parse("a=1:2-3,b@sid").unwrap();
    assert_eq!(request.suite.as_deref(), Some("sid"));
    assert_eq!(request.packages, [Target::exactly("a", "1:2-3"), Target::any("b")]);
    let request = Request::parse("a@sid/non-free-firmware").unwrap();
    assert_eq!(request.components, ["main", "non-free-firmware"]);
    assert_eq!(Request::parse("a/contrib").unwrap().suite, None);
    for bad in ["", "A", "a=", "a,,b", "a@", "a@../x", "a=1 2", "a/", "a/b/c", "a/B", "a/b@sid"] {
        assert!(Request::parse(bad).is_err(), "{bad}");
    }
}

/// Runs against the archive that this machine's apt is configured for.
#[test]
fn makes_images_of_the_real_archive() {
    if env::var("MOBY_TEST_ARCHIVE").is_none() {
        eprintln!("skipped: MOBY_TEST_ARCHIVE is not set");
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    let debian = Debian::new(store, Arc::new(Silent), Options::from_env());
    let image = debian.resolve(&"deb:busybox-static".parse().unwrap(), &amd64()).unwrap().unwrap();
    assert!(paths(&debian.store, &image).contains(&"usr/bin/busybox".to_owned()));
}
