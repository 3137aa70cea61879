//! Images as others see them: checked, extracted by root, and compared file
//! by file with the tree.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::{Kept, cases, kept};
use crate::fs::sample::{everything, judge, lines, on_disk, random, root};
use crate::tree::{Id, Inode, Kind, Metadata, Tree};

/// A program that takes an image apart, and what is beyond it.
struct Judge {
    format: &'static str,
    /// Programs that check; the image is their last word.
    checks: &'static [&'static [&'static str]],
    /// The program that extracts, which must be there, and what it is told.
    extract: Option<(&'static str, fn(&Path, &Path) -> Command)>,
    /// What the extraction keeps.
    keeps: Keeps,
}

/// What an extraction keeps besides names, kinds and contents.
#[derive(Clone, Copy)]
struct Keeps {
    nodes: bool,
    sockets: bool,
    links: bool,
    owners: bool,
    xattrs: bool,
    /// Owners and times of symbolic links too.
    symlinks: bool,
    /// Everything about the root folder too.
    root: bool,
    /// Files with holes are as long as they should be.
    holes: bool,
    /// These bits of modes.
    modes: u16,
    /// Times that 32 bits do not hold.
    times: bool,
    /// Times of folders, into which links may come later.
    folders: bool,
}

const ALL: Keeps = Keeps {
    nodes: true,
    sockets: true,
    links: true,
    owners: true,
    xattrs: true,
    symlinks: true,
    root: true,
    holes: true,
    modes: 0o7777,
    times: true,
    folders: true,
};

const JUDGES: &[Judge] = &[
    Judge { format: "tar", checks: &[], extract: Some(("tar", gnu_tar)), keeps: ALL },
    Judge {
        format: "cpio",
        checks: &[],
        extract: Some(("cpio", gnu_cpio)),
        keeps: Keeps { symlinks: false, root: false, folders: false, ..ALL },
    },
    Judge {
        format: "squashfs zstd",
        checks: &[],
        extract: Some(("unsquashfs", unsquashfs)),
        keeps: ALL,
    },
    Judge {
        format: "squashfs gzip",
        checks: &[],
        extract: Some(("unsquashfs", unsquashfs)),
        keeps: ALL,
    },
    Judge {
        format: "squashfs xz",
        checks: &[],
        extract: Some(("unsquashfs", unsquashfs)),
        keeps: ALL,
    },
    Judge {
        format: "erofs",
        checks: &[&["fsck.erofs"], &["fsck.erofs", "--extract"]],
        extract: Some(("fsck.erofs", fsck_erofs)),
        keeps: EROFS,
    },
    Judge {
        format: "erofs lz4",
        checks: &[&["fsck.erofs"], &["fsck.erofs", "--extract"]],
        extract: Some(("fsck.erofs", fsck_erofs)),
        keeps: EROFS,
    },
    Judge {
        format: "ext4",
        checks: &[&["e2fsck", "-fn"], &["dumpe2fs"]],
        extract: Some(("debugfs", debugfs)),
        // The rest is seen by the kernel: tests/filesystems.rs.
        keeps: Keeps {
            nodes: false,
            links: false,
            xattrs: false,
            symlinks: false,
            root: false,
            modes: 0o777,
            times: false,
            ..ALL
        },
    },
    Judge {
        format: "fat",
        checks: &[&["fsck.fat", "-n"]],
        extract: Some(("mcopy", mcopy)),
        keeps: Keeps { owners: false, root: false, ..ALL },
    },
    Judge {
        format: "iso9660",
        checks: &[],
        extract: Some(("xorriso", xorriso)),
        keeps: Keeps { nodes: false, symlinks: false, root: false, ..ALL },
    },
];

/// In version 1.5 it extracts hard links as files of their own, cannot make
/// sockets, closes holes up, and sets owners last, which takes setuid away.
const EROFS: Keeps =
    Keeps { sockets: false, links: false, xattrs: false, holes: false, modes: 0o1777, ..ALL };

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command
}

fn gnu_tar(image: &Path, folder: &Path) -> Command {
    let mut command = command(&["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner"]);
    // Hard links come last, long after their folders.
    command.args(["--delay-directory-restore", "--same-owner", "-xpf"]);
    command.arg(image).arg("-C").arg(folder);
    command
}

fn gnu_cpio(image: &Path, folder: &Path) -> Command {
    let mut command = command(&["cpio", "-idmu", "--quiet", "--no-absolute-filenames"]);
    command.current_dir(folder).stdin(File::open(image).unwrap());
    command
}

fn unsquashfs(image: &Path, folder: &Path) -> Command {
    let mut command = command(&["unsquashfs", "-strict-errors", "-no-progress", "-force", "-d"]);
    command.arg(folder).arg(image);
    command
}

fn fsck_erofs(image: &Path, folder: &Path) -> Command {
    fs::remove_dir(folder).unwrap();
    let mut command = command(&["fsck.erofs", "--preserve"]);
    command.arg(format!("--extract={}", folder.display())).arg(image);
    command
}

fn debugfs(image: &Path, folder: &Path) -> Command {
    let mut command = command(&["debugfs", "-R"]);
    command.arg(format!("rdump / {}", folder.display())).arg(image);
    command
}

fn mcopy(image: &Path, folder: &Path) -> Command {
    let mut command = command(&["sh", "-c", "mcopy -s -p -m -n -i \"$0\" ::/* \"$1\""]);
    command.arg(image).arg(folder);
    command
}

fn xorriso(image: &Path, folder: &Path) -> Command {
    let mut command = command(&["xorriso", "-abort_on", "WARNING", "-hardlinks", "on"]);
    command.args(["-osirrox", "on", "-indev"]).arg(image).args(["-extract", "/"]).arg(folder);
    command
}

/// Says whether a whole block, or the end behind the last one, is of zeros.
fn holed(bytes: &[u8]) -> bool {
    bytes.chunks(4096).any(|block| block.iter().all(|byte| *byte == 0))
}

/// Runs a program that must be content.
fn satisfied(command: &mut Command) -> String {
    let done = command.stderr(Stdio::piped()).output().unwrap();
    let told = [done.stdout, done.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(done.status.success(), "{command:?}: {told}");
    told
}

impl Judge {
    fn kept(&self) -> &'static Kept {
        kept(self.format)
    }

    /// Takes away what neither the format nor the extraction nor the file
    /// system below the tests keeps.
    fn comparable(&self, tree: &Tree) -> Tree {
        let keeps = self.keeps;
        let mut tree = (self.kept().held)(tree.clone());
        let gone = |kind: &Kind| match kind {
            Kind::Socket => !keeps.sockets || !keeps.nodes,
            Kind::Char(..) | Kind::Block(..) | Kind::Fifo => !keeps.nodes,
            // Longer names in targets are refused, and slashes joined.
            Kind::Symlink(target) => {
                self.format == "iso9660"
                    && target.split(|b| *b == b'/').any(|n| n.is_empty() || n.len() > 255)
            }
            Kind::File(content) => !keeps.holes && holed(&content.gather(u64::MAX).unwrap()),
            _ => false,
        };
        // cpio and Linux make each name of a symbolic link anew.
        let apart = |kind: &Kind| {
            !keeps.links || (self.format == "cpio" && matches!(kind, Kind::Symlink(_)))
        };
        let unwanted = tree.walk().filter(|found| {
            let kind = &tree.get(found.id).kind;
            gone(kind) || (found.link && apart(kind)) || self.misreads(&found.path)
        });
        let paths: Vec<Vec<u8>> = unwanted.map(|found| found.path).collect();
        for path in paths {
            tree.remove(&path).unwrap();
        }
        let mut ids: Vec<Id> = tree.walk().map(|found| found.id).collect();
        ids.sort();
        ids.dedup();
        ids.into_iter().for_each(|id| self.plain(tree.get_mut(id)));
        tree
    }

    /// Says whether the extraction has no letters for a path: mtools knows
    /// those of 16 bits.
    fn misreads(&self, path: &[u8]) -> bool {
        let letters = |text: &str| text.chars().all(|letter| letter < '\u{fe00}');
        self.format == "fat" && !std::str::from_utf8(path).is_ok_and(letters)
    }

    fn plain(&self, inode: &mut Inode) {
        let meta = &mut inode.meta;
        // An owner that chown(2) takes for none.
        meta.uid = meta.uid.min(u32::MAX - 1);
        meta.gid = meta.gid.min(u32::MAX - 1);
        let ordinary = matches!(inode.kind, Kind::File(_) | Kind::Directory(_));
        let file = matches!(inode.kind, Kind::File(_));
        meta.xattrs.retain(|name, _| {
            self.keeps.xattrs
                && (ordinary || !name.starts_with(b"user."))
                && (file || !name.starts_with(b"security."))
        });
        meta.mode &= self.keeps.modes;
        if self.format == "fat" {
            // mtools takes 2100 for a leap year.
            meta.mtime = meta.mtime.min(4_102_444_798);
        }
        if !self.keeps.times {
            meta.mtime = meta.mtime.clamp(0, u32::MAX.into());
        }
        if let Kind::Symlink(_) = inode.kind {
            meta.mode = 0o777;
        }
    }

    /// The lines of a tree that are worth a comparison.
    fn lines(&self, tree: &Tree) -> Vec<String> {
        let keeps = self.keeps;
        let kept = |line: &&String| keeps.root || !line.starts_with(' ');
        let shown = |line: String| {
            let mut words = line.splitn(5, ' ');
            let mut next = || words.next().unwrap_or_default().to_owned();
            let (path, mode, owner, time, rest) = (next(), next(), next(), next(), next());
            if rest.starts_with("-> ") && !keeps.symlinks {
                format!("{path} {rest}")
            } else if rest.starts_with("directory") && !keeps.folders {
                format!("{path} {mode} {owner} {rest}")
            } else if mode == "=" || keeps.owners {
                line
            } else {
                format!("{path} {time} {rest}")
            }
        };
        let all = lines(tree);
        all.iter().filter(kept).cloned().map(shown).collect()
    }

    fn judge(&self, tree: &Tree) {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        let expected = self.comparable(tree);
        (self.kept().write)(&expected, &mut File::create(&image).unwrap()).unwrap();
        for check in self.checks.iter().filter(|check| judge(check[0])) {
            satisfied(command(check).arg(&image));
        }
        let Some((program, extract)) = self.extract else { return };
        // Programs that take a pattern find nothing in nothing.
        let empty = expected.walk().count() == 1;
        if empty || !judge(program) || !root() {
            return;
        }
        let target = folder.path().join("root");
        fs::create_dir(&target).unwrap();
        let told = satisfied(&mut extract(&image, &target));
        let mut found = on_disk(&target);
        if self.format == "ext4" {
            found.remove(b"lost+found").unwrap();
        }
        let (found, expected) = (self.lines(&found), self.lines(&expected));
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{}: {told}", self.format);
        }
        assert_eq!(found.len(), expected.len(), "{}: {told}", self.format);
    }
}

#[test]
fn everything_is_extracted() {
    let mut tree = everything();
    tree.get_mut(tree.root()).meta = Metadata::root(0o711, 1_500_000_000);
    JUDGES.iter().for_each(|judge| judge.judge(&tree));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(5), max_shrink_iters: 60, ..Default::default() })]

    #[test]
    fn random_trees_are_extracted(tree in random()) {
        JUDGES.iter().for_each(|judge| judge.judge(&tree));
    }
}
