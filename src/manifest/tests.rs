//! LinuxKit's recorded cases and its own manifests; error texts; any text.
#![allow(clippy::print_stderr)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::fs::Compression;

/// Returns a folder of recorded cases, or says that it is not there.
fn shared(part: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Beside the repository, or beside the folder of its work trees.
    let found = ["../shared/linuxkit", "../../shared/linuxkit"]
        .map(|shared| root.join(shared).join(part))
        .into_iter()
        .find(|path| path.is_dir());
    if found.is_none() {
        eprintln!("skipped: ../shared/linuxkit/{part} is not there");
    }
    found
}

fn nobody(name: &str) -> anyhow::Result<Vec<u8>> {
    anyhow::bail!("nobody fetches {name} in a test")
}

/// Error cases that a manifest alone does not show to be wrong.
const LATER: [&str; 14] = [
    "e27", "e29", "e30", "e34", "e37", "e40", "e41", "e51", "e57", "e58", "e65", "e70", "e76",
    "e77",
];

#[test]
fn golden_cases_are_taken_or_refused() {
    let Some(cases) = shared("golden/cases") else { return };
    let mut wrong = Vec::new();
    for case in fs::read_dir(cases).unwrap() {
        let case = case.unwrap().path();
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        let key = name.split('-').next().unwrap();
        let files = ["manifest.yml", "b.yml"].map(|file| case.join(file));
        let names: Vec<String> = files
            .iter()
            .filter(|file| file.exists())
            .map(|file| file.to_str().unwrap().to_owned())
            .collect();
        let refused = key == "112" || (key.starts_with('e') && !LATER.contains(&key));
        let checked = load(&names, &nobody).and_then(|manifest| Ok(manifest.check_access()?));
        match checked {
            Ok(()) if refused => wrong.push(format!("{name}: taken")),
            Err(error) if !refused => wrong.push(format!("{name}: {error:#}")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What LinuxKit refuses as well: no manifests, or broken ones.
const REFUSED: [&str; 7] = [
    "examples/static-ip.yml",
    "projects/clear-containers/clear-containers.yml",
    "projects/compose/docker-compose.yml",
    "projects/miragesdk/yaml/dhcp-client.yml",
    "src/cmd/linuxkit/moby/build/images.yaml",
    "test/cases/000_build/080_mirrors/config.yml",
    "test/cases/000_build/091_validate_linuxkit_yaml/linuxkit.yml",
];

#[test]
fn manifests_of_linuxkit_parse() {
    let Some(root) = shared("manifests") else { return };
    let mut folders = vec![root.clone()];
    let (mut taken, mut refused) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with("build.yml") || name.ends_with("build-file.yml") {
                // A package's, not a manifest.
            } else if name.ends_with(".yml") || name.ends_with(".yaml") {
                match load(&[path.to_str().unwrap().to_owned()], &nobody) {
                    Ok(_) => taken += 1,
                    Err(_) => refused.push(name.to_owned()),
                }
            }
        }
    }
    refused.sort();
    assert_eq!((taken, refused), (190, REFUSED.map(str::to_owned).to_vec()));
}

#[test]
fn errors_name_the_place_and_the_way_out() {
    let Some(cases) = shared("golden/cases") else { return };
    let mut cases: Vec<_> = fs::read_dir(cases).unwrap().map(|case| case.unwrap().path()).collect();
    cases.sort();
    let mut told = String::new();
    for case in cases {
        let text = fs::read_to_string(case.join("manifest.yml")).unwrap();
        let checked = parse(&text, "manifest.yml").and_then(|manifest| manifest.check_access());
        if let Err(error) = checked {
            let name = case.file_name().unwrap().to_str().unwrap();
            told.push_str(&format!("{name}\n{error}\n\n"));
        }
    }
    insta::assert_snapshot!(told);
}

#[test]
fn metadata_is_what_linuxkit_writes() {
    let Some(cases) = shared("golden/cases") else { return };
    let case = cases.join("071-files-metadata");
    let text = fs::read_to_string(case.join("manifest.yml")).unwrap();
    let manifest = parse(&text, "manifest.yml").unwrap();
    let name = |reference: &Reference| reference.to_string();
    for (form, file) in [(Metadata::Json, "etc_md.json"), (Metadata::Yaml, "etc_md.yaml")] {
        let recorded = fs::read_to_string(case.join("json").join(file)).unwrap();
        assert_eq!(manifest.metadata(form, &name), recorded);
    }
}

#[test]
fn a_dump_reads_as_the_same_manifest() {
    let Some(cases) = shared("golden/cases") else { return };
    let name = |reference: &Reference| reference.to_string();
    for case in fs::read_dir(cases).unwrap() {
        let text = fs::read_to_string(case.unwrap().path().join("manifest.yml")).unwrap();
        if let Ok(manifest) = parse(&text, "manifest.yml") {
            let dump = manifest.to_yaml(&name);
            assert_eq!(parse(&dump, "dump.yml").as_ref(), Ok(&manifest), "{dump}");
        }
    }
}
/// Returns what is wrong with a text, without the quoted lines.
fn told(text: &str) -> Vec<String> {
    match parse(text, "dir/m.yml").and_then(|manifest| manifest.check_access()) {
        Ok(()) => Vec::new(),
        Err(error) => error.problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn yaml_is_read_with_its_limits() {
    let bomb: String = (0..30)
        .map(|i| {
            format!(
                "k{i}: &k{i} [{0}, {0}, {0}]\n",
                if i == 0 { "x".into() } else { format!("*k{}", i - 1) }
            )
        })
        .collect();
    for (text, expected) in [
        ("", "expected a mapping, got an empty document"),
        ("# nothing\n", "expected a mapping, got an empty document"),
        ("init: &a [*a]", "1:11: this alias stands for itself"),
        ("init: [*b]", "1:8: this is no YAML: "),
        ("init: [@pkg:x]", "(write the value in quotes)"),
        ("init: [a]\ninit: [b]", "2:1: the key `init` stands here twice, before on line 1"),
        ("? [a]\n: b", "1:3: expected a key, got a list"),
        ("true: b", "1:1: expected a key, got the boolean true: write \"true\" in quotes"),
        ("<<: 3", "1:5: expected a mapping to merge, got the number 3"),
        ("init: !foo [a]", "this tag is not supported"),
        ("kernel: {cmdline: !bar x}", "this tag is not supported"),
        (&"[".repeat(1 << 16), "this is no YAML: "),
        (&"- ".repeat(1 << 16), "nested deeper than 64 levels"),
        (&bomb, "this holds too much"),
    ] {
        let told = told(text);
        assert!(told.iter().any(|told| told.contains(expected)), "{text:.40}: {told:?}");
    }
    let taken = parse("\u{feff}kernel: {cmdline: !!str 5}\r\n", "m").unwrap();
    assert_eq!(taken.kernel.unwrap().cmdline.unwrap().value, "5");
    let merged = "onboot:\n- &a {name: x, image: i, pid: host}\n- {<<: [*a], name: y}";
    let merged = parse(merged, "m").unwrap();
    assert_eq!(merged.onboot[1].name.value, "y");
    assert_eq!(merged.onboot[1].config.pid, merged.onboot[0].config.pid);
}

#[test]
fn own_keys_are_read_and_checked() {
    let text = "services:\n\
        - {name: db, image: i, restart: always, ready: {tcp: 5432, timeout: 5s}}\n\
        - {name: web, image: i, after: [db], restart: {policy: on-failure, limit: 3}}\n\
        disk: {size: 4G, sector: 4096, table: gpt, root: erofs,
        compression: zstd:19, data: {size: 100, label: d}}\n";
    let manifest = parse(text, "m").unwrap();
    let ready = manifest.services[0].ready.as_ref().unwrap().contract();
    assert_eq!(ready.probe, moby_bundle::Probe::Tcp("127.0.0.1:5432".into()));
    assert_eq!(ready.timeout, moby_bundle::Delay::seconds(5));
    assert_eq!(manifest.services[1].restart.unwrap().0.limit, 3);
    let disk = manifest.disk.as_ref().unwrap();
    assert_eq!(disk.size.as_ref().unwrap().value, Size(4 << 30));
    assert_eq!(disk.compression.as_ref().unwrap().value, Compression::Zstd(19));
    assert_eq!(disk.data.as_ref().unwrap().size.as_ref().unwrap().value, Size(100 << 20));
    let dump = manifest.to_yaml(&|reference| reference.to_string());
    assert_eq!(parse(&dump, "m").as_ref(), Ok(&manifest), "{dump}");

    for (text, expected) in [
        ("services: [{name: a, image: i, after: [a]}]", "wait for each other: `a`"),
        ("services: [{name: abc, image: i, after: [abd]}]", "`abd`, did you mean `abc`?"),
        ("services: [{name: a, image: i, ready: {}}]", "expected one of `exec`, `tcp`, `file`"),
        ("services: [{name: a, image: i, restart: never}]", "expected one of `no`, "),
        ("onboot: [{name: a, image: i, restart: no}]", "onboot[0].restart: unknown key"),
        ("services: [{name: ../a, image: i}]", "expected a name that can name a folder"),
        (
            "disk: {compression: lzo}",
            "disk.compression: expected none, lz4, gzip, xz or zstd, with",
        ),
        (
            "disk: {compression: gzip:10}",
            "disk.compression: expected a level of 1 to 9 in `gzip:10`",
        ),
        (
            "disk: {compression: xz, root: ext4}",
            "compression: expected a root of squashfs or erofs",
        ),
        ("disk: {sector: 513}", "expected 512 or 4096, got the number 513"),
        ("files: [{path: a/../../b, contents: x}]", "expected a path without `..`"),
        ("files: [{path: a, contents: x, uid: -1}]", "expected a number from 0 to 4294967295"),
        ("init: ['a:b:c']", "init[0]: "),
    ] {
        let told = told(text);
        assert!(told.iter().any(|told| told.contains(expected)), "{text}: {told:?}");
    }
}

#[test]
fn manifests_are_merged_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let first = write(
        "a.yml",
        "kernel: {image: k, cmdline: one, tar: none}\ninit: [a, '@pkg:./x/../y', 'oci:/z']\n\
         services: [{name: s, image: i, binds: ['v:/v'], uid: t}]\n",
    );
    let second = write(
        "b.yml",
        "kernel: {cmdline: '', binary: b, tar: ''}\ninit: [b]\nvolumes: [{name: v}]\n",
    );
    let remote = |name: &str| {
        assert_eq!(name, "https://host/c.yml");
        Ok(b"services: [{name: t, image: i}]".to_vec())
    };
    let names = [first, second, "https://host/c.yml".to_owned()];
    let manifest = load(&names, &remote).unwrap();
    let kernel = manifest.kernel.as_ref().unwrap();
    let text = |text: &Option<Spanned<String>>| text.as_ref().unwrap().value.clone();
    assert_eq!((text(&kernel.cmdline), text(&kernel.binary)), ("one".into(), "b".into()));
    assert_eq!(text(&kernel.tar), "");
    let package = format!("{}/x/../y", folder.path().display());
    assert_eq!(manifest.init[1].value, Reference::Package(package));
    let services: Vec<_> = manifest.containers().map(|one| one.name.value.as_str()).collect();
    assert_eq!(services, ["s", "t"]);

    let error = load(&names[..1], &nobody).unwrap_err();
    let invalid = error.downcast_ref::<InvalidManifest>().unwrap();
    let places: Vec<_> = invalid.problems.iter().map(|problem| problem.at.path()).collect();
    assert_eq!(places, ["services[0].binds[0]", "services[0].uid"]);
    let error = load(&["missing.yml".to_owned()], &nobody).unwrap_err();
    assert_eq!(error.to_string(), "reading missing.yml");
    assert!(parse("init: ['@pkg:x']", "-").is_err());
    let error = load(&[write("d.yml", "init: []\nx: \u{1}")], &nobody);
    assert!(error.is_err());
    fs::write(folder.path().join("e.yml"), b"init: []\nkernel: \xff").unwrap();
    let name = folder.path().join("e.yml").to_str().unwrap().to_owned();
    let error = load(&[name], &nobody).unwrap_err().to_string();
    assert!(error.contains("e.yml:2:9: this is not UTF-8"), "{error}");
}

#[test]
fn labels_are_images_without_name_and_image() {
    let label = r#"{"capabilities": ["all"], "binds": [], "runtime": {"mkdir": ["/x"]}}"#;
    let config = parse_label(label, "golden/label:1").unwrap();
    assert_eq!(config.capabilities.unwrap()[0].value, Capability::All);
    assert_eq!((config.binds, config.mounts), (Some(Vec::new()), None));
    let error = parse_label("name: x\ncommand: [1]", "golden/label:1").unwrap_err().to_string();
    assert!(error.contains("golden/label:1:1:1: name: unknown key"), "{error}");
    assert!(error.contains("golden/label:1:2:11: command[0]: expected a string"), "{error}");
    assert_eq!(parse_label("{}", "x").unwrap(), ImageConfig::default());
    assert_eq!(parse_label("", "x").unwrap(), ImageConfig::default());
}

/// Checks that a schema has every key of a value.
fn describes(schema: &Value, part: &Value, value: &Value, path: &str) {
    let part = match part["$ref"].as_str() {
        Some(name) => schema.pointer(name.trim_start_matches('#')).unwrap(),
        None => part,
    };
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let known = &part["properties"][key];
                let known = if known.is_null() { &part["additionalProperties"] } else { known };
                assert!(known.is_object(), "{path}.{key} is not in the schema");
                describes(schema, known, value, &format!("{path}.{key}"));
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| describes(schema, &part["items"], item, path));
        }
        _ => {}
    }
}

#[test]
fn the_schema_has_every_key_with_its_description() {
    let schema = schema();
    let records = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    for record in records {
        assert!(record["description"].as_str().is_some_and(|about| !about.is_empty()));
        for (key, part) in record["properties"].as_object().unwrap() {
            let about = part["description"].as_str().unwrap_or_default();
            assert!(!about.is_empty(), "{key} is not described");
        }
    }
    let Some(cases) = shared("golden/cases") else { return };
    for case in fs::read_dir(cases).unwrap() {
        let text = fs::read_to_string(case.unwrap().path().join("manifest.yml")).unwrap();
        if let Ok(manifest) = parse(&text, "manifest.yml") {
            describes(&schema, &schema, &manifest.encode(), "");
        }
    }
}

/// Asks a foreign judge, Python's `jsonschema`, if it is there.
#[test]
fn a_foreign_validator_takes_the_schema() {
    const JUDGE: &str = "import json, sys, jsonschema as j\n\
        schema, values = json.load(sys.stdin)\n\
        j.Draft202012Validator.check_schema(schema)\n\
        judge = j.Draft202012Validator(schema)\n\
        print([judge.is_valid(value) for value in values])";
    let here = std::process::Command::new("python3").args(["-c", "import jsonschema"]).output();
    if !here.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: jsonschema is not installed");
        return;
    }
    let good = json!({"kernel": {"image": "a"}, "services": [{"name": "a", "image": "b",
        "uid": 5, "capabilities": ["all"], "restart": "always", "after": ["c"]}]});
    let bad = json!({"services": [{"name": "a", "capabilitys": []}]});
    let mut values = vec![bad, good];
    for case in
        shared("golden/cases").map(|cases| fs::read_dir(cases).unwrap()).into_iter().flatten()
    {
        let text = fs::read_to_string(case.unwrap().path().join("manifest.yml")).unwrap();
        values.extend(parse(&text, "manifest.yml").ok().map(|manifest| manifest.encode()));
    }
    let mut judge = std::process::Command::new("python3")
        .args(["-c", JUDGE])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(&json!([schema(), values])).unwrap();
    std::io::Write::write_all(&mut judge.stdin.take().unwrap(), &input).unwrap();
    let output = judge.wait_with_output().unwrap();
    let verdicts = String::from_utf8_lossy(&output.stdout);
    assert_eq!(verdicts.trim(), format!("[False{}]", ", True".repeat(values.len() - 1)));
}

/// What YAML texts are made of, and what confuses their readers.
const TOKENS: [&str; 34] = [
    "a",
    ":",
    " ",
    "\n",
    "- ",
    "&a",
    "*a",
    "<<",
    "{",
    "}",
    "[",
    "]",
    ",",
    "|",
    ">",
    "'",
    "\"",
    "#",
    "!!str",
    "%YAML 1.1\n",
    "@",
    "\t",
    "? ",
    "---",
    "...",
    "services",
    "image: ",
    "name: x",
    "é",
    "\u{feff}",
    "0",
    "~",
    "\r",
    "\u{2028}",
];

proptest! {
    #[test]
    fn any_text_is_taken_or_refused(text in "\\PC*") {
        let _ = parse(&text, "manifest.yml").map_err(|error| error.to_string());
    }

    #[test]
    fn any_yaml_is_taken_or_refused(
        tokens in proptest::collection::vec(proptest::sample::select(&TOKENS[..]), 0..40),
    ) {
        let _ = parse(&tokens.concat(), "manifest.yml").map_err(|error| error.to_string());
    }

    #[test]
    fn any_text_comes_back_from_a_dump(text in "[\\PC\n\t ]*") {
        let dump = emit::yaml(&json!({"kernel": {"cmdline": text}}));
        let back = parse(&dump, "m").unwrap();
        prop_assert_eq!(back.kernel.unwrap().cmdline.unwrap().value, text);
    }
}
