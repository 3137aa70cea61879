//! Every format booted in QEMU as its table says: by each firmware that it is
//! for, as a CD, a USB stick, a virtio or a SATA disk, until the web server of
//! `examples/minimal.yml` answers.
//!
//! A usual run boots each format, each firmware and each medium at least once;
//! with MOBY_SOAK=true all that a format promises is booted.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may, and tells what it did")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use moby::format::{self, FORMATS, Format};
use support::guest::{Guest, SIDE_BY_SIDE, build_as, example, free_port, page, turn};
use support::is_soak;

/// What starts a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Firmware {
    Bios,
    Efi,
}

/// What it is started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Medium {
    /// QEMU starts the kernel.
    Kernel,
    Virtio,
    Sata,
    Cd,
    Stick,
}

use Firmware::{Bios, Efi};
use Medium::{Cd, Kernel, Sata, Stick, Virtio};

/// How a format starts on a PC.
enum Starts {
    /// Not at all: why.
    Not(&'static str),
    /// By a kernel, with these options of `moby run`.
    Kernel(&'static [&'static str]),
    /// As a disk.
    Disk(&'static [Firmware]),
    /// As a disc, and from a stick.
    Disc(&'static [Firmware]),
    /// As a program for UEFI.
    Program,
}

const BOTH: &[Firmware] = &[Bios, Efi];

/// Every format. What is not here makes a test fail: nothing is forgotten.
const STARTS: &[(&str, Starts)] = &[
    ("kernel+initrd", Starts::Kernel(&["--kernel"])),
    ("tar-kernel-initrd", Starts::Not("an archive, for what boots a kernel and an initrd")),
    ("kernel+squashfs", Starts::Kernel(&["--squashfs"])),
    ("kernel+erofs", Starts::Kernel(&["--erofs"])),
    ("kernel+iso", Starts::Kernel(&[])),
    ("iso-bios", Starts::Disc(&[Bios])),
    ("iso-efi", Starts::Disc(&[Efi])),
    ("iso-efi-initrd", Starts::Disc(&[Efi])),
    ("iso", Starts::Disc(BOTH)),
    ("raw-bios", Starts::Disk(&[Bios])),
    ("raw-efi", Starts::Disk(&[Efi])),
    ("raw", Starts::Disk(BOTH)),
    ("qcow2-bios", Starts::Disk(&[Bios])),
    ("qcow2-efi", Starts::Disk(&[Efi])),
    ("qcow2", Starts::Disk(BOTH)),
    ("vmdk", Starts::Disk(BOTH)),
    ("vhd", Starts::Disk(BOTH)),
    ("dynamic-vhd", Starts::Disk(BOTH)),
    ("vhdx", Starts::Disk(BOTH)),
    ("ova", Starts::Disk(BOTH)),
    ("uki", Starts::Program),
    ("aws", Starts::Disk(BOTH)),
    ("gcp", Starts::Disk(BOTH)),
    ("azure", Starts::Disk(BOTH)),
    ("openstack", Starts::Disk(BOTH)),
    ("digitalocean", Starts::Disk(BOTH)),
    ("hetzner", Starts::Disk(BOTH)),
    ("oracle", Starts::Disk(BOTH)),
    ("vultr", Starts::Disk(BOTH)),
    ("scaleway", Starts::Disk(&[Efi])),
    ("rpi", Starts::Not("a card for no PC")),
    ("tar", Starts::Not("a root file system alone")),
    ("docker", Starts::Not("a container image")),
    ("oci", Starts::Not("a container image")),
];

/// What a usual run boots.
const USUAL: &[(&str, Firmware, Medium)] = &[
    ("kernel+squashfs", Bios, Kernel),
    ("kernel+erofs", Bios, Kernel),
    ("kernel+iso", Bios, Kernel),
    ("iso-bios", Bios, Cd),
    ("iso-efi", Efi, Cd),
    ("iso-efi-initrd", Efi, Stick),
    ("iso", Bios, Cd),
    ("iso", Efi, Stick),
    ("raw-bios", Bios, Sata),
    ("raw-efi", Efi, Sata),
    ("raw", Bios, Virtio),
    ("qcow2-bios", Bios, Virtio),
    ("qcow2-efi", Efi, Virtio),
    ("qcow2", Bios, Virtio),
    ("vmdk", Efi, Virtio),
    ("vhd", Bios, Sata),
    ("dynamic-vhd", Bios, Virtio),
    ("vhdx", Bios, Virtio),
    ("ova", Bios, Sata),
    ("uki", Efi, Virtio),
    ("aws", Bios, Virtio),
    ("gcp", Bios, Virtio),
    ("azure", Bios, Virtio),
    ("openstack", Bios, Virtio),
    ("digitalocean", Bios, Virtio),
    ("hetzner", Bios, Virtio),
    ("oracle", Bios, Virtio),
    ("vultr", Bios, Virtio),
    ("scaleway", Efi, Virtio),
];

/// The name of what is built.
const NAME: &str = "system";

/// Other tests boot it, again and again.
const BOOTED_ELSEWHERE: &[&str] = &["kernel+initrd"];

/// One boot.
type Boot = (&'static str, Firmware, Medium);

/// Lists all that a format promises.
fn promised(name: &'static str, starts: &Starts) -> Vec<Boot> {
    let (firmwares, media): (&[Firmware], &[Medium]) = match starts {
        Starts::Not(why) => {
            eprintln!("{name} is not booted: {why}");
            return Vec::new();
        }
        Starts::Kernel(_) => (&[Bios], &[Kernel]),
        Starts::Disk(firmwares) => (firmwares, &[Virtio, Sata]),
        Starts::Disc(firmwares) => (firmwares, &[Cd, Stick]),
        Starts::Program => (&[Efi], &[Virtio, Sata]),
    };
    let boots = firmwares.iter().flat_map(|f| media.iter().map(move |m| (name, *f, *m)));
    boots.collect()
}

fn all() -> Vec<Boot> {
    STARTS.iter().flat_map(|(name, starts)| promised(name, starts)).collect()
}

/// Sorts formats so that no two of a group write files of one name.
fn groups(names: &BTreeSet<&'static str>) -> Vec<Vec<&'static Format>> {
    let mut groups: Vec<Vec<&Format>> = Vec::new();
    for format in FORMATS.iter().filter(|format| names.contains(format.name)) {
        let fits = |group: &&mut Vec<&'static Format>| {
            !format.single
                && group.iter().all(|other| !other.single)
                && format::clash(&[group.as_slice(), &[format]].concat()).is_none()
        };
        match groups.iter_mut().find(fits) {
            Some(group) => group.push(format),
            None => groups.push(vec![format]),
        }
    }
    groups
}

/// Builds the system once for each group, and tells where each format's file is.
fn build(
    names: &BTreeSet<&'static str>,
    manifest: &Path,
    folder: &Path,
) -> BTreeMap<&'static str, PathBuf> {
    let mut files = BTreeMap::new();
    for (number, group) in groups(names).iter().enumerate() {
        let place = folder.join(number.to_string());
        fs::create_dir_all(&place).unwrap();
        let formats: Vec<&str> = group.iter().map(|format| format.name).collect();
        build_as(manifest, &place, &["--format", &formats.join(","), "--name", NAME]);
        for format in group {
            let prefix = matches!(start(format.name), Starts::Kernel(_));
            let end = if prefix { "" } else { format.files[0] };
            files.insert(format.name, place.join(format!("{NAME}{end}")));
        }
    }
    files
}

/// Gives a boot the image under a name of its own, so that two may have it.
fn copy(image: &Path, name: &str, folder: &Path) -> PathBuf {
    let own = tempfile::Builder::new().prefix(name).tempdir_in(folder).unwrap().keep();
    let from = image.parent().unwrap();
    for end in format::find(name).unwrap().files {
        let file = format!("{NAME}{end}");
        fs::copy(from.join(&file), own.join(&file)).unwrap();
    }
    own.join(image.file_name().unwrap())
}

fn start(format: &str) -> &'static Starts {
    let found = STARTS.iter().find(|(name, _)| *name == format);
    &found.unwrap_or_else(|| panic!("nobody says how {format} starts")).1
}

/// Writes the example with a package's kernel: that for virtual machines knows
/// no USB. Under emulation Linux need not guard against its processor, and
/// must not give up where a busy host is late with its timer.
fn manifest(kernel: &str, folder: &Path) -> PathBuf {
    let packages = format!("@pkg:{}/pkg", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(example("minimal")).unwrap();
    let text = text.replace("@pkg:../pkg/kernel", &format!("@pkg:../pkg/{kernel}"));
    let text = text.replace("@pkg:../pkg", &packages);
    let text = text.replace("ttyS0 quiet", "ttyS0 quiet mitigations=off no_timer_check");
    assert!(text.contains("no_timer_check") && text.contains(&format!("/{kernel}\"")), "{text}");
    let path = folder.join(format!("{kernel}.yml"));
    fs::write(&path, text).unwrap();
    path
}

/// Says whether a boot takes the kernel for real machines: where Linux, and
/// not the firmware alone, has to find its root on a stick.
fn needs_drivers((name, _, medium): &Boot) -> bool {
    *name == "iso" && *medium == Stick
}

/// Builds what some boots need, and pairs each with its image.
fn images(boots: &[Boot], folder: &Path) -> Vec<(Boot, PathBuf)> {
    let (real, virtual_): (Vec<Boot>, Vec<Boot>) = boots.iter().partition(|b| needs_drivers(b));
    let mut images = Vec::new();
    for (boots, kernel) in [(virtual_, "kernel"), (real, "kernel-hardware")] {
        let names: BTreeSet<&str> = boots.iter().map(|boot| boot.0).collect();
        let files = build(&names, &manifest(kernel, folder), &folder.join(kernel));
        images.extend(boots.into_iter().map(|boot| (boot, files[boot.0].clone())));
    }
    images
}

/// Boots an image until its page comes. What a guest writes is thrown away, for
/// others may have the image, too.
fn boot(image: &Path, (name, firmware, medium): Boot, folder: &Path) {
    let begun = Instant::now();
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:80");
    let image = copy(image, name, folder);
    let image = image.as_path();
    let state = image.with_extension("state");
    let state_option = format!("--state={}", state.display());
    let mut options = vec!["--publish", &publish, &state_option];
    options.extend(match firmware {
        Bios => [].as_slice(),
        Efi => &["--uefi"],
    });
    options.extend(match medium {
        Sata => ["--disk-bus", "sata"].as_slice(),
        Stick => &["--disk-bus", "usb"],
        Kernel | Virtio | Cd => &[],
    });
    if let Starts::Kernel(more) = start(name) {
        options.extend(*more);
    }
    let mut guest = Guest::start(image, &options);
    let answer = guest.until("the page", |_| page(port));
    assert!(answer.contains("Served by a system that moby assembled"), "{answer}");
    drop(guest);
    fs::remove_dir_all(image.parent().unwrap()).unwrap();
    eprintln!("{name}: {firmware:?}, {medium:?}: {} s", begun.elapsed().as_secs());
}

#[test]
fn every_format_is_accounted_for() {
    let ours: BTreeSet<&str> = STARTS.iter().map(|(name, _)| *name).collect();
    let theirs: BTreeSet<&str> = FORMATS.iter().map(|format| format.name).collect();
    assert_eq!(ours, theirs, "say in STARTS how a format starts, and boot it in USUAL");
    let all = all();
    for usual in USUAL {
        assert!(all.contains(usual), "{usual:?} is not promised");
    }
    let booted = |one: &dyn Fn(&Boot) -> bool| USUAL.iter().any(one);
    for (name, firmware, medium) in &all {
        let elsewhere = BOOTED_ELSEWHERE.contains(name);
        assert!(elsewhere || booted(&|boot| boot.0 == *name), "a usual run boots no {name}");
        assert!(booted(&|boot| boot.1 == *firmware), "a usual run boots by no {firmware:?}");
        assert!(booted(&|boot| boot.2 == *medium), "a usual run boots from no {medium:?}");
    }
}

#[test]
fn every_format_serves_a_page() {
    if turn().is_none() {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let boots = if is_soak() { all() } else { USUAL.to_vec() };
    let queue = Mutex::new(images(&boots, folder.path()).into_iter());
    let failed = Mutex::new(Vec::new());
    let work = || {
        while let Some((one, image)) = { queue.lock().unwrap().next() } {
            let _turn = turn();
            let booted = catch_unwind(AssertUnwindSafe(|| boot(&image, one, folder.path())));
            if booted.is_err() {
                failed.lock().unwrap().push(one);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "of {} boots these failed: {failed:?}", boots.len());
}
