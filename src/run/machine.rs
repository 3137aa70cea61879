//! The machines that QEMU plays for us: one row for each CPU architecture.
//!
//! Firmware is looked for in the places where Debian, Fedora, Arch, SUSE and
//! Homebrew put it. A file of code with one of variables beside it is used as
//! two flash chips, a combined file as one. A Raspberry Pi stands apart: what
//! it is given is not for us to choose.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use crate::error::WithHint;

/// A machine that QEMU can play.
#[derive(Debug, PartialEq, Eq)]
pub struct Machine {
    /// QEMU's name of the architecture: the end of `qemu-system-…`.
    pub arch: &'static str,
    /// Go's name of it, as in OCI platforms.
    pub go: &'static str,
    /// The value of `-machine`.
    pub machine: &'static str,
    /// The suffix of virtio devices: `pci`, or `ccw` on s390x; `none` on a board
    /// that has what it has.
    pub transport: &'static str,
    /// The guest's name of its serial console.
    pub console: &'static str,
    /// Whether it has an IDE controller for the CD.
    pub ide: bool,
    /// Whether its firmware can start a disk without UEFI.
    pub bios: bool,
    /// The Debian package of QEMU.
    pub package: &'static str,
    /// The Debian package of its UEFI firmware, or empty where there is none.
    pub firmware_package: &'static str,
    /// Known places of UEFI firmware, the better first: code, and variables if apart.
    pub firmware: &'static [(&'static str, Option<&'static str>)],
}

/// Every machine that moby can run.
pub const MACHINES: &[Machine] = &[
    Machine {
        arch: "x86_64",
        go: "amd64",
        // Not q35: Debian's cloud kernel has no driver for its SATA, but one for this IDE.
        machine: "pc",
        transport: "pci",
        console: "ttyS0",
        ide: true,
        bios: true,
        package: "qemu-system-x86",
        firmware_package: "ovmf",
        firmware: &[
            ("/usr/share/OVMF/OVMF_CODE_4M.fd", Some("/usr/share/OVMF/OVMF_VARS_4M.fd")),
            ("/usr/share/OVMF/OVMF_CODE.fd", Some("/usr/share/OVMF/OVMF_VARS.fd")),
            ("/usr/share/edk2/ovmf/OVMF_CODE.fd", Some("/usr/share/edk2/ovmf/OVMF_VARS.fd")),
            ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", Some("/usr/share/edk2/x64/OVMF_VARS.4m.fd")),
            ("/usr/share/qemu/ovmf-x86_64-code.bin", Some("/usr/share/qemu/ovmf-x86_64-vars.bin")),
            ("/usr/share/ovmf/OVMF.fd", None),
            ("/usr/share/ovmf/bios.bin", None),
            ("/usr/share/qemu/edk2-x86_64-code.fd", Some("/usr/share/qemu/edk2-i386-vars.fd")),
            (
                "/opt/homebrew/share/qemu/edk2-x86_64-code.fd",
                Some("/opt/homebrew/share/qemu/edk2-i386-vars.fd"),
            ),
        ],
    },
    Machine {
        arch: "aarch64",
        go: "arm64",
        machine: "virt",
        transport: "pci",
        console: "ttyAMA0",
        ide: false,
        bios: false,
        package: "qemu-system-arm",
        firmware_package: "qemu-efi-aarch64",
        firmware: &[
            ("/usr/share/AAVMF/AAVMF_CODE.fd", Some("/usr/share/AAVMF/AAVMF_VARS.fd")),
            (
                "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw",
                Some("/usr/share/edk2/aarch64/vars-template-pflash.raw"),
            ),
            ("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd", None),
            ("/usr/share/qemu/edk2-aarch64-code.fd", Some("/usr/share/qemu/edk2-arm-vars.fd")),
            (
                "/opt/homebrew/share/qemu/edk2-aarch64-code.fd",
                Some("/opt/homebrew/share/qemu/edk2-arm-vars.fd"),
            ),
        ],
    },
    Machine {
        arch: "riscv64",
        go: "riscv64",
        machine: "virt",
        transport: "pci",
        console: "ttyS0",
        ide: false,
        bios: false,
        package: "qemu-system-misc",
        firmware_package: "qemu-efi-riscv64",
        firmware: &[
            (
                "/usr/share/qemu-efi-riscv64/RISCV_VIRT_CODE.fd",
                Some("/usr/share/qemu-efi-riscv64/RISCV_VIRT_VARS.fd"),
            ),
            (
                "/usr/share/edk2/riscv/RISCV_VIRT_CODE.fd",
                Some("/usr/share/edk2/riscv/RISCV_VIRT_VARS.fd"),
            ),
        ],
    },
    Machine {
        arch: "s390x",
        go: "s390x",
        machine: "s390-ccw-virtio",
        transport: "ccw",
        console: "ttysclp0",
        ide: false,
        bios: true,
        package: "qemu-system-misc",
        firmware_package: "",
        firmware: &[],
    },
];

/// QEMU's Raspberry Pi, which starts cards: it has fixed CPUs, memory and devices.
pub const RASPBERRY: Machine = Machine {
    arch: "aarch64",
    go: "arm64",
    machine: "raspi3b",
    transport: "none",
    console: "ttyS1",
    ide: false,
    bios: false,
    package: "qemu-system-arm",
    firmware_package: "",
    firmware: &[],
};

/// UEFI firmware on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// Code alone, or code and variables in one file: started with `-bios`.
    Combined(PathBuf),
    /// Code, and an empty store of variables to be copied for each machine.
    Split {
        /// The code, never written to.
        code: PathBuf,
        /// The variables; the pattern on the host, or the machine's own copy.
        vars: PathBuf,
    },
}

/// Finds a machine by QEMU's or Go's name of its architecture.
pub fn find(arch: &str) -> Result<&'static Machine> {
    let found = MACHINES.iter().find(|machine| machine.arch == arch || machine.go == arch);
    found.ok_or_else(|| {
        let known: Vec<&str> = MACHINES.iter().map(|machine| machine.arch).collect();
        anyhow!("unknown architecture `{arch}`: expected one of {}", known.join(", "))
    })
}

/// Finds the firmware: `chosen`, or the first known place that `exists`.
pub fn firmware(
    machine: &Machine,
    chosen: Option<&Path>,
    exists: impl Fn(&Path) -> bool,
) -> Result<Firmware> {
    if let Some(code) = chosen {
        if !exists(code) {
            bail!("the firmware {} does not exist", code.display());
        }
        return Ok(beside(code, &exists));
    }
    let found = machine.firmware.iter().find(|(code, vars)| {
        exists(Path::new(code)) && vars.is_none_or(|vars| exists(Path::new(vars)))
    });
    match found {
        Some((code, Some(vars))) => Ok(Firmware::Split { code: code.into(), vars: vars.into() }),
        Some((code, None)) => Ok(Firmware::Combined(code.into())),
        None if machine.firmware_package.is_empty() => {
            bail!("there is no UEFI firmware for {}", machine.arch)
        }
        None => Err(anyhow!("no UEFI firmware for {} was found", machine.arch)).hint(|| {
            let package = machine.firmware_package;
            format!("install the Debian package {package}, or name the firmware with --fw FILE")
        }),
    }
}

/// Pairs a file of code with the variables that its name promises, if they are there.
fn beside(code: &Path, exists: impl Fn(&Path) -> bool) -> Firmware {
    let name = code.file_name().map(|name| name.to_string_lossy().into_owned());
    let vars = name.filter(|name| name.contains("CODE")).map(|name| {
        // Debian's signed builds share one set of variables with the plain ones.
        code.with_file_name(name.replace("CODE", "VARS").replace(".secboot", ".ms"))
    });
    match vars.filter(|vars| exists(vars)) {
        Some(vars) => Firmware::Split { code: code.into(), vars },
        None => Firmware::Combined(code.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_both_names_of_an_architecture() {
        for (name, machine) in [("amd64", "pc"), ("x86_64", "pc"), ("arm64", "virt")] {
            assert_eq!(find(name).unwrap().machine, machine);
        }
        assert!(find("vax").unwrap_err().to_string().contains("x86_64, aarch64"));
    }

    #[test]
    fn finds_firmware_where_it_lies() {
        let pc = find("x86_64").unwrap();
        let code = "/usr/share/OVMF/OVMF_CODE.fd";
        // Code whose variables are missing is of no use.
        let found = firmware(pc, None, |p| {
            p == Path::new(code) || p == Path::new("/usr/share/ovmf/OVMF.fd")
        });
        assert_eq!(found.unwrap(), Firmware::Combined("/usr/share/ovmf/OVMF.fd".into()));
        let found = firmware(pc, Some(Path::new("/x/MY_CODE.fd")), |_| true).unwrap();
        let vars = "/x/MY_VARS.fd".into();
        assert_eq!(found, Firmware::Split { code: "/x/MY_CODE.fd".into(), vars });
        let error = firmware(pc, None, |_| false).unwrap_err();
        assert!(crate::error::hint(&error).unwrap().contains("ovmf"));
        assert!(firmware(pc, Some(Path::new("/none")), |_| false).is_err());
    }
}
