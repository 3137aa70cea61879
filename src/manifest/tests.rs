//! LinuxKit's recorded cases and its own manifests; error texts; any text.
#![allow(clippy::print_stderr)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

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

proptest! {
    #[test]
    fn any_text_is_taken_or_refused(text in "\\PC*") {
        let _ = parse(&text, "manifest.yml");
    }
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
