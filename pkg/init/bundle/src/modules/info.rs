//! What a module says of itself: the `.modinfo` section of its ELF file.
//!
//! The section is a row of `key=value` strings, each ended by a zero byte. Read here: `name`,
//! `alias`, `depends`, `softdep`. 64-bit little-endian ELF only, which is every machine that
//! moby builds for. Spec: "Tool Interface Standard, ELF 1.2", section headers.

/// What the index tells of a module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Its name, with `_` for `-`.
    pub name: String,
    /// Its file below `/lib/modules/VER`.
    pub path: String,
    /// Names that must be loaded before it.
    pub depends: Vec<String>,
    /// Names or aliases to load before it where they exist.
    pub before: Vec<String>,
    /// Names or aliases to load after it where they exist.
    pub after: Vec<String>,
    /// Patterns of the devices and features it serves.
    pub aliases: Vec<String>,
}

/// Gives the name of the module in a file: the part before `.ko`, with `_` for `-`; `None` for
/// another file.
pub fn name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let stem = ["", ".xz", ".gz", ".zst"]
        .iter()
        .find_map(|packed| file.strip_suffix(packed)?.strip_suffix(".ko"))?;
    (!stem.is_empty()).then(|| stem.replace('-', "_"))
}

/// Reads an uncompressed module `elf` that stands at `path` below `/lib/modules/VER`.
pub fn info(path: &str, elf: &[u8]) -> Result<ModuleInfo, &'static str> {
    let Some(name) = name(path) else { return Err("not a .ko file") };
    let mut module = ModuleInfo { name, path: path.to_owned(), ..ModuleInfo::default() };
    let section = section(elf, b".modinfo")?;
    for entry in section.split(|byte| *byte == 0) {
        let Ok(entry) = std::str::from_utf8(entry) else { continue };
        match entry.split_once('=') {
            Some(("alias", alias)) if !alias.contains(char::is_whitespace) && !alias.is_empty() => {
                module.aliases.push(alias.to_owned());
            }
            Some(("depends", list)) => {
                module
                    .depends
                    .extend(list.split(',').filter(|name| !name.is_empty()).map(underscored));
            }
            Some(("softdep", list)) => soft(list, &mut module),
            _ => {}
        }
    }
    Ok(module)
}

/// Reads `pre: a b post: c`.
pub(super) fn soft(list: &str, module: &mut ModuleInfo) {
    let mut into: Option<&mut Vec<String>> = None;
    for word in list.split_whitespace() {
        match word {
            "pre:" => into = Some(&mut module.before),
            "post:" => into = Some(&mut module.after),
            name => {
                if let Some(into) = into.as_mut() {
                    into.push(name.to_owned());
                }
            }
        }
    }
}

pub(super) fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

/// Finds a section's bytes by its name.
fn section<'a>(elf: &'a [u8], wanted: &[u8]) -> Result<&'a [u8], &'static str> {
    // e_ident: the magic, class 2 (64 bits), data 1 (little endian).
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return Err("not a 64-bit little-endian ELF file (is it compressed?)");
    }
    let cut = "the ELF file is cut short";
    let table = number::<8>(elf, 0x28).ok_or(cut)?; // e_shoff
    let size = number::<2>(elf, 0x3a).ok_or(cut)?; // e_shentsize
    let count = number::<2>(elf, 0x3c).ok_or(cut)?; // e_shnum
    let names = number::<2>(elf, 0x3e).ok_or(cut)?; // e_shstrndx
    let header = |index: usize| table.checked_add(index.checked_mul(size)?);
    let content = |index: usize| {
        let at = header(index)?;
        let start = number::<8>(elf, at.checked_add(0x18)?)?; // sh_offset
        let length = number::<8>(elf, at.checked_add(0x20)?)?; // sh_size
        elf.get(start..start.checked_add(length)?)
    };
    let names = content(names).ok_or(cut)?;
    for index in 0..count {
        let at = header(index).and_then(|at| number::<4>(elf, at)).ok_or(cut)?; // sh_name
        let name = names.get(at..).unwrap_or_default();
        if name.strip_prefix(wanted).is_some_and(|rest| rest.first() == Some(&0)) {
            return content(index).ok_or(cut);
        }
    }
    Err("the ELF file has no .modinfo section")
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(N)?)?;
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(field);
    usize::try_from(u64::from_le_bytes(wide)).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Makes an ELF file with nothing but a section of names and `.modinfo`.
    fn elf(modinfo: &[u8]) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut elf = vec![0; 0x40];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let names_at = elf.len();
        elf.extend_from_slice(names);
        let info_at = elf.len();
        elf.extend_from_slice(modinfo);
        let table = elf.len();
        for (name, at, size) in [(1_u32, info_at, modinfo.len()), (10, names_at, names.len())] {
            let mut header = [0; 0x40];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(at as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
            elf.extend_from_slice(&header);
        }
        elf[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
        for (at, value) in [(0x3a, 0x40_u16), (0x3c, 2), (0x3e, 1)] {
            elf[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        elf
    }

    #[test]
    fn reads_modinfo() {
        let elf = elf(b"name=x\0alias=pci:v*\0alias=fs-x\0depends=a-b,c\0softdep=pre: d e post: f\0license=GPL\0");
        let module = info("kernel/fs/x-y.ko", &elf).unwrap();
        assert_eq!(module.name, "x_y");
        assert_eq!(module.aliases, ["pci:v*", "fs-x"]);
        assert_eq!(module.depends, ["a_b", "c"]);
        assert_eq!((module.before, module.after), (vec!["d".into(), "e".into()], vec!["f".into()]));
    }

    #[test]
    fn hostile_files_are_errors() {
        let whole = elf(b"alias=a\0");
        assert!(info("x.ko", b"\xfd7zXZ\0").unwrap_err().contains("compressed"));
        assert!(info("x.txt", &whole).is_err());
        assert!(info("x.ko", &whole[..0x50]).is_err());
        for length in 0..whole.len() {
            let _any = info("x.ko", &whole[..length]);
        }
        for at in 0x28..0x40 {
            let mut bad = whole.clone();
            bad[at] = 0xff;
            let _any = info("x.ko", &bad);
        }
    }

    #[test]
    fn names() {
        for (path, expected) in [
            ("kernel/a/virtio-net.ko", Some("virtio_net")),
            ("b.ko.xz", Some("b")),
            ("b.ko.zst", Some("b")),
            ("b.o", None),
            (".ko", None),
        ] {
            assert_eq!(name(path).as_deref(), expected, "{path}");
        }
    }
}
