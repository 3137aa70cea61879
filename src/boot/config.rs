//! What boot loaders read: texts that name the kernel, the initrd and the
//! command line.

use anyhow::{Result, ensure};

use super::Start;

/// Returns the configuration of SYSLINUX and ISOLINUX. It starts at once.
pub(super) fn syslinux(start: &Start, kernel: &str, initrd: &str) -> Result<String> {
    let initrd = match start.initrd {
        Some(_) => format!("    INITRD {initrd}\n"),
        None => String::new(),
    };
    let cmdline = one_line(&start.cmdline)?;
    Ok(format!(
        "DEFAULT linux\n\
         PROMPT 0\n\
         LABEL linux\n    KERNEL {kernel}\n{initrd}    APPEND {cmdline}\n"
    ))
}

/// Returns systemd-boot's own configuration. It starts at once.
pub(super) fn menu() -> &'static str {
    "timeout 0\ndefault moby.conf\n"
}

/// Returns the entry of systemd-boot's menu.
pub(super) fn menu_entry(start: &Start, kernel: &str, initrd: &str) -> Result<String> {
    let initrd = match start.initrd {
        Some(_) => format!("initrd {initrd}\n"),
        None => String::new(),
    };
    let cmdline = one_line(&start.cmdline)?;
    Ok(format!("title Linux\nlinux {kernel}\n{initrd}options {cmdline}\n"))
}

fn one_line(cmdline: &str) -> Result<&str> {
    let cmdline = cmdline.trim();
    ensure!(
        !cmdline.contains(['\n', '\r']),
        "expected a kernel command line of one line, got `{}`",
        cmdline.escape_debug()
    );
    Ok(cmdline)
}
