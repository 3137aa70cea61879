//! Roots compressed as they were asked to be, by the word of programs of
//! others, and what asks for nothing or for what there is not.

use std::fs;
use std::process::Command;

use crate::support::{have, names, run, stderr, succeed};
use crate::{Bench, judge};

/// What a program says of a file; `None` where it is not there.
fn says(program: &str, words: &[&str], bench: &Bench, file: &str) -> Option<String> {
    if !have(program) {
        return None;
    }
    let mut command = Command::new(program);
    let done = run(command.args(words).arg(bench.path(file)).env("LC_ALL", "C"));
    Some(String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
}

/// Says whether a program for erofs knows Zstandard: older ones do not.
fn knows_zstd() -> bool {
    let help = Command::new("mkfs.erofs").arg("--help").output();
    let knows = help.is_ok_and(|help| {
        String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).contains("zstd")
    });
    if !knows {
        eprintln!("skipped: the programs for erofs here do not know zstd");
    }
    knows
}

/// Builds the small system twice, nothing that was derived being there the
/// second time: the bytes must be the same.
fn twice(bench: &Bench, format: &str, asked: Option<&str>) {
    let mut built = Vec::new();
    for out in ["out", "again"] {
        let mut build = bench.build(format, &bench.path(out));
        succeed(build.args(asked.map(|asked| format!("--root-compression={asked}"))));
        let files = names(&bench.path(out)).into_iter();
        let bytes = |name: String| (fs::read(bench.path(out).join(&name)).unwrap(), name);
        built.push(files.map(bytes).collect::<Vec<_>>());
        fs::remove_dir_all(bench.path("cache/derived")).unwrap();
    }
    assert!(built[0] == built[1], "{format} under {asked:?} came out different");
    fs::remove_dir_all(bench.path("again")).unwrap();
}

#[test]
fn squashfs_is_compressed_as_asked() {
    let Some(bench) = Bench::new(300_000) else { return };
    let cases = [
        ("xz", "Compression xz"),
        ("gzip", "Compression gzip"),
        ("gzip:4", "compression-level 4"),
        ("zstd:19", "compression-level 19"),
    ];
    for (asked, said) in cases {
        twice(&bench, "kernel+squashfs", Some(asked));
        let file = "out/small-squashfs.img";
        if let Some(told) = says("unsquashfs", &["-s"], &bench, file) {
            assert!(told.contains(said), "{asked}: {told}");
        }
        eprintln!("{asked}: {}", judge::whole(&bench.path(file)).join(", "));
    }
}

#[test]
fn erofs_is_compressed_as_asked() {
    let Some(bench) = Bench::new(300_000) else { return };
    // The rest of the system is noise.
    let text: String = (0_u32..30_000).map(|n| format!("line {} ", n.pow(2) % 9973)).collect();
    let manifest = fs::read_to_string(bench.path("small.yml")).unwrap();
    bench.put("small.yml", &format!("{manifest}  - path: etc/text\n    contents: {text}\n"));
    let known = ["none", "lz4"].len() + usize::from(knows_zstd());
    let mut sizes = Vec::new();
    let asked = [("none", 0), ("lz4", 1), ("zstd:19", 1 << 3)];
    for (number, (asked, algorithms)) in asked.into_iter().enumerate() {
        twice(&bench, "kernel+erofs", Some(asked));
        let file = format!("{asked}.img");
        fs::rename(bench.path("out/small-erofs.img"), bench.path(&file)).unwrap();
        let image = fs::read(bench.path(&file)).unwrap();
        sizes.push(image.len());
        // The superblock's "available_compr_algs".
        assert_eq!(u16::from_le_bytes([image[1108], image[1109]]), algorithms, "{asked}");
        if let Some(told) = says("dump.erofs", &["-s"], &bench, &file) {
            assert_eq!(told.contains("big_pcluster"), asked != "none", "{asked}: {told}");
        }
        if number < known {
            eprintln!("{asked}: {}", judge::whole(&bench.path(&file)).join(", "));
        }
        // Whatever others know, ours reads the same out of all.
        succeed(bench.moby().args(["diff", "none.img", &file]));
    }
    assert!(sizes.is_sorted_by(|one, next| one > next), "{sizes:?}");
}

#[test]
fn a_disk_is_compressed_as_its_manifest_says_or_the_flag() {
    let Some(bench) = Bench::new(300_000) else { return };
    let manifest = fs::read_to_string(bench.path("small.yml")).unwrap();
    let disk = "disk: {root: squashfs, compression: gzip:4}\n";
    bench.put("small.yml", &format!("{manifest}{disk}"));
    let image = |flag: &[&str], format: &str| {
        succeed(bench.build(format, &bench.path("out")).args(flag));
        let ending = if format == "raw" { ".img" } else { "-squashfs.img" };
        let image = fs::read(bench.path(&format!("out/small{ending}"))).unwrap();
        let at = image.windows(4).position(|four| four == b"hsqs").unwrap();
        // The superblock's "compressor", and the level where it is no usual one.
        (u16::from_le_bytes([image[at + 20], image[at + 21]]), image[at + 98])
    };
    assert_eq!(image(&[], "raw"), (1, 4));
    assert_eq!(image(&["--root-compression", "gzip:3"], "raw"), (1, 3));
    assert_eq!(image(&["--root-compression", "xz"], "raw").0, 4);
    // Which has no disk.
    assert_eq!(image(&[], "kernel+squashfs").0, 6);
}

#[test]
fn what_cannot_be_compressed_so_is_refused() {
    let Some(bench) = Bench::new(300_000) else { return };
    let told = |format: &str, asked: &str| {
        let out = bench.path("out");
        let done = run(bench.build(format, &out).args(["--root-compression", asked]));
        assert_eq!(done.status.code(), Some(1), "{format} {asked}: {}", stderr(&done));
        assert!(!out.exists() || names(&out).is_empty(), "{format} {asked} left something");
        stderr(&done)
    };
    insta::assert_snapshot!(told("kernel+squashfs", "lz4"), @"
    error: writing format kernel+squashfs
      caused by: writing the root as squashfs
      caused by: expected the compression gzip, xz or zstd, got lz4

    hint: say zstd, which both squashfs and erofs take, or make the root erofs for lz4
    ");
    insta::assert_snapshot!(told("kernel+erofs", "xz"), @"
    error: writing format kernel+erofs
      caused by: writing the root as erofs
      caused by: expected the compression none, lz4 or zstd, got xz:6

    hint: say zstd, which both squashfs and erofs take, or make the root squashfs for xz
    ");
    insta::assert_snapshot!(told("kernel+initrd,kernel+iso", "zstd:9"), @"
    error: expected a root of squashfs or erofs to compress by zstd:9, got none in kernel+initrd, kernel+iso

    hint: leave `--root-compression` out, or take a format with such a root: `kernel+squashfs`, `kernel+erofs`, a disk of a manifest that says `disk: {root: squashfs}`
    ");
    // The initrd has nothing to do with it, the other root has.
    succeed(
        bench
            .build("kernel+initrd,kernel+squashfs", &bench.path("out"))
            .args(["--root-compression", "xz"]),
    );
}
