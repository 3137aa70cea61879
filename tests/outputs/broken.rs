//! What does not fit, and what ends too early.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use moby::oci::Digest;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{names, run, stderr, succeed};
use crate::{Bench, formats};

/// The formats that are disks, whose size can be asked for.
fn disks() -> Vec<&'static str> {
    let disk = |name: &&str| !name.starts_with("iso") && *name != "uki";
    formats().filter(|format| !format.loaders.is_empty()).map(|f| f.name).filter(disk).collect()
}

#[test]
fn a_disk_too_small_says_by_how_much_and_what_fills_it() {
    let Some(bench) = Bench::new(300_000) else { return };
    let out = bench.path("out");
    for format in disks() {
        let output = run(bench.build(format, &out).args(["--size", "900K"]));
        let told = stderr(&output);
        if output.status.success() {
            // Whole MiB or GiB are what some clouds take.
            let rounds = ["gcp", "azure", "digitalocean", "hetzner", "oracle", "vultr", "scaleway"];
            assert!(rounds.contains(&format), "{format}: {told}");
            fs::remove_dir_all(&out).unwrap();
            continue;
        }
        assert_eq!(output.status.code(), Some(1), "{format}: {told}");
        for wanted in ["writing format", "to fit in ", "more; its largest folders:", "files  /"] {
            assert!(told.contains(wanted), "{format}: {wanted}: {told}");
        }
        assert!(told.contains("hint: give a larger size"), "{format}: {told}");
        assert!(!out.exists() || names(&out).is_empty(), "{format}: {:?}", names(&out));
    }
}

#[test]
fn a_root_larger_than_its_disk_says_so() {
    let Some(bench) = Bench::new(2_000_000) else { return };
    let manifest = fs::read_to_string(bench.path("small.yml")).unwrap();
    let out = bench.path("out");
    for root in ["erofs", "squashfs", "ext4", "initrd"] {
        bench.put("small.yml", &format!("{manifest}disk: {{size: 3M, root: {root}}}\n"));
        let output = run(&mut bench.build("raw", &out));
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{root}: {told}");
        for wanted in ["to fit in 3072 KiB", "more; its largest folders:", "/containers/services"] {
            assert!(told.contains(wanted), "{root}: {wanted}: {told}");
        }
        assert!(!out.exists() || names(&out).is_empty(), "{root}");
    }
}

/// Says whether a small file system can be mounted here, apart from all.
fn mounts() -> bool {
    let done =
        Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    let can = done.is_ok_and(|done| done.status.success());
    if !can {
        eprintln!("skipped: a file system can be mounted by root only");
    }
    can
}

/// Runs a script with a small file system at `$1`; `"$@"` behind it is moby.
fn on_small_disk(bench: &Bench, script: &str, words: &[&str]) -> String {
    let place = bench.path("small");
    fs::create_dir_all(&place).unwrap();
    let script = format!(
        "set -e; place=$1; shift; mount -t tmpfs -o size=4M none \"$place\"; set +e; {script}"
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, "sh"]).arg(&place).arg(env!("CARGO_BIN_EXE_moby"));
    command.args(words).current_dir(bench.folder.path()).env("HOME", bench.folder.path());
    let output = run(command.stdin(Stdio::null()));
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    if !mounts() {
        return;
    }
    let Some(bench) = Bench::new(2_500_000) else { return };
    // What is derived is there already: only the output fails.
    let names: Vec<&str> = formats().map(|format| format.name).collect();
    let script = "for format in FORMATS; do \
        \"$@\" --format $format --dir \"$place\" small.yml 2>&1 | tr '\\n' ' '; \
        echo \"|$format|$(ls -A \"$place\" | tr '\\n' ' ')\"; rm -rf \"$place\"/.[!.]* \"$place\"/*; done";
    let script = script.replace("FORMATS", &names.join(" "));
    let cache = bench.path("cache");
    let told = on_small_disk(&bench, &script, &["--cache", cache.to_str().unwrap(), "build"]);
    assert_eq!(told.lines().count(), names.len(), "{told}");
    for line in told.lines() {
        let [left, format, message] = line.rsplitn(3, '|').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        assert_eq!(left, "", "{format} left something: {line}");
        assert!(message.starts_with("error: "), "{line}");
        assert!(message.contains("No space left on device"), "{line}");
        assert!(message.contains(&format!("writing format {format}")), "{line}");
    }
}

#[test]
fn a_cache_on_a_full_disk_is_sound_once_there_is_room() {
    if !mounts() {
        return;
    }
    let Some(bench) = Bench::new(2_500_000) else { return };
    let script = "\"$@\" cache import layout && exit 9; ls \"$place\"/cache/tmp; \
        mount -o remount,size=200M \"$place\"; \
        \"$@\" cache import layout && \"$@\" build --format tar --dir \"$place\"/out small.yml && \
        sha256sum <\"$place\"/out/small.tar";
    let cache = bench.path("small/cache");
    let told = on_small_disk(&bench, script, &["--cache", cache.to_str().unwrap()]);
    succeed(&mut bench.build("tar", &bench.path("other")));
    let expected = Digest::of(&fs::read(bench.path("other/small.tar")).unwrap());
    assert!(told.trim().ends_with(&format!("{}  -", expected.hex())), "{told}");
}

fn digests(folder: &Path) -> BTreeMap<String, Digest> {
    if !folder.exists() {
        return BTreeMap::new();
    }
    let digest = |name: String| {
        let bytes = fs::read(folder.join(&name)).unwrap();
        (name, Digest::of(&bytes))
    };
    names(folder).into_iter().map(digest).collect()
}

#[test]
fn a_build_that_is_killed_leaves_whole_files_or_none() {
    let Some(bench) = Bench::new(1_000_000) else { return };
    let formats = "kernel+squashfs,iso,raw,qcow2,vmdk,vhdx,vhd,uki";
    let whole = bench.path("whole");
    succeed(&mut bench.build(formats, &whole));
    let whole = digests(&whole);
    let mut killed = 0;
    for delay in [30, 60, 100, 150, 250, 400, 700] {
        let out = bench.path("out");
        let mut child = bench.build(formats, &out).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        // It may be over by now.
        let _ = kill_process(id, Signal::KILL);
        killed += u32::from(!child.wait().unwrap().success());
        for (name, digest) in digests(&out) {
            assert_eq!(whole.get(&name), Some(&digest), "{name} after {delay} ms");
        }
        if out.exists() {
            fs::remove_dir_all(&out).unwrap();
        }
    }
    assert!(killed > 0, "no build was caught at work");
}
