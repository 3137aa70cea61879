//! Disks against qemu-img, sgdisk and fdisk, and read back.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::store::Out;

type Writer = fn(&Extents, &mut dyn Out) -> anyhow::Result<()>;

const ID: Guid = Guid::new(0x12345678_9abc_8def_8123_456789abcdef);

/// Every virtual disk: its name for qemu-img, whether it checks it, a writer.
const FORMATS: &[(&str, bool, Writer)] = &[
    ("qcow2", true, |raw, out| qcow2::write(raw, None, out)),
    ("qcow2", true, |raw, out| qcow2::write(raw, Some(qcow2::Compression::Zlib(6)), out)),
    ("qcow2", true, |raw, out| qcow2::write(raw, Some(qcow2::Compression::Zstd(3)), out)),
    ("vmdk", true, |raw, mut out| vmdk::write(raw, &vmdk::Options::default(), &mut out)),
    ("vpc", false, |raw, out| vhd::fixed(raw, ID)?.copy_to(out)),
    ("vpc", false, |raw, out| vhd::dynamic(raw, ID)?.copy_to(out)),
    ("vhdx", true, |raw, out| vhdx::plan(raw, 512, ID)?.copy_to(out)),
];

fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A disk of text, noise and holes, in bytes and in a file.
fn sample(len: u64) -> Extents {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&noise(3 << 20, 7), 0).unwrap();
    file.write_all_at(&b"all work and no play ".repeat(100_000), 5 << 20).unwrap();
    let file = Extents::of_file(&Arc::new(file)).unwrap();
    let mut disk = Extents::zeros(len);
    disk.put_bytes(0, noise(1000, 1));
    disk.put((1 << 20) + 512, &file);
    disk.put_bytes(len - 700, noise(700, 3));
    disk.put_bytes(len / 2 + 77_777, b"in the middle".repeat(20_000));
    disk
}

fn save(write: impl FnOnce(&mut dyn Out) -> anyhow::Result<()>) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write(&mut file).unwrap();
    file.flush().unwrap();
    file
}

/// Runs a judge and returns what it prints; `None` where it is missing.
fn judge(tool: &str, args: &[&str]) -> Option<String> {
    let Ok(output) = Command::new(tool).args(args).output() else {
        writeln!(std::io::stderr(), "skipped: {tool} is not installed").unwrap();
        return None;
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{tool} {args:?}: {text}");
    Some(text)
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[test]
fn satisfy_qemu_and_read_back() {
    for len in [24 << 20, (40 << 20) + 512 * 8, 700 << 20] {
        let disk = sample(len);
        let raw = save(|out| disk.copy_to(out));
        for (index, (format, checks, write)) in FORMATS.iter().enumerate() {
            let image = save(|out| write(&disk, out));
            let again = save(|out| write(&disk, out));
            let read = |file: &tempfile::NamedTempFile| std::fs::read(file.path()).unwrap();
            assert!(read(&image) == read(&again), "{format} {index} differs when written twice");
            if *checks {
                judge("qemu-img", &["check", "-f", format, path(&image)]);
            }
            judge("qemu-img", &["compare", "-F", format, path(&raw), path(&image)]);
            let opened =
                open(&Arc::new(File::open(image.path()).unwrap()), &std::env::temp_dir()).unwrap();
            assert!(opened.image.len() >= disk.len(), "{format} {index}");
            // Hashing the hole of the large one would take most of the time.
            for part in [0..12 << 20, len / 2..len / 2 + (1 << 20), len - (1 << 20)..len] {
                let read = opened.image.slice(part.clone()).unwrap().digest().unwrap();
                let wanted = disk.slice(part).unwrap().digest().unwrap();
                assert_eq!(read, wanted, "{format} {index}");
            }
        }
    }
}

#[test]
fn states_the_exact_size_of_a_vhd() {
    let image = save(|out| vhd::fixed(&sample(200 << 20), ID)?.copy_to(out));
    if let Some(text) = judge("qemu-img", &["info", "-f", "vpc", path(&image)]) {
        assert!(text.contains("(209715200 bytes)"), "{text}");
    }
}

#[test]
fn reads_what_qemu_writes() {
    let disk = sample(24 << 20);
    let raw = save(|out| disk.copy_to(out));
    let cases: &[&[&str]] = &[
        &["-O", "qcow2"],
        &["-O", "qcow2", "-c"],
        &["-O", "qcow2", "-c", "-o", "compression_type=zstd"],
        &["-O", "qcow2", "-o", "cluster_size=4096,compat=0.10"],
        &["-O", "vpc", "-o", "force_size"],
        &["-O", "vpc", "-o", "force_size,subformat=fixed"],
        &["-O", "vhdx"],
        &["-O", "vmdk", "-o", "subformat=streamOptimized"],
    ];
    for options in cases {
        let image = tempfile::NamedTempFile::new().unwrap();
        let files = [path(&raw), path(&image)];
        if judge("qemu-img", &[&["convert", "-f", "raw"], *options, &files].concat()).is_none() {
            return;
        }
        let opened = open(&Arc::new(image.reopen().unwrap()), &std::env::temp_dir()).unwrap();
        let part = opened.image.slice(0..disk.len()).unwrap();
        assert_eq!(part.digest().unwrap(), disk.digest().unwrap(), "{options:?}");
    }
}

#[test]
fn vhdx_of_large_sectors_reads_back() {
    // QEMU reads sectors of 512 bytes only.
    let disk = sample(24 << 20);
    let image = save(|out| vhdx::plan(&disk, 4096, ID)?.copy_to(out));
    let opened = open(&Arc::new(image.reopen().unwrap()), &std::env::temp_dir()).unwrap();
    assert_eq!(opened.image.digest().unwrap(), disk.digest().unwrap());
}

fn gpt_disk(sector: u32) -> gpt::Disk {
    let mut boot = gpt::Partition::new(gpt::ESP, "EFI system", Extents::of_bytes(noise(70_000, 1)));
    boot.attributes = gpt::LEGACY_BOOT;
    let mut root = gpt::Partition::new(gpt::ROOT_AMD64, "root é", Extents::zeros(5 << 20));
    root.id = Some(ID);
    root.size = Some(8 << 20);
    let id = Guid::derive(b"a system", "disk");
    gpt::Disk { id, sector, size: None, code: vec![0xf4; 440], partitions: vec![boot, root] }
}

#[test]
fn gpt_satisfies_sgdisk() {
    let (image, places) = gpt::plan(&gpt_disk(512)).unwrap();
    assert_eq!(places, [1 << 20..2 << 20, 2 << 20..10 << 20]);
    assert_eq!(image.len(), 11 << 20);
    let file = save(|out| image.copy_to(out));
    if let Some(text) = judge("sgdisk", &["-v", path(&file)]) {
        assert!(text.contains("No problems found"), "{text}");
    }
    judge("fdisk", &["-l", path(&file)]);
    insta::assert_snapshot!(read(&image).unwrap().unwrap(), @r"
    gpt sector=512 id=e6031852-467e-8ef8-89c1-e25d29664d83
    1 1048576..2097152 kind=c12a7328-f81f-11d2-ba4b-00a0c93ec93b id=0792d24c-7974-87d4-9fbc-ddbf2315fcc9 attributes=4 EFI system
    2 2097152..10485760 kind=4f68bce3-e8cd-4db1-96e7-fbcaf984b709 id=12345678-9abc-8def-8123-456789abcdef attributes=0 root é
    ");
}

#[test]
fn gpt_of_large_sectors_reads_back() {
    let (image, places) = gpt::plan(&gpt_disk(4096)).unwrap();
    let table = read(&image).unwrap().unwrap();
    assert_eq!(table.sector, 4096);
    let found: Vec<_> = table.partitions.into_iter().map(|found| found.range).collect();
    assert_eq!(found, places);
    let file = save(|out| image.copy_to(out));
    judge("fdisk", &["-b", "4096", "-l", path(&file)]);
}

#[test]
fn mbr_is_listed_by_fdisk() {
    let partition = |kind, active| mbr::Partition {
        kind,
        active,
        image: Extents::of_bytes(noise(3000, 2)),
        size: None,
    };
    let partitions = vec![partition(mbr::FAT, true), partition(mbr::LINUX, false)];
    let disk = mbr::Disk { id: 0x1234_5678, size: Some(16 << 20), code: vec![0xf4], partitions };
    let (image, places) = mbr::plan(&disk).unwrap();
    let file = save(|out| image.copy_to(out));
    if let Some(text) = judge("fdisk", &["-l", path(&file)]) {
        assert!(text.contains("0x12345678") && text.contains("W95 FAT32 (LBA)"), "{text}");
    }
    let table = read(&image).unwrap().unwrap();
    assert_eq!(table.partitions.len(), 2);
    assert_eq!(table.partitions[1].range, places[1]);
}

#[test]
fn refuses_a_disk_too_small() {
    let disk = gpt::Disk { size: Some(10 << 20), ..gpt_disk(512) };
    let error = gpt::plan(&disk).unwrap_err().to_string();
    assert!(error.starts_with("expected a disk of 10502656 bytes or more"), "{error}");
}

#[test]
fn ovf_is_xml() {
    let machine = ovf::Machine {
        name: "a <small> & fine system".to_owned(),
        disk: "disk.vmdk".to_owned(),
        disk_len: 1000,
        capacity: 1 << 30,
        cpus: 2,
        memory: 1024,
        efi: true,
        bus: ovf::Bus::Ide,
        card: "VmxNet3",
    };
    let file = save(|out| Ok(out.write_all(ovf::text(&machine).as_bytes())?));
    let code = "import sys,xml.dom.minidom as m; m.parse(sys.argv[1])";
    judge("python3", &["-c", code, path(&file)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn reading_damaged_files_never_panics(
        format in 0..FORMATS.len(),
        at in prop_oneof![0..600_u64, 0..300_000_u64],
        from_end in any::<bool>(),
        bytes in prop::collection::vec(any::<u8>(), 1..16),
    ) {
        let disk = Extents::of_bytes(noise(100 * 512, 5));
        let image = save(|out| FORMATS[format].2(&disk, out));
        let len = image.as_file().metadata().unwrap().len();
        let at = if from_end { len.saturating_sub(at) } else { at };
        image.as_file().write_all_at(&bytes, at).unwrap();
        if let Ok(opened) = open(&Arc::new(image.reopen().unwrap()), &std::env::temp_dir()) {
            // Whatever comes of it, it comes back.
            let _ = read(&opened.image);
        }
    }
}
