//! Where the kernel speaks: the `console=` arguments of its command line.

use std::borrow::Cow;

use crate::system::System;

/// Lets the kernel speak to consoles, such as `ttyS1,115200`, where it does
/// not do so already; the last one is its main one.
pub(super) fn with<'a>(system: &'a System, consoles: &[&str]) -> Cow<'a, System> {
    let Some(kernel) = &system.kernel else {
        return Cow::Borrowed(system);
    };
    let missing = consoles.iter().filter(|console| !speaks(&kernel.cmdline, console));
    let added: String = missing.map(|console| format!(" console={console}")).collect();
    if added.is_empty() {
        return Cow::Borrowed(system);
    }
    let cmdline = format!("{}{added}", kernel.cmdline.trim()).trim().to_owned();
    let mut changed = system.clone();
    if let Some(kernel) = &mut changed.kernel {
        kernel.cmdline = cmdline;
    }
    Cow::Owned(changed)
}

fn speaks(cmdline: &str, console: &str) -> bool {
    let device = console.split(',').next().unwrap_or_default();
    // What is on a screen is on any virtual terminal.
    let screen = device == "tty0";
    cmdline.split_whitespace().filter_map(|word| word.strip_prefix("console=")).any(|name| {
        let name = name.split(',').next().unwrap_or_default();
        let number = name.strip_prefix("tty").unwrap_or_default();
        name == device || (screen && number.starts_with(|c: char| c.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Platform;
    use crate::system::Kernel;
    use crate::tree::{Content, Tree};

    fn cmdline(given: &str, consoles: &[&str]) -> String {
        let kernel = Kernel {
            image: Content::Bytes((*b"kernel").into()),
            cmdline: given.to_owned(),
            ucode: None,
        };
        let system = System {
            tree: Tree::new(),
            parts: Vec::new(),
            kernel: Some(kernel),
            platform: Platform::linux("amd64"),
            disk: None,
        };
        let system = with(&system, consoles).into_owned();
        system.kernel.map(|kernel| kernel.cmdline).unwrap_or_default()
    }

    #[test]
    fn lets_the_kernel_speak_where_somebody_listens() {
        let cases: [(&str, &[&str], &str); 7] = [
            ("", &["ttyS0"], "console=ttyS0"),
            ("console=tty0", &["ttyS0"], "console=tty0 console=ttyS0"),
            ("console=ttyS0,115200n8 quiet", &["ttyS0"], "console=ttyS0,115200n8 quiet"),
            ("console=ttyS01", &["ttyS0"], "console=ttyS01 console=ttyS0"),
            ("console=tty1", &["tty0"], "console=tty1"),
            ("console=ttyS0", &["tty0"], "console=ttyS0 console=tty0"),
            (
                "console=tty0",
                &["ttyAMA10,115200", "ttyS1,115200", "tty0"],
                "console=tty0 console=ttyAMA10,115200 console=ttyS1,115200",
            ),
        ];
        for (given, consoles, expected) in cases {
            assert_eq!(cmdline(given, consoles), expected);
        }
    }
}
