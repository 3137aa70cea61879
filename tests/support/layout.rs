//! Images made by hand, as an OCI layout on disk: also such as nobody would
//! make who meant well.

use std::fs;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A layout that grows image by image.
#[derive(Debug)]
pub(crate) struct Layout {
    folder: PathBuf,
    images: Vec<Value>,
}

/// A layer: its blob, and the digest of what it unpacks to.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// The bytes of the blob.
    pub(crate) blob: Vec<u8>,
    /// The media type behind `application/vnd.oci.image.layer.v1.`.
    pub(crate) kind: &'static str,
    /// `sha256:…` of the tar archive.
    pub(crate) diff: String,
}

impl Layer {
    /// A tar archive as it is.
    pub(crate) fn plain(tar: Vec<u8>) -> Self {
        Self { diff: digest(&tar), blob: tar, kind: "tar" }
    }

    /// A tar archive compressed by gzip.
    pub(crate) fn gzip(tar: &[u8]) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, tar).expect("a write to memory");
        let blob = encoder.finish().expect("a write to memory");
        Self { diff: digest(tar), blob, kind: "tar+gzip" }
    }
}

/// `sha256:` and the digest of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Layout {
    /// Starts a layout in a folder.
    pub(crate) fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("blobs/sha256")).expect("a folder");
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
        Self { folder: folder.to_owned(), images: Vec::new() }
    }

    /// Where a blob lies.
    pub(crate) fn path(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs").join(digest.replace(':', "/"))
    }

    fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        fs::write(self.path(&digest), bytes).expect("a blob");
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    }

    /// Adds an image by its full name.
    pub(crate) fn image(&mut self, name: &str, layers: &[Layer], label: &str) {
        let diffs: Vec<&str> = layers.iter().map(|layer| layer.diff.as_str()).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": { "Cmd": ["/bin/run"], "Labels": { "org.mobyproject.config": label } },
            "rootfs": { "type": "layers", "diff_ids": diffs },
        });
        let config = self.blob("config.v1+json", config.to_string().as_bytes());
        let blob = |layer: &Layer| self.blob(&format!("layer.v1.{}", layer.kind), &layer.blob);
        let layers: Vec<Value> = layers.iter().map(blob).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": layers,
        });
        let mut manifest = self.blob("manifest.v1+json", manifest.to_string().as_bytes());
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        manifest["platform"] = json!({ "os": "linux", "architecture": "amd64" });
        self.images.push(manifest);
        let index = json!({ "schemaVersion": 2, "manifests": self.images });
        fs::write(self.folder.join("index.json"), index.to_string()).expect("the index");
    }
}

/// A tar archive made entry by entry, without a look at what it says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    /// Starts an empty archive.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a folder.
    pub(crate) fn folder(self, name: &str) -> Self {
        self.entry(name, b'5', "", &[])
    }

    /// Adds a file.
    pub(crate) fn file(self, name: &str, body: &[u8]) -> Self {
        self.entry(name, b'0', "", body)
    }

    /// Adds an entry of any type.
    pub(crate) fn entry(mut self, name: &str, kind: u8, link: &str, body: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_577_836_800);
        header.set_size(body.len() as u64);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_device_major(8).expect("a field of ustar");
        header.set_device_minor(1).expect("a field of ustar");
        // Not by the methods that check: what is wrong here is meant.
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Ends the archive.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// Bytes that do not compress, the same for a seed each time.
pub(crate) fn noise(mut seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // xorshift64*, Vigna 2016.
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        bytes.extend_from_slice(&seed.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Lays down a kernel, an init and a service of about `size` bytes each, and
/// returns a manifest that builds from them.
pub(crate) fn system(folder: &Path, size: usize) -> String {
    let mut layout = Layout::new(folder);
    let modules = Tar::new().folder("lib").file("lib/modules.txt", b"none\n").end();
    let kernel = Tar::new().file("kernel", &noise(1, size)).file("kernel.tar", &modules).end();
    layout.image("docker.io/made/kernel:1", &[Layer::plain(kernel)], "{}");
    let init = Tar::new().folder("bin").file("bin/init", &noise(2, size)).folder("etc");
    let init = init.entry("init", b'2', "bin/init", &[]).end();
    layout.image("docker.io/made/init:1", &[Layer::gzip(&init)], "{}");
    let lower = Tar::new().folder("bin").file("bin/run", &noise(3, size)).file("bin/old", b"old");
    let upper = Tar::new().file("bin/.wh.old", b"").entry("bin/again", b'1', "bin/run", &[]);
    let layers = [Layer::gzip(&lower.end()), Layer::gzip(&upper.end())];
    layout.image("docker.io/made/service:1", &layers, r#"{"capabilities":["CAP_CHOWN"]}"#);
    "kernel:\n  image: made/kernel:1\n  cmdline: console=ttyS0\ninit:\n  - made/init:1\n\
     services:\n  - name: one\n    image: made/service:1\n  - name: two\n    image: made/service:1\n\
     files:\n  - path: etc/motd\n    contents: hello\n"
        .to_owned()
}
