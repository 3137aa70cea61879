//! What is started, and how: from firmware over boot loaders to a kernel with
//! its command line and initrd.
//!
//! Follows SYSLINUX's configuration files, the "Boot Loader Specification" and
//! the "Unified Kernel Image" specification of the UAPI group, and the
//! Raspberry Pi's config.txt as far as it names kernel and initrd. Of GRUB
//! only its presence is told.

use anyhow::{Context, Result};
use serde::Serialize;

use super::detect::Boots;
use super::span::Span;
use super::{Image, within};
use crate::boot::pe;
use crate::tree::{Content, Id, Kind, Tree};

/// The largest text of a boot loader that is read, in bytes.
const TEXT_MAX: u64 = 1 << 20;
/// The most entries of a boot loader's menu that are told.
const ENTRIES_MAX: usize = 32;
/// Where SYSLINUX and ISOLINUX look for their configuration.
const SYSLINUX: [&str; 7] = [
    "boot/isolinux/isolinux.cfg",
    "isolinux/isolinux.cfg",
    "isolinux.cfg",
    "boot/syslinux/syslinux.cfg",
    "syslinux/syslinux.cfg",
    "syslinux.cfg",
    "isolinux/syslinux.cfg",
];
/// What UEFI starts where it was told nothing.
const REMOVABLE: &str = "EFI/BOOT";

/// A way to start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Start {
    /// Who starts: `BIOS`, `UEFI`, `Raspberry Pi`, or `direct` where what needs
    /// no boot loader, such as QEMU, starts the kernel.
    pub firmware: &'static str,
    /// What it starts, one after the other.
    pub steps: Vec<String>,
    /// Which of the image's kernels it comes to.
    pub kernel: Option<usize>,
    /// Which of the image's initrds it is given.
    pub initrd: Option<usize>,
    /// The kernel's command line.
    pub cmdline: Option<String>,
    /// The sections of a unified kernel image, and their sizes in bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<(String, u32)>,
}

impl Start {
    pub(super) fn new(firmware: &'static str, steps: &[String]) -> Self {
        Self { firmware, steps: steps.to_vec(), ..Self::default() }
    }

    fn step(mut self, step: impl Into<String>) -> Self {
        self.steps.push(step.into());
        self
    }
}

/// What a boot loader's entry names, by path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kernel: String,
    pub(super) initrd: Option<String>,
    pub(super) cmdline: String,
}

/// Returns what a command line names as the root's partition.
pub(super) fn root_of(cmdline: &str) -> Option<&str> {
    let words = cmdline.split_ascii_whitespace();
    words.filter_map(|word| word.strip_prefix("root=PARTUUID=")).next_back()
}

/// Returns the name that an os-release file gives a system.
pub(super) fn pretty_name(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// Tells what an EFI program is.
pub(super) fn program(span: &Span) -> Result<String> {
    let sections = pe::sections(&span.image())?;
    let loader = sections.iter().find(|section| section.name == ".sdmagic");
    if let Some(section) = loader {
        let text = span.bytes(section.offset.into(), section.len.min(256) as usize)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let text = text.trim_matches(['#', ' ', '\0', '\n']);
        return Ok(text.strip_prefix("LoaderInfo: ").unwrap_or(text).to_owned());
    }
    let head = span.bytes(0, 4 << 20)?;
    let is_grub =
        head.windows(10).any(|window| window == b"GRUB_LANG\0" || window == b"grub_errno");
    Ok(if is_grub { "GRUB" } else { "EFI program" }.to_owned())
}

impl Image {
    /// Adds what firmware starts from the volumes that were added.
    pub(super) fn add_starts(&mut self, place: &str, boots: Boots) {
        for index in 0..self.volumes.len() {
            if !matches!(self.volumes[index].system, "FAT" | "ISO 9660") {
                continue;
            }
            let found = [
                boots.bios.then(|| self.start_syslinux(index)),
                Some(self.start_efi(index)),
                Some(self.start_pi(index)),
            ];
            for error in found.into_iter().flatten().filter_map(Result::err) {
                let place = within(place, &self.volumes[index].place);
                self.problems.push(format!("{place}: {error:#}"));
            }
        }
    }

    fn start_syslinux(&mut self, index: usize) -> Result<()> {
        let tree = &self.volumes[index].tree;
        let Some((path, id)) = SYSLINUX.iter().find_map(|path| Some((path, find(tree, path)?)))
        else {
            return Ok(());
        };
        let name = if path.contains("isolinux") { "ISOLINUX" } else { "SYSLINUX" };
        let text = text(tree, id).with_context(|| format!("reading /{path}"))?;
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let Some(entry) = syslinux(&text) else { return Ok(()) };
        let start = Start::new("BIOS", &[name.to_owned()]);
        self.add_entry(start, index, folder, &entry)
    }

    fn start_efi(&mut self, index: usize) -> Result<()> {
        let tree = &self.volumes[index].tree;
        let Some(folder) = find(tree, REMOVABLE) else { return Ok(()) };
        let programs: Vec<(String, Content)> = tree
            .entries(folder)
            .into_iter()
            .flatten()
            .filter_map(|(name, entry)| {
                let name = String::from_utf8_lossy(name).into_owned();
                let shown = name.to_ascii_uppercase();
                let Kind::File(content) = &tree.get(entry.id).kind else { return None };
                (shown.starts_with("BOOT") && shown.ends_with(".EFI"))
                    .then(|| (name, content.clone()))
            })
            .collect();
        for (name, content) in programs.into_iter().take(ENTRIES_MAX) {
            let span = Span::of_content(&content)?;
            let start = Start::new("UEFI", std::slice::from_ref(&name));
            let place = format!("/{REMOVABLE}/{name}");
            if !self.start_uki(start.clone(), &place, &span)? {
                let start = start.step(program(&span)?);
                self.start_menu(start, index)?;
            }
        }
        Ok(())
    }

    /// Adds the entries of systemd-boot's menu.
    fn start_menu(&mut self, start: Start, index: usize) -> Result<()> {
        let tree = &self.volumes[index].tree;
        let below = |path: &str, ending: &str| -> Vec<(String, Id)> {
            let entries = find(tree, path).and_then(|folder| tree.entries(folder));
            let named = entries
                .into_iter()
                .flatten()
                .map(|(name, entry)| (String::from_utf8_lossy(name).into_owned(), entry.id));
            named.filter(|(name, _)| name.to_ascii_lowercase().ends_with(ending)).collect()
        };
        let mut entries = Vec::new();
        for (name, id) in below("loader/entries", ".conf").into_iter().take(ENTRIES_MAX) {
            let text = text(tree, id).with_context(|| format!("reading {name}"))?;
            entries.push((name, menu_entry(&text)));
        }
        let unified: Vec<(String, Id)> = below("EFI/Linux", ".efi");
        let programs: Vec<(String, Content)> = unified
            .into_iter()
            .take(ENTRIES_MAX)
            .filter_map(|(name, id)| match &tree.get(id).kind {
                Kind::File(content) => Some((name, content.clone())),
                _ => None,
            })
            .collect();
        if entries.is_empty() && programs.is_empty() {
            self.starts.push(start);
            return Ok(());
        }
        for (name, entry) in entries {
            if let Some(entry) = entry {
                self.add_entry(start.clone().step(name), index, "", &entry)?;
            }
        }
        for (name, content) in programs {
            let span = Span::of_content(&content)?;
            let place = format!("/EFI/Linux/{name}");
            self.start_uki(start.clone().step(name), &place, &span)?;
        }
        Ok(())
    }

    /// Adds a start by a unified kernel image; says whether it is one.
    pub(super) fn start_uki(&mut self, start: Start, place: &str, span: &Span) -> Result<bool> {
        let sections = pe::sections(&span.image()).context("reading an EFI program")?;
        let part = |name: &str| -> Result<Option<Span>> {
            let found = sections.iter().find(|section| section.name == name);
            let range = |section: &pe::Section| {
                let begin = u64::from(section.offset);
                begin..begin + u64::from(section.len)
            };
            found.map(|section| span.part(range(section))).transpose()
        };
        let Some(linux) = part(".linux")? else { return Ok(false) };
        let text = |name: &str| -> Result<Option<String>> {
            let Some(span) = part(name)? else { return Ok(None) };
            let bytes = span.bytes(0, TEXT_MAX as usize)?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(Some(text.trim_matches(['\0', '\n', ' ']).to_owned()))
        };
        let about = text(".osrel")?.and_then(|text| pretty_name(&text));
        let about = about.map(|name| format!(" of {name}")).unwrap_or_default();
        let mut start = start.step(format!("unified kernel image{about}"));
        start.cmdline = text(".cmdline")?;
        start.sections =
            sections.iter().map(|section| (section.name.clone(), section.len)).collect();
        let kernel = self.add_kernel(within(place, ".linux"), &linux)?;
        if self.kernels[kernel].release.is_none() {
            self.kernels[kernel].release = text(".uname")?;
        }
        start.kernel = Some(kernel);
        if let Some(initrd) = part(".initrd")? {
            start.initrd = Some(self.add_initrd(within(place, ".initrd"), &initrd)?);
        }
        self.starts.push(start);
        Ok(true)
    }

    /// Adds what a Raspberry Pi starts.
    fn start_pi(&mut self, index: usize) -> Result<()> {
        let Some(entry) = of_card(&self.volumes[index].tree)? else { return Ok(()) };
        let start = Start::new("Raspberry Pi", &["config.txt".to_owned()]);
        self.add_entry(start, index, "", &entry)
    }

    /// Adds a start by an entry that names files of a volume.
    fn add_entry(&mut self, start: Start, index: usize, folder: &str, entry: &Entry) -> Result<()> {
        let tree = &self.volumes[index].tree;
        let file = |path: &str| -> Option<Content> {
            let inner =
                if path.starts_with('/') { path.into() } else { format!("{folder}/{path}") };
            content(tree, &inner)
        };
        let (kernel, initrd) = (file(&entry.kernel), entry.initrd.as_deref().map(file));
        let mut start = start.step(entry.kernel.clone());
        start.cmdline = Some(entry.cmdline.clone());
        match kernel {
            Some(content) => {
                let span = Span::of_content(&content)?;
                start.kernel = Some(self.add_kernel(entry.kernel.clone(), &span)?);
            }
            None => self.problems.push(format!("the kernel {} is not there", entry.kernel)),
        }
        let path = entry.initrd.clone().unwrap_or_default();
        match initrd {
            Some(Some(content)) => {
                let span = Span::of_content(&content)?;
                start.initrd = Some(self.add_initrd(path, &span)?);
            }
            Some(None) => self.problems.push(format!("the initrd {path} is not there")),
            None => {}
        }
        self.starts.push(start);
        Ok(())
    }
}

/// Reads what a Raspberry Pi starts from a boot folder; `None` where there is
/// no `config.txt`.
pub(super) fn of_card(tree: &Tree) -> Result<Option<Entry>> {
    let Some(id) = find(tree, "config.txt") else { return Ok(None) };
    let config = text(tree, id).context("reading /config.txt")?;
    let cmdline = find(tree, "cmdline.txt").map(|id| text(tree, id)).transpose()?;
    let mut entry = pi(&config, &|path| find(tree, path).is_some());
    entry.cmdline = cmdline.unwrap_or_default().trim().to_owned();
    Ok(Some(entry))
}

/// Returns the contents of a file, found as FAT does.
pub(super) fn content(tree: &Tree, path: &str) -> Option<Content> {
    match &tree.get(find(tree, path)?).kind {
        Kind::File(content) => Some(content.clone()),
        _ => None,
    }
}

/// Finds a path as FAT does: whatever the case of its letters.
pub(super) fn find(tree: &Tree, path: &str) -> Option<Id> {
    let names = path.split('/').filter(|name| !name.is_empty() && *name != ".");
    names.into_iter().try_fold(tree.root(), |dir, name| {
        tree.child(dir, name.as_bytes()).or_else(|| {
            let entries = tree.entries(dir)?;
            let same = |known: &[u8]| known.eq_ignore_ascii_case(name.as_bytes());
            entries.iter().find(|(known, _)| same(known)).map(|(_, entry)| entry.id)
        })
    })
}

fn text(tree: &Tree, id: Id) -> Result<String> {
    let Kind::File(content) = &tree.get(id).kind else { return Ok(String::new()) };
    Ok(String::from_utf8_lossy(&content.gather(TEXT_MAX)?).into_owned())
}

/// Reads SYSLINUX's configuration: the entry that it starts by itself, or
/// else the first one.
fn syslinux(text: &str) -> Option<Entry> {
    let mut entries: Vec<(String, Entry)> = Vec::new();
    let mut default = None;
    for line in text.lines() {
        let (word, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        let rest = rest.trim();
        match (word.to_ascii_lowercase().as_str(), entries.last_mut()) {
            ("default", _) => default = Some(rest.to_owned()),
            ("label", _) => entries.push((rest.to_owned(), Entry::default())),
            ("kernel" | "linux", Some((_, entry))) => entry.kernel = rest.to_owned(),
            ("initrd", Some((_, entry))) => entry.initrd = Some(rest.to_owned()),
            ("append", Some((_, entry))) => {
                let is_initrd = |word: &&str| word.starts_with("initrd=");
                let words = rest.split_ascii_whitespace();
                if let Some(word) = words.clone().find(is_initrd) {
                    entry.initrd = word.strip_prefix("initrd=").map(str::to_owned);
                }
                let kept: Vec<&str> = words.filter(|word| !is_initrd(word)).collect();
                entry.cmdline = kept.join(" ");
            }
            _ => {}
        }
    }
    let wanted = entries.iter().position(|(name, _)| Some(name) == default.as_ref());
    let index = wanted.unwrap_or(0);
    (index < entries.len()).then(|| entries.swap_remove(index).1)
}

/// Reads an entry of systemd-boot's menu; `None` where it starts no kernel.
fn menu_entry(text: &str) -> Option<Entry> {
    let mut entry = Entry::default();
    for line in text.lines() {
        let (word, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        let rest = rest.trim();
        match word {
            "linux" => entry.kernel = rest.to_owned(),
            "initrd" => entry.initrd = Some(rest.to_owned()),
            "options" if entry.cmdline.is_empty() => entry.cmdline = rest.to_owned(),
            "options" => entry.cmdline = format!("{} {rest}", entry.cmdline),
            _ => {}
        }
    }
    (!entry.kernel.is_empty()).then_some(entry)
}

/// Reads config.txt: kernel and initrd of the last section that names them.
fn pi(config: &str, exists: &dyn Fn(&str) -> bool) -> Entry {
    let usual = ["kernel_2712.img", "kernel8.img", "kernel7l.img", "kernel.img"];
    let usual = usual.into_iter().find(|name| exists(name)).unwrap_or("kernel8.img");
    let mut entry = Entry { kernel: usual.to_owned(), ..Entry::default() };
    for line in config.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(kernel) = line.strip_prefix("kernel=") {
            entry.kernel = kernel.trim().to_owned();
        } else if let Some(rest) = line.strip_prefix("initramfs ") {
            let name = rest.split_ascii_whitespace().next();
            entry.initrd = name.map(str::to_owned);
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_boot_loaders_read() {
        let entry = |kernel: &str, initrd: &str, cmdline: &str| Entry {
            kernel: kernel.to_owned(),
            initrd: Some(initrd.to_owned()),
            cmdline: cmdline.to_owned(),
        };
        let wanted = entry("/kernel", "/initrd.img", "console=ttyS0 quiet");
        let text = "default two\nLABEL one\n KERNEL /x\nlabel two\n\tLINUX /kernel\n\
                    \tappend console=ttyS0 initrd=/initrd.img quiet\n";
        assert_eq!(syslinux(text).unwrap(), wanted);
        assert_eq!(syslinux("LABEL one\nKERNEL a\n").unwrap().kernel, "a");
        assert_eq!(syslinux("PROMPT 0\nKERNEL a"), None);
        let text =
            "title x\nlinux /kernel\ninitrd /initrd.img\noptions console=ttyS0\noptions quiet";
        assert_eq!(menu_entry(text).unwrap(), wanted);
        assert_eq!(menu_entry("efi /a"), None);
        let read =
            pi("# x\n[pi4]\nkernel=/kernel\ninitramfs /initrd.img followkernel\n", &|_| true);
        assert_eq!(Entry { cmdline: wanted.cmdline.clone(), ..read }, wanted);
        assert_eq!(root_of("root=/dev/sda root=PARTUUID=ab ro"), Some("ab"));
    }
}
