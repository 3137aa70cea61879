//! LinuxKit's recorded builds come out the same: every case in
//! `../shared/linuxkit/golden`, held against what its README calls equal.
//!
//! Where it was decided to do otherwise than LinuxKit, a row of a table here
//! names the case, and what is expected instead.

#![allow(clippy::print_stderr, reason = "what was skipped is told")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use moby::tree::Kind;
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::{have, initrd, names, shared, stderr};

/// What was decided to be done right instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    /// LinuxKit fails or panics.
    Succeeds,
    /// LinuxKit goes on in silence; the error says this.
    Fails(&'static str),
    /// The modes of folders above `files:` are kept, or 0755.
    ParentModes,
    /// These paths are as they should be, not as LinuxKit leaves them.
    Besides(&'static [&'static str]),
    /// These parts of the JSON files are; all else is equal.
    Parts(&'static [&'static str]),
    /// LinuxKit's own output is broken.
    Builds,
}

/// The cases of the README's "Decided: done right instead".
const DECIDED: &[(&str, Instead)] = &[
    // Each capability once.
    ("031", Instead::Parts(&["/process/capabilities"])),
    // Keys in camel case count.
    ("047", Instead::Parts(&["/linux/resources"])),
    ("048", Instead::Parts(&["/linux/uidMappings", "/linux/gidMappings", "/mounts"])),
    // A mount of a volume becomes a bind of it.
    ("062", Instead::Parts(&["/mounts"])),
    // What a whiteout removed is gone; a link to what was replaced keeps it.
    ("080", Instead::Besides(LAYERED)),
    ("083", Instead::Besides(LAYERED)),
    ("105", Instead::Besides(LAYERED)),
    ("070", Instead::ParentModes),
    ("071", Instead::ParentModes),
    ("072", Instead::ParentModes),
    ("073", Instead::ParentModes),
    // Reproducible, so with another time and identity.
    ("094", Instead::Besides(&["sbom.spdx.json"])),
    ("104", Instead::Builds),
    ("112", Instead::Fails("document")),
    ("113", Instead::ParentModes),
    ("e37", Instead::Succeeds),
    ("e65", Instead::Succeeds),
    ("e70", Instead::Succeeds),
    ("e71", Instead::Succeeds),
];

/// The paths of the cases of whiteouts that LinuxKit gets wrong.
const LAYERED: &[&str] = &[
    "containers/services/s1/lower/gonedir/x",
    "containers/services/s1/lower/hl-dst",
    "containers/services/s1/lower/opq/old",
];

/// What the error of a case has to name.
const NAMED: &[(&str, &str)] = &[
    ("e01", "`x`"),
    ("e06", "Bad"),
    ("e12", "CAP_NOPE"),
    ("e14", "NET_ADMIN"),
    ("e16", "/x"),
    ("e19", "/b"),
    ("e20", "ext4"),
    ("e21", "nofile,1"),
    ("e24", "nobody"),
    ("e27", "golden/nope"),
    ("e34", "CAP_NOPE"),
    ("e42", "xml"),
    ("e49", "888"),
    ("e51", "nope"),
    ("e57", "tar"),
    ("e58", "golden/base"),
    ("e67", "manifest.yml:"),
    ("e72", "yes"),
    ("e75", "nope"),
    ("e76", "missing.yml"),
    ("e77", "--input-tar"),
];

/// A path of a tree, as far as two builds have to agree on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    kind: String,
    mode: String,
    uid: u64,
    gid: u64,
    mtime: i64,
    size: u64,
    sha256: String,
    link: String,
    device: (u64, u64),
    source: String,
    location: String,
}

type Nodes = BTreeMap<String, Node>;

/// The recorded cases, and a cache that their images were imported into.
struct Golden {
    cases: PathBuf,
    home: tempfile::TempDir,
    cache: PathBuf,
}

impl Golden {
    fn open() -> Option<Self> {
        let golden = shared("linuxkit/golden")?;
        let home = tempfile::tempdir().expect("a folder");
        let cache = home.path().join("cache");
        let mut import = support::moby(home.path());
        import.arg("--cache").arg(&cache).args(["cache", "import"]);
        support::succeed(import.arg(golden.join("images/layout.tar")));
        Some(Self { cases: golden.join("cases"), home, cache })
    }

    /// Runs one case; the error says what differs.
    fn check(&self, case: &str) -> Result<(), String> {
        let key = case.split('-').next().expect("a part");
        let instead = DECIDED.iter().find(|row| row.0 == key).map(|row| row.1);
        let folder = self.cases.join(case);
        let out = self.home.path().join("out").join(case);
        fs::create_dir_all(&out).expect("a folder");
        let run = json(&folder.join("run.json"));
        let output = support::run(
            support::moby(self.home.path()).current_dir(&folder).args(self.arguments(&run, &out)),
        );
        let errors = stderr(&output);
        let code = output.status.code().ok_or_else(|| format!("{}: {errors}", output.status))?;
        if errors.contains("panicked") || code > 2 {
            return Err(format!("exit {code}: {errors}"));
        }
        let named = NAMED.iter().find(|row| row.0 == key).map(|row| row.1);
        match instead {
            Some(Instead::Succeeds) => succeeded(code, &errors),
            Some(Instead::Fails(word)) => failed(code, &errors, &out, Some(word)),
            _ if run["exit"] != 0 => failed(code, &errors, &out, named),
            _ => {
                succeeded(code, &errors)?;
                compare(&folder, &out, &run, instead)
            }
        }
    }

    /// The case's arguments. The registry of its day is no more: the images
    /// stand in the cache.
    fn arguments(&self, run: &Value, out: &Path) -> Vec<String> {
        let words = run["args"].as_array().expect("arguments");
        let mut words: Vec<String> = words
            .iter()
            .map(|word| word.as_str().expect("an argument"))
            .map(|word| word.replace("$CACHE", &self.cache.to_string_lossy()))
            .map(|word| word.replace("$OUT", &out.to_string_lossy()))
            .collect();
        if let Some(at) = words.iter().position(|word| word == "--mirror") {
            words.drain(at..at + 2);
        }
        words
    }
}

fn json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn succeeded(code: i32, errors: &str) -> Result<(), String> {
    if code == 0 { Ok(()) } else { Err(format!("expected it to build, got exit {code}: {errors}")) }
}

fn failed(code: i32, errors: &str, out: &Path, named: Option<&str>) -> Result<(), String> {
    let left = names(out);
    match named {
        _ if code == 0 => Err("expected an error, got none".to_owned()),
        _ if !left.is_empty() => {
            Err(format!("expected nothing in the output folder, got {left:?}"))
        }
        _ if !errors.lines().any(|line| line.starts_with("error: ")) => {
            Err(format!("expected `error: …`, got: {errors}"))
        }
        Some(word) if !errors.contains(word) => Err(format!("expected `{word}` in: {errors}")),
        _ => Ok(()),
    }
}

fn compare(folder: &Path, out: &Path, run: &Value, instead: Option<Instead>) -> Result<(), String> {
    let expected = run["outputs"].as_array().expect("outputs");
    let expected: Vec<&str> = expected.iter().map(|name| name.as_str().expect("a name")).collect();
    // The lock file is ours.
    let mut written = names(out);
    written.retain(|name| name != "out.lock");
    if written != expected {
        return Err(format!("expected the files {expected:?}, got {written:?}"));
    }
    let mut wrong = Vec::new();
    if folder.join("listing.json").exists() {
        let wanted = listed(&json(&folder.join("listing.json")));
        let (got, bodies) = unpacked(&out.join(expected[0]));
        wrong.extend(differences(&wanted, &got, &bodies, folder, instead));
    }
    for part in ["kernel", "cmdline"] {
        let recorded = folder.join(format!("out-{part}"));
        let written = out.join(format!("out-{part}"));
        if recorded.exists() && fs::read(recorded).ok() != fs::read(written).ok() {
            wrong.push(format!("out-{part} differs"));
        }
    }
    if folder.join("initrd-listing.json").exists() && instead != Some(Instead::Builds) {
        let bytes = initial_root(&out.join(expected[expected.len().min(2) - 1]));
        wrong.extend(initrd_differences(&json(&folder.join("initrd-listing.json")), &bytes));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// The tree that a recorded list of entries comes to: the last of a path wins.
fn listed(entries: &Value) -> Nodes {
    let mut nodes = Nodes::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for entry in entries.as_array().expect("a list") {
        let device = |index: usize| entry["dev"][index].as_u64().unwrap_or(0);
        let node = Node {
            kind: text(&entry["type"]),
            mode: text(&entry["mode"]),
            uid: entry["uid"].as_u64().expect("an owner"),
            gid: entry["gid"].as_u64().expect("a group"),
            mtime: entry["mtime"].as_f64().expect("a time").floor() as i64,
            size: entry["size"].as_u64().unwrap_or(0),
            sha256: text(&entry["sha256"]),
            link: text(&entry["link"]),
            device: (device(0), device(1)),
            source: text(&entry["pax"]["LINUXKIT.source"]),
            location: text(&entry["pax"]["LINUXKIT.location"]),
        };
        nodes.insert(normal(&text(&entry["path"])), node);
    }
    nodes.remove("");
    nodes
}

fn normal(path: &str) -> String {
    let path = path.trim_end_matches('/').trim_start_matches("./");
    if path == "." { String::new() } else { path.to_owned() }
}

/// The tree of a tar archive, and the contents of its JSON files.
fn unpacked(path: &Path) -> (Nodes, BTreeMap<String, Vec<u8>>) {
    let file = fs::File::open(path).expect("the archive");
    let mut archive = tar::Archive::new(std::io::BufReader::new(file));
    let (mut nodes, mut bodies) = (Nodes::new(), BTreeMap::new());
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = normal(&String::from_utf8_lossy(&entry.path_bytes()));
        let mut node = node(&mut entry);
        if node.kind == "file" {
            let mut body = Vec::new();
            entry.read_to_end(&mut body).expect("a file's bytes");
            node.sha256 = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
            node.size = body.len() as u64;
            bodies.insert(path.clone(), body);
        }
        nodes.insert(path, node);
    }
    nodes.remove("");
    (nodes, bodies)
}

fn node(entry: &mut tar::Entry<'_, impl Read>) -> Node {
    let mut record = |key: &str| {
        let records = entry.pax_extensions().ok().flatten();
        let found = records.into_iter().flatten().flatten().find(|found| found.key() == Ok(key));
        found.and_then(|found| found.value().ok().map(str::to_owned)).unwrap_or_default()
    };
    let (source, location) = (record("LINUXKIT.source"), record("LINUXKIT.location"));
    let link = entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
    let header = entry.header();
    let device = header.device_major().ok().flatten().zip(header.device_minor().ok().flatten());
    let kind = match header.entry_type() {
        tar::EntryType::Directory => "dir",
        tar::EntryType::Symlink => "symlink",
        tar::EntryType::Link => "hardlink",
        tar::EntryType::Char => "char",
        tar::EntryType::Block => "block",
        tar::EntryType::Fifo => "fifo",
        _ => "file",
    };
    let node = ["char", "block"].contains(&kind);
    Node {
        kind: kind.to_owned(),
        mode: format!("{:04o}", header.mode().expect("a mode") & 0o7777),
        uid: header.uid().expect("an owner"),
        gid: header.gid().expect("a group"),
        mtime: header.mtime().map_or(0, |time| time.cast_signed()),
        link: link.filter(|_| ["symlink", "hardlink"].contains(&kind)).unwrap_or_default(),
        device: device.filter(|_| node).map_or((0, 0), |(a, b)| (a.into(), b.into())),
        source,
        location,
        ..Node::default()
    }
}

fn differences(
    wanted: &Nodes,
    got: &Nodes,
    bodies: &BTreeMap<String, Vec<u8>>,
    folder: &Path,
    instead: Option<Instead>,
) -> Vec<String> {
    let besides =
        |path: &str| matches!(instead, Some(Instead::Besides(paths)) if paths.contains(&path));
    let parts = match instead {
        Some(Instead::Parts(parts)) => parts,
        _ => &[],
    };
    let mut wrong = Vec::new();
    let paths = wanted.keys().chain(got.keys().filter(|path| !wanted.contains_key(*path)));
    for path in paths.filter(|path| !besides(path)) {
        let (Some(mut want), Some(mut have)) = (wanted.get(path).cloned(), got.get(path).cloned())
        else {
            let side = if got.contains_key(path) { "has" } else { "lacks" };
            wrong.push(format!("{side} {path}"));
            continue;
        };
        if instead == Some(Instead::ParentModes) && want.kind == "dir" && have.mode == "0755" {
            want.mode.clone_from(&have.mode);
        }
        let recorded = folder.join("json").join(path);
        if want.sha256 != have.sha256 && same_json(&recorded, bodies.get(path), parts) {
            (have.sha256, have.size) = (want.sha256.clone(), want.size);
        }
        if path == "initrd.img" {
            // Compressed otherwise; its entries are compared below.
            (have.sha256, have.size) = (want.sha256.clone(), want.size);
        }
        if want != have {
            wrong.push(format!("{path}: expected {want:?}, got {have:?}"));
        }
    }
    wrong
}

/// Compares JSON as JSON, but for some parts.
fn same_json(recorded: &Path, body: Option<&Vec<u8>>, besides: &[&str]) -> bool {
    let Some(body) = body.filter(|_| recorded.is_file()) else { return false };
    let Ok(mut got) = serde_json::from_slice::<Value>(body) else { return false };
    let mut wanted = json(recorded);
    for part in besides {
        for value in [&mut got, &mut wanted] {
            if let Some(part) = value.pointer_mut(part) {
                *part = Value::Null;
            }
        }
    }
    got == wanted
}

/// The bytes of an initial root, which may lie in a tar archive.
fn initial_root(path: &Path) -> Vec<u8> {
    if path.extension().is_some_and(|ending| ending == "tar") {
        let (_, mut bodies) = unpacked(path);
        return bodies.remove("initrd.img").expect("an initial root in the archive");
    }
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Holds an initial root against the recorded one. There a hard link is a
/// symbolic one, and parents may come behind their children or not at all.
fn initrd_differences(listing: &Value, bytes: &[u8]) -> Vec<String> {
    let tree = initrd::read(bytes);
    let mut wrong = Vec::new();
    let mut wanted = BTreeMap::new();
    for entry in listing["entries"].as_array().expect("entries") {
        let path = entry["path"].as_str().expect("a path");
        if path.ends_with("/.") {
            // The folder has an entry of its own.
            continue;
        }
        let path = normal(path);
        let number = |key: &str| entry[key].as_u64().expect("a number");
        let mode = u32::from_str_radix(entry["mode"].as_str().expect("a mode"), 8);
        let mode = mode.expect("an octal number");
        wanted.insert(path, (mode, number("uid"), number("gid"), number("mtime").cast_signed()));
    }
    wanted.remove("");
    wanted.remove("TRAILER!!!");
    let mut names = BTreeMap::new();
    for walked in tree.walk() {
        *names.entry(walked.id).or_insert(0) += 1;
    }
    for walked in tree.walk().filter(|walked| !walked.path.is_empty()) {
        let path = String::from_utf8_lossy(&walked.path).into_owned();
        let inode = tree.get(walked.id);
        let mode = inode.kind.type_bits() | u32::from(inode.meta.mode);
        let have = (mode, u64::from(inode.meta.uid), u64::from(inode.meta.gid), inode.meta.mtime);
        let folder = matches!(inode.kind, Kind::Directory(_));
        match wanted.remove(&path) {
            None if folder => {}
            None => wrong.push(format!("the initial root has {path}")),
            Some(want) if want.0 & 0o170_000 == 0o120_000 && names[&walked.id] > 1 => {}
            Some(want) if want == have => {}
            Some(want) => {
                wrong.push(format!("initial root: {path}: expected {want:?}, got {have:?}"))
            }
        }
    }
    wrong.extend(wanted.keys().map(|path| format!("the initial root lacks {path}")));
    wrong
}

#[test]
fn linuxkits_builds_come_out_the_same() {
    let Some(golden) = Golden::open() else { return };
    let mut wrong = Vec::new();
    let cases = names(&golden.cases);
    for case in &cases {
        if let Err(reason) = golden.check(case) {
            wrong.push(format!("{case}: {}", reason.chars().take(1200).collect::<String>()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn the_comparison_that_came_with_the_cases_finds_no_miss() {
    let Some(golden) = shared("linuxkit/golden") else { return };
    if !have("python3") {
        return;
    }
    let compare = shared("linuxkit/compare.py").expect("it lies beside the cases");
    let mut command = std::process::Command::new("python3");
    command.arg(compare).arg(env!("CARGO_BIN_EXE_moby")).arg(golden.join("cases"));
    let output = support::run(command.arg(golden.join("images/layout.tar")));
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", stderr(&output));
}
