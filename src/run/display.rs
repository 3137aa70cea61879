//! `--gui`: which of QEMU's windows is opened.

use std::path::Path;

use anyhow::{Result, anyhow};

use super::process::Program;
use crate::error::WithHint;

/// QEMU's names of windows, the better first, and whether they need a desktop of
/// the X Window System or Wayland.
const WINDOWS: &[(&str, bool)] = &[("cocoa", false), ("gtk", true), ("sdl", true)];

/// Asks QEMU which windows it knows, and chooses one. `desktop` says whether
/// there is an X Window System or Wayland to open it on.
pub fn window(qemu: &Path, desktop: bool) -> Result<&'static str> {
    let args = ["-display", "help"].map(str::to_owned).to_vec();
    let output = Program::new(qemu, args).output()?;
    choose(&String::from_utf8_lossy(&output.stdout), desktop)
}

fn choose(help: &str, desktop: bool) -> Result<&'static str> {
    let known: Vec<_> =
        WINDOWS.iter().filter(|(name, _)| help.lines().any(|line| line.trim() == *name)).collect();
    if known.is_empty() {
        return Err(anyhow!("this QEMU opens no windows"))
            .hint(|| "install the Debian package qemu-system-gui, or leave out --gui".into());
    }
    let found = known.iter().find(|(_, needs)| desktop || !needs);
    found.map(|(name, _)| *name).ok_or_else(|| anyhow!("there is no desktop to open a window on")).hint(|| {
        "start it where DISPLAY or WAYLAND_DISPLAY is set, such as by `ssh -X`, or leave out --gui"
            .into()
    })
}

/// Adds to a kernel's command line that it talks to the screen, too. The
/// console named last stays the one that programs get.
pub fn shown(cmdline: &str) -> String {
    if cmdline.split_whitespace().any(|word| word == "console=tty0") {
        return cmdline.to_owned();
    }
    format!("console=tty0 {cmdline}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_a_window() {
        let help = "Available display backend types:\nnone\ngtk\nsdl\ncurses\n";
        assert_eq!(choose(help, true).unwrap(), "gtk");
        assert_eq!(choose("none\nsdl\n", true).unwrap(), "sdl");
        assert_eq!(choose("none\ncocoa\n", false).unwrap(), "cocoa");
        for (help, desktop, way) in [("none\n", true, "qemu-system-gui"), (help, false, "DISPLAY")]
        {
            let error = choose(help, desktop).unwrap_err();
            assert!(crate::error::hint(&error).unwrap().contains(way), "{error}");
        }
    }

    #[test]
    fn adds_the_screen_to_the_consoles() {
        assert_eq!(shown("console=ttyS0 quiet"), "console=tty0 console=ttyS0 quiet");
        for kept in ["console=tty0", "console=ttyS0 console=tty0 quiet"] {
            assert_eq!(shown(kept), kept);
        }
    }
}
