//! The power fails while a guest grows its data: QEMU is killed as soon as its
//! disk, or its console, shows how far the guest has come. The next boot has to
//! find all that was written before, and to finish the work.
//!
//! What a cut within a single write leaves is in pkg/init/src/grow.rs. A usual
//! run cuts between the two tables of a GPT; with MOBY_SOAK=true the power
//! fails at every moment, with either table, on a disk that grows each time.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may, and tells when the power failed"
)]

mod support;

use std::fs::{self, File, OpenOptions};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::process::{Pid, Signal, kill_process};
use support::guest::{Guest, build_as, in_order, turn};
use support::system::{manifest, size_of_var};
use support::{have, is_soak, run};

/// How far a guest has come when the power fails.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// A GPT's second table is where the disk ends now, the first one is old.
    SecondTable,
    /// The table at the disk's beginning is new.
    Table,
    /// The file system says on the disk that it is larger.
    FileSystem,
    /// A container looks at the data, and is about to write to it.
    Seen,
}

use Moment::{FileSystem, SecondTable, Seen, Table};

/// Sectors of the disk, and blocks of ext4.
const SECTOR: u64 = 512;
const BLOCK: u64 = 4096;
/// The data's place in the table: behind that to boot from and the root.
const DATA: u64 = 2;
/// What the disk grows by before each cut, in MiB.
const STEP: u64 = 256;

/// A disk with a data partition.
#[derive(Clone, Debug)]
struct Disk {
    image: PathBuf,
    mbr: bool,
    mib: u64,
    /// The sectors of the data and the blocks of its file system, before they grow.
    before: (u64, u64),
    /// How many boots came to their end.
    boots: usize,
}

/// Where the data lies, in sectors.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u64,
    count: u64,
}

/// What of the growth is on the disk.
#[derive(Clone, Copy, Debug)]
struct Grown {
    second_table: bool,
    table: bool,
    file_system: bool,
}

fn number(file: &File, at: u64, bytes: usize) -> u64 {
    let mut number = [0; 8];
    file.read_exact_at(&mut number[..bytes], at).unwrap();
    u64::from_le_bytes(number)
}

impl Disk {
    fn build(table: &str, folder: &Path) -> Self {
        let disk = format!("{{root: erofs, table: {table}, data: {{size: 64M}}}}");
        build_as(&manifest(folder, "power", &disk), folder, &["--format", "raw"]);
        let image = folder.join("power.img");
        let mib = fs::metadata(&image).unwrap().len().div_ceil(1 << 20);
        Self { image, mbr: table == "mbr", mib, before: (0, 0), boots: 0 }
    }

    fn open(&self) -> File {
        File::open(&self.image).unwrap()
    }

    /// Where the table at the beginning has the data.
    fn place(&self, file: &File) -> Place {
        if self.mbr {
            let entry = 446 + 16 * DATA;
            let [start, count] = [8, 12].map(|field| number(file, entry + field, 4));
            return Place { start, count };
        }
        let entry = 2 * SECTOR + 128 * DATA;
        let [start, last] = [32, 40].map(|field| number(file, entry + field, 8));
        Place { start, count: last + 1 - start }
    }

    /// How many blocks the file system of the data has, by the word of its superblock.
    fn blocks(&self, file: &File) -> u64 {
        number(file, self.place(file).start * SECTOR + 1024 + 4, 4)
    }

    fn grow(&mut self) {
        self.mib += STEP;
        let file = OpenOptions::new().read(true).write(true).open(&self.image).unwrap();
        file.set_len(self.mib << 20).unwrap();
        self.before = (self.place(&file).count, self.blocks(&file));
    }

    fn grown(&self, file: &File) -> Grown {
        let (count, blocks) = self.before;
        let second = number(file, (self.mib << 20) - SECTOR, 8).to_le_bytes();
        Grown {
            second_table: &second == b"EFI PART",
            table: self.place(file).count > count,
            file_system: self.blocks(file) > blocks,
        }
    }

    /// Boots, and kills QEMU at the moment.
    fn cut(&self, moment: Moment) {
        let state = self.image.with_extension("state");
        let mut guest = Guest::start(&self.image, &[&format!("--state={}", state.display())]);
        let console = guest.console().to_owned();
        let watched = if matches!(moment, Seen) { &console } else { &self.image }.clone();
        let (disk, file) = (self.clone(), self.open());
        let come = move || match moment {
            SecondTable => disk.grown(&file).second_table,
            Table => disk.grown(&file).table,
            FileSystem => disk.grown(&file).file_system,
            Seen => fs::read_to_string(&console).is_ok_and(|said| said.contains("/var has ")),
        };
        let killed = once(&watched, come, move || kill(&state.join("qemu.pid")));
        guest.until("the moment to cut the power", |_| killed.try_recv().ok());
        let (_, said) = guest.end();
        assert!(!said.contains("Power down"), "{moment:?}: {said}");
        eprintln!("{moment:?}: on the disk is {:?}", self.grown(&self.open()));
    }

    /// Boots to the end, and looks at what the guest and foreign tools say.
    fn recover(&mut self) {
        self.boots += 1;
        let (code, said) = Guest::start(&self.image, &[]).end();
        assert_eq!(code, Some(0), "{said}");
        in_order(&said, &["mounted /var ext4 rw"]);
        let saw = said.split("/var saw ").nth(1).unwrap_or_else(|| panic!("{said}"));
        let (boots, rest) = saw.split_once(' ').unwrap();
        assert!(rest.starts_with("boots, kept from the image"), "{said}");
        // One that was cut may have come so far, too.
        assert!(boots.parse::<usize>().unwrap() >= self.boots, "{said}");
        let count = self.place(&self.open()).count;
        assert!(u64::from(size_of_var(&said)) > ((count * SECTOR) >> 20) * 3 / 4, "{said}");
        self.judge();
    }

    fn judge(&self) {
        let file = self.open();
        let place = self.place(&file);
        assert!(place.start + place.count > ((self.mib - 2) << 20) / SECTOR, "{place:?}");
        assert_eq!(self.blocks(&file), place.count * SECTOR / BLOCK);
        let name = self.image.display();
        let offset = place.start * SECTOR;
        if have("e2fsck") {
            let told =
                run(Command::new("e2fsck").arg("-fn").arg(format!("{name}?offset={offset}")));
            assert!(told.status.success(), "{told:?}");
        }
        if !self.mbr && have("sgdisk") {
            let told = run(Command::new("sgdisk").arg("-v").arg(&self.image));
            let told = String::from_utf8_lossy(&told.stdout).into_owned();
            assert!(told.contains("No problems found"), "{told}");
        }
    }
}

/// Does something as soon as a file that somebody writes to makes `come` true,
/// and then says so.
fn once(
    file: &Path,
    come: impl Fn() -> bool + Send + 'static,
    act: impl FnOnce() + Send + 'static,
) -> Receiver<()> {
    let events = inotify::init(CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&events, file, WatchFlags::MODIFY).unwrap();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(events, &mut room);
        while !come() {
            events.next().unwrap();
        }
        act();
        // Who waited may have failed already.
        sender.send(()).unwrap_or_default();
    });
    receiver
}

/// Kills QEMU, should it still run.
fn kill(pid_file: &Path) {
    let pid = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap_or_default();
}

/// Cuts the power at each moment, and boots after each cut.
fn survives(table: &str, moments: &[Moment]) {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut disk = Disk::build(table, folder.path());
    for moment in moments {
        disk.grow();
        disk.cut(*moment);
        disk.recover();
    }
}

#[test]
fn data_grows_though_the_power_fails() {
    survives("gpt", &[SecondTable]);
    if is_soak() {
        survives("gpt", &[Table, FileSystem, Seen, SecondTable]);
        survives("mbr", &[Table, FileSystem, Seen]);
    }
}
