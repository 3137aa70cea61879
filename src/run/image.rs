//! From what was named to what is started: a kernel, a disk or a CD.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};

use super::arguments::{Bus, Direct, USB};
use super::disk::Drive;
use super::machine::Machine;
use super::process::{self, Program};
use crate::error::WithHint;
use crate::inspect::detect::{self, Boots, Kind};

/// The ends of the names of root file systems beside a kernel.
const ROOTS: [&str; 4] = ["-squashfs.img", "-erofs.img", "-ext4.img", ".iso"];

/// What the user says that it is; otherwise it is told by looking.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints {
    /// An ISO image.
    pub iso: bool,
    /// A kernel with a root file system, whose file ends so.
    pub root: Option<&'static str>,
    /// A kernel with an initrd.
    pub kernel: bool,
    /// UEFI firmware is wanted.
    pub uefi: bool,
}

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// A kernel, and a disk as its root.
    Kernel(Direct, Option<Drive>),
    /// A disk.
    Disk(Drive),
    /// A CD.
    Cd(PathBuf),
    /// An EFI program, to be put on a disk.
    Efi(PathBuf),
}

/// What to start, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What to start.
    pub boot: Boot,
    /// Whether UEFI firmware is needed.
    pub uefi: bool,
}

/// Where to look, and for which machine.
#[derive(Debug, Clone, Copy)]
pub struct Looker<'a> {
    /// The machine that will start it.
    pub machine: &'a Machine,
    /// The controller of its disks.
    pub bus: &'a Bus,
    /// Added to the kernel's command line.
    pub cmdline: Option<&'a str>,
    /// The search path of programs.
    pub search: &'a str,
}

impl Looker<'_> {
    /// Finds out what `path` is: a file, or the prefix of a kernel and what belongs to it.
    pub fn find(&self, path: &Path, hints: Hints) -> Result<Image> {
        if hints.kernel || hints.root.is_some() {
            return self.prefix(path, hints);
        }
        if !path.is_file() {
            if beside(path, "-kernel").exists() {
                return self.prefix(path, hints);
            }
            return Err(anyhow!("neither {0} nor {0}-kernel exists", path.display()))
                .hint(|| "build it first: `moby build --format kernel+initrd FILE.yml`".into());
        }
        let kind = detect::detect(path)?;
        let image = match kind {
            _ if hints.iso => self.iso(path, iso_boots(kind), hints)?,
            Some(Kind::Iso(boots)) => self.iso(path, boots, hints)?,
            Some(Kind::Raw(boots)) => self.disk(Drive::new(path, "raw"), boots, hints)?,
            Some(Kind::FixedVhd(boots)) => self.disk(Drive::new(path, "vpc"), boots, hints)?,
            Some(Kind::Disk(format)) => {
                let boots = self.inside(path)?;
                self.disk(Drive::new(path, format), boots, hints)?
            }
            Some(Kind::StreamVmdk) => {
                let boots = self.inside(path)?;
                let drive = Drive { discard: true, ..Drive::new(path, "vmdk") };
                self.disk(drive, boots, hints)?
            }
            Some(Kind::Uki | Kind::Efi) => Image { boot: Boot::Efi(path.to_owned()), uefi: true },
            Some(Kind::Kernel) => self.kernel(path, hints)?,
            Some(kind @ (Kind::Root(_) | Kind::Initrd)) => self.belongs(path, kind, hints)?,
            Some(Kind::Tar) => {
                return Err(anyhow!("{} is a tar archive, which nothing boots", path.display()))
                    .hint(|| "build with `--format kernel+initrd`, `iso` or `qcow2`".into());
            }
            None => {
                let known: Vec<&str> = detect::names().collect();
                bail!("{}: expected one of {}", path.display(), known.join(", "));
            }
        };
        Ok(image)
    }

    /// A kernel by the prefix of its files' names.
    fn prefix(&self, prefix: &Path, hints: Hints) -> Result<Image> {
        let kernel = beside(prefix, "-kernel");
        if !kernel.is_file() {
            bail!("the kernel {} does not exist", kernel.display());
        }
        let initrd = Some(beside(prefix, "-initrd.img")).filter(|file| file.is_file());
        let root = match hints.root {
            Some(end) => {
                let root = beside(prefix, end);
                if !root.is_file() {
                    bail!("there is no {}", root.display());
                }
                Some(root)
            }
            None if initrd.is_some() => None,
            None => {
                let ends = ROOTS.iter().map(|end| beside(prefix, end));
                let root = ends.into_iter().find(|file| file.is_file());
                if root.is_none() || hints.kernel {
                    bail!("there is no {}", beside(prefix, "-initrd.img").display());
                }
                root
            }
        };
        // Where drivers are modules, an initrd of its own finds the root.
        let initrd = match root {
            Some(_) => Some(beside(prefix, "-root-initrd.img")).filter(|file| file.is_file()),
            None => initrd,
        };
        let file = beside(prefix, "-cmdline");
        let mut cmdline = match fs::read_to_string(&file) {
            Ok(text) => self.heard(text.trim().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.console(),
            Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
        };
        if root.is_some() && !cmdline.split_whitespace().any(|word| word.starts_with("root=")) {
            cmdline.push_str(" root=");
            cmdline.push_str(self.bus.first);
        }
        let drive = root.map(|root| Drive { read_only: true, ..Drive::new(&root, "raw") });
        let direct = Direct { kernel, initrd, tree: None, cmdline: self.extended(cmdline) };
        Ok(Image { boot: Boot::Kernel(direct, drive), uefi: hints.uefi })
    }

    /// A kernel's file: with what belongs to it, or alone.
    fn kernel(&self, path: &Path, hints: Hints) -> Result<Image> {
        if let Some(prefix) = without(path, "-kernel")
            && ROOTS.iter().chain(&["-initrd.img"]).any(|end| beside(&prefix, end).exists())
        {
            return self.prefix(&prefix, hints);
        }
        let cmdline = self.extended(self.console());
        let direct = Direct { kernel: path.to_owned(), initrd: None, tree: None, cmdline };
        Ok(Image { boot: Boot::Kernel(direct, None), uefi: hints.uefi })
    }

    /// A file that is of use beside a kernel only.
    fn belongs(&self, path: &Path, kind: Kind, hints: Hints) -> Result<Image> {
        let (what, ends) = match kind {
            Kind::Root(name) => (name, ROOTS.as_slice()),
            _ => ("an initrd", ["-initrd.img"].as_slice()),
        };
        let found = ends.iter().find_map(|end| Some((without(path, end)?, *end)));
        match found.filter(|(prefix, _)| beside(prefix, "-kernel").is_file()) {
            Some((prefix, end)) => {
                let root = matches!(kind, Kind::Root(_)).then_some(end);
                self.prefix(&prefix, Hints { root, ..hints })
            }
            None => Err(anyhow!("{} is {what} without a kernel", path.display()))
                .hint(|| "name the prefix of NAME-kernel and NAME-initrd.img".into()),
        }
    }

    fn iso(&self, path: &Path, boots: Boots, hints: Hints) -> Result<Image> {
        if self.bus.name == USB {
            return self.stick(path, hints);
        }
        let uefi = self.needs_uefi(path, boots, hints)?;
        Ok(Image { boot: Boot::Cd(path.to_owned()), uefi })
    }

    /// An ISO as a USB stick holds it, which the guest does not write to.
    fn stick(&self, path: &Path, hints: Hints) -> Result<Image> {
        let boots = detect::as_disk(path)?.ok_or_else(|| {
            anyhow!("{} starts from a CD only: it has no partitions", path.display())
        })?;
        self.disk(Drive { discard: true, ..Drive::new(path, "raw") }, boots, hints)
    }

    fn disk(&self, drive: Drive, boots: Boots, hints: Hints) -> Result<Image> {
        let uefi = self.needs_uefi(Path::new(&drive.file), boots, hints)?;
        Ok(Image { boot: Boot::Disk(drive), uefi })
    }

    /// BIOS where both would do: it starts faster.
    fn needs_uefi(&self, path: &Path, boots: Boots, hints: Hints) -> Result<bool> {
        if hints.uefi {
            return Ok(true);
        }
        match boots {
            Boots { bios: true, .. } if self.machine.bios => Ok(false),
            Boots { efi: true, .. } => Ok(true),
            // The user knows better than we.
            _ if hints.iso => Ok(!self.machine.bios),
            _ => Err(anyhow!(
                "{} has no boot code that {} starts",
                path.display(),
                self.machine.arch
            ))
            .hint(|| "if UEFI can start it nevertheless, say --uefi".into()),
        }
    }

    /// Looks inside a virtual disk: with QEMU's tool, which unpacks no more than it
    /// is asked for, or by ourselves.
    fn inside(&self, path: &Path) -> Result<Boots> {
        let folder = tempfile::tempdir().context("making a temporary folder")?;
        let head = folder.path().join("head");
        match process::find("qemu-img", self.search) {
            Some(tool) => {
                let from = format!("if={}", path.display());
                let to = format!("of={}", head.display());
                let args = ["dd", "-O", "raw", "bs=64k", "count=2", &from, &to];
                Program::new(tool, args.map(str::to_owned).to_vec()).output()?;
            }
            None => unpacked_head(path, folder.path(), &head)?,
        }
        Ok(match detect::detect(&head)? {
            Some(Kind::Raw(boots) | Kind::Iso(boots)) => boots,
            _ => Boots::default(),
        })
    }

    /// The command line for a kernel that came without one.
    fn console(&self) -> String {
        format!("console={}", self.machine.console)
    }

    /// Lets a kernel that speaks to the serial port of a PC be heard on another machine.
    fn heard(&self, mut cmdline: String) -> String {
        let console = self.machine.console;
        let named = |wanted: &str| {
            let names = cmdline.split_whitespace().filter_map(|word| word.strip_prefix("console="));
            names.filter_map(|name| name.split(',').next()).any(|name| name == wanted)
        };
        if named("ttyS0") && !named(console) {
            cmdline.push_str(" console=");
            cmdline.push_str(console);
        }
        cmdline
    }

    fn extended(&self, mut cmdline: String) -> String {
        if let Some(more) = self.cmdline {
            cmdline.push(' ');
            cmdline.push_str(more);
        }
        cmdline
    }
}

/// Writes the first 128 KiB of the disk inside a file to `head`.
fn unpacked_head(path: &Path, scratch: &Path, head: &Path) -> Result<()> {
    let reading = || format!("reading {}", path.display());
    let file = Arc::new(File::open(path).with_context(reading)?);
    let disk = crate::disk::open(&file, scratch).with_context(reading)?.image;
    let length = usize::try_from(disk.len()).unwrap_or(usize::MAX).min(128 << 10);
    let bytes = disk.bytes(0, length).with_context(reading)?;
    fs::write(head, bytes).with_context(|| format!("writing {}", head.display()))
}

fn iso_boots(kind: Option<Kind>) -> Boots {
    match kind {
        Some(Kind::Iso(boots)) => boots,
        _ => Boots::default(),
    }
}

/// Finds the file that tells for which machine an image is: of a kernel and what belongs
/// to it, the kernel.
pub fn telling(path: &Path) -> PathBuf {
    let ends = ROOTS.iter().chain(&["-initrd.img"]);
    let mut prefixes = ends.filter_map(|end| without(path, end)).chain([path.to_owned()]);
    let is_prefix = |prefix: &PathBuf| *prefix != path || !path.is_file();
    let kernel = prefixes.find(|prefix| is_prefix(prefix) && beside(prefix, "-kernel").is_file());
    kernel.map_or_else(|| path.to_owned(), |prefix| beside(&prefix, "-kernel"))
}

/// Adds to the name of a file.
pub fn beside(prefix: &Path, end: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Takes the end off the name of a file.
pub fn without(path: &Path, end: &str) -> Option<PathBuf> {
    path.to_str()?.strip_suffix(end).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::super::{arguments, machine};
    use super::*;

    fn looker(arch: &str) -> Looker<'static> {
        let machine = machine::find(arch).unwrap();
        Looker { machine, bus: &arguments::BUSES[0], cmdline: Some("more"), search: "" }
    }

    fn kernel() -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes
    }

    #[test]
    fn finds_kernel_and_initrd_by_prefix() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("lk");
        let find = |path: &Path| looker("x86_64").find(path, Hints::default());
        assert!(find(&prefix).is_err());
        fs::write(beside(&prefix, "-kernel"), kernel()).unwrap();
        assert!(find(&prefix).unwrap_err().to_string().contains("lk-initrd.img"));
        fs::write(beside(&prefix, "-initrd.img"), b"070701").unwrap();
        fs::write(beside(&prefix, "-cmdline"), "quiet\n").unwrap();
        let expected = Direct {
            kernel: beside(&prefix, "-kernel"),
            initrd: Some(beside(&prefix, "-initrd.img")),
            tree: None,
            cmdline: "quiet more".into(),
        };
        for path in [prefix.clone(), beside(&prefix, "-kernel"), beside(&prefix, "-initrd.img")] {
            let image = find(&path).unwrap();
            assert_eq!(image, Image { boot: Boot::Kernel(expected.clone(), None), uefi: false });
        }
        fs::write(beside(&prefix, "-squashfs.img"), b"hsqs").unwrap();
        let image = find(&beside(&prefix, "-squashfs.img")).unwrap();
        let Boot::Kernel(direct, Some(drive)) = image.boot else { panic!("{image:?}") };
        assert_eq!(direct.cmdline, "quiet root=/dev/vda more");
        assert!(drive.read_only);
    }

    #[test]
    fn is_heard_on_each_machine() {
        for (arch, given, expected) in [
            ("x86_64", "console=ttyS0,115200 quiet", "console=ttyS0,115200 quiet"),
            ("aarch64", "console=ttyS0 quiet", "console=ttyS0 quiet console=ttyAMA0"),
            ("aarch64", "console=ttyAMA0 console=ttyS0", "console=ttyAMA0 console=ttyS0"),
            ("aarch64", "console=tty0", "console=tty0"),
        ] {
            assert_eq!(looker(arch).heard(given.to_owned()), expected);
        }
    }

    #[test]
    fn the_kernel_tells_of_what_belongs_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("lk");
        let kernel = beside(&prefix, "-kernel");
        let (initrd, disc) = (beside(&prefix, "-initrd.img"), beside(&prefix, ".iso"));
        [&initrd, &disc].into_iter().for_each(|path| fs::write(path, "").unwrap());
        assert_eq!(telling(&disc), disc);
        fs::write(&kernel, "").unwrap();
        for path in [&prefix, &kernel, &initrd] {
            assert_eq!(telling(path), kernel);
        }
    }

    #[test]
    fn chooses_the_firmware() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        let mut bytes = vec![0; 512];
        bytes[0] = 0xfa;
        bytes[510..].copy_from_slice(&[0x55, 0xaa]);
        fs::write(&disk, &bytes).unwrap();
        let find = |arch, uefi| looker(arch).find(&disk, Hints { uefi, ..Hints::default() });
        assert!(!find("x86_64", false).unwrap().uefi);
        assert!(find("x86_64", true).unwrap().uefi);
        assert!(find("aarch64", false).is_err());
        bytes[0] = 0;
        fs::write(&disk, &bytes).unwrap();
        let error = find("x86_64", false).unwrap_err();
        assert!(crate::error::hint(&error).unwrap().contains("--uefi"));
        fs::write(&disk, b"qqqq").unwrap();
        assert!(
            find("x86_64", false).unwrap_err().to_string().contains("expected one of ISO 9660")
        );
    }

    #[test]
    fn looks_inside_virtual_disks() {
        let mut bytes = vec![0; 1 << 20];
        bytes[0] = 0xfa;
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let inner = crate::disk::Extents::of_bytes(bytes);
        let outer = crate::disk::qcow2::plan(&inner).unwrap();
        outer.write_file(&File::create(&path).unwrap()).unwrap();
        let search = crate::env::var("PATH").unwrap_or_default();
        for search in ["", &search] {
            let image = Looker { search, ..looker("x86_64") }.find(&path, Hints::default());
            let drive = Drive::new(&path, "qcow2");
            assert_eq!(image.unwrap(), Image { boot: Boot::Disk(drive), uefi: false });
        }
    }

    #[test]
    fn refuses_archives() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = vec![0; 512];
        bytes[257..262].copy_from_slice(b"ustar");
        fs::write(file.path(), bytes).unwrap();
        let error = looker("x86_64").find(file.path(), Hints::default()).unwrap_err();
        assert!(error.to_string().contains("tar archive"));
    }
}
