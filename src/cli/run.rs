//! `moby run`: starts an image in QEMU. Flags are those of `linuxkit run qemu`, and more.

#![allow(rustdoc::broken_intra_doc_links, reason = "these comments are the help's own text")]

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use moby_bundle::report::BootReport;

use crate::env;
use crate::error::Usage;
use crate::oci::Platform;
use crate::run::arguments::{BUSES, Bus};
use crate::run::disk::Disk;
use crate::run::image::Hints;
use crate::run::network::{Network, Published};
use crate::run::session::{End, Watch};
use crate::run::{self, Host, Options, Outcome, backend, report};

/// Run an image in QEMU
///
/// PATH is an ISO, a disk (raw, qcow2, vmdk, vhd, vhdx; packed as an OVA, in a
/// cloud's tar.gz, under gzip, xz or zstd), an EFI program, a kernel, or the
/// prefix of NAME-kernel, NAME-initrd.img and NAME-cmdline: what it is and how
/// it boots is told by looking.
///
/// The exit code is the guest's. Keys on a terminal: Ctrl-A x ends the guest,
/// Ctrl-A h lists the others.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image, and before it, if you like, the word `qemu`
    #[arg(value_name = "[qemu] PATH", required = true, num_args = 1..=2)]
    image: Vec<String>,
    /// The image is an ISO, whatever it looks like
    #[arg(long)]
    iso: bool,
    /// Start it with UEFI firmware
    #[arg(long)]
    uefi: bool,
    /// Start PATH-kernel with PATH-squashfs.img as its root
    #[arg(long, conflicts_with_all = ["iso", "kernel"])]
    squashfs: bool,
    /// Start PATH-kernel with PATH-erofs.img as its root
    #[arg(long, conflicts_with_all = ["iso", "kernel", "squashfs"])]
    erofs: bool,
    /// Start PATH-kernel with PATH-initrd.img
    #[arg(long, conflicts_with = "iso")]
    kernel: bool,
    /// Add to the kernel's command line (not for disks and ISOs)
    #[arg(long, value_name = "TEXT")]
    cmdline: Option<String>,
    /// Give it a disk: [file=]PATH[,size=1G][,format=raw]; made if missing, as
    /// qcow2 unless a format is named
    #[arg(long, value_name = "DISK")]
    disk: Vec<Disk>,
    /// What disks hang on: virtio, scsi, sata, ide, nvme or usb, which makes a
    /// stick of an ISO
    #[arg(long, value_name = "BUS", default_value = BUSES[0].name, value_parser = bus)]
    disk_bus: &'static Bus,
    /// Offer a port of the guest: [ADDRESS:]HOST:GUEST[/tcp|udp]
    #[arg(long, value_name = "PORTS")]
    publish: Vec<Published>,
    /// Its network: user, tap,NAME, bridge,NAME or none
    #[arg(long, value_name = "MODE", default_value = "user")]
    networking: Network,
    /// Metadata for the guest: a text
    #[arg(long, value_name = "TEXT", conflicts_with = "data_file")]
    data: Option<String>,
    /// Metadata for the guest: a file
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,
    /// Add a device, as QEMU's -device
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// Add a USB controller
    #[arg(long)]
    usb: bool,
    /// Share a folder, which the guest mounts as virtiofs0, virtiofs1 ...
    #[arg(long, value_name = "FOLDER")]
    virtiofs: Vec<PathBuf>,
    /// The program virtiofsd
    #[arg(long, value_name = "FILE")]
    virtiofsd: Option<PathBuf>,
    /// Memory in MB [default: 1024, or what the initrd needs]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..))]
    mem: Option<u64>,
    /// How many CPUs
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    cpus: u32,
    /// Architecture: x86_64, aarch64, riscv64, s390x [default: the image's]
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Acceleration: kvm, hvf or tcg [default: what works]
    #[arg(long, value_name = "NAME")]
    accel: Option<String>,
    /// Go on in the background; prints the process id
    #[arg(long, conflicts_with_all = ["until", "timeout", "boot_report", "require_exit"])]
    detached: bool,
    /// Open a window; the serial console stays here
    #[arg(long)]
    gui: bool,
    /// What LinuxKit once had; told from a slip of the finger
    #[arg(long, hide = true)]
    containerized: bool,
    /// The folder for disks and other state [default: PATH-state]
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// The machine's UUID [default: made from the state folder's path]
    #[arg(long, value_name = "UUID", value_parser = uuid)]
    uuid: Option<String>,
    /// UEFI firmware [default: looked for]
    #[arg(long, value_name = "FILE")]
    fw: Option<PathBuf>,
    /// The program QEMU [default: looked for]
    #[arg(long, value_name = "FILE")]
    qemu: Option<PathBuf>,
    /// End with 0 as soon as the console shows this text
    #[arg(long, value_name = "TEXT")]
    until: Option<String>,
    /// End with 1 after this time: 90, 90s, 2m
    #[arg(long, value_name = "TIME", value_parser = run::duration)]
    timeout: Option<Duration>,
    /// End with 1 if the guest ends without telling an exit code
    #[arg(long)]
    require_exit: bool,
    /// Show how the boot went, and draw it: FILE.svg, or FILE.json [default: boot.svg in the state folder]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "svg")]
    boot_report: Option<PathBuf>,
}

/// Writes options in the form that LinuxKit's had once, `-iso`, as `--iso`.
pub(super) fn spelled(words: Vec<OsString>, definition: &clap::Command) -> Vec<OsString> {
    let Some(at) = words.iter().position(|word| word == "run") else { return words };
    let Some(run) = definition.find_subcommand("run") else { return words };
    let known: Vec<&str> = run.get_arguments().filter_map(clap::Arg::get_long).collect();
    let meant = |word: &OsString| {
        let name = word.to_str()?.strip_prefix('-')?.split('=').next()?;
        known.contains(&name).then(|| format!("-{}", word.to_string_lossy()).into())
    };
    let spell = |(index, word)| match index > at {
        true => meant(&word).unwrap_or(word),
        false => word,
    };
    words.into_iter().enumerate().map(spell).collect()
}

fn bus(name: &str) -> Result<&'static Bus, String> {
    let names = || BUSES.iter().map(|bus| bus.name).collect::<Vec<_>>().join(", ");
    BUSES.iter().find(|bus| bus.name == name).ok_or_else(|| format!("expected one of {}", names()))
}

fn uuid(text: &str) -> Result<String, String> {
    let right = text.len() == 36
        && text.char_indices().all(|(index, c)| match index {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        });
    if right { Ok(text.to_owned()) } else { Err("expected a UUID".to_owned()) }
}

/// Runs the image and returns the exit code. `cache` is moby's cache folder.
pub(super) fn run(args: &Args, cache: &Path) -> Result<u8> {
    let options = options(args)?;
    let host = Host {
        search: env::var("PATH").unwrap_or_default(),
        arch: Platform::host().architecture,
        cache: cache.join("run"),
        desktop: env::var("DISPLAY").or_else(|| env::var("WAYLAND_DISPLAY")).is_some(),
    };
    let outcome = run::run(&options, &host, &mut io::stdout(), &tell)?;
    match outcome {
        Outcome::Detached { pid, console } => {
            tell(&format!("console: {}", console.display()));
            tell(&format!("to end the guest: kill {pid}"));
            writeln!(io::stdout(), "{pid}").context("writing the process id")?;
            Ok(0)
        }
        Outcome::Ended { end, report } => {
            if let Some(file) = &args.boot_report {
                show(report.as_ref(), file, &run::state_folder(&options))?;
            }
            Ok(code(end, args))
        }
    }
}

fn options(args: &Args) -> Result<Options> {
    let path = backend::path(&args.image)?;
    if args.containerized {
        let text = "moby starts this host's QEMU, in no container: leave out --containerized";
        return Err(Usage(text.into()).into());
    }
    if args.publish.len() > 1 {
        let mut hosts: Vec<_> = args.publish.iter().map(|p| (p.protocol, p.host)).collect();
        hosts.sort_unstable();
        if let Some(twice) = hosts.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Usage(format!("the port {} is published twice", twice[0].1)).into());
        }
    }
    let data = match (&args.data, &args.data_file) {
        (Some(text), _) => Some(text.clone().into_bytes()),
        (None, Some(file)) => {
            Some(std::fs::read(file).with_context(|| format!("reading {}", file.display()))?)
        }
        (None, None) => None,
    };
    // LinuxKit's variable, which stands for its flag.
    let accel = args.accel.clone().or_else(|| env::var("LINUXKIT_QEMU_ACCEL"));
    Ok(Options {
        path: path.into(),
        hints: Hints {
            iso: args.iso,
            root: match (args.squashfs, args.erofs) {
                (true, _) => Some("-squashfs.img"),
                (_, true) => Some("-erofs.img"),
                _ => None,
            },
            kernel: args.kernel,
            uefi: args.uefi,
        },
        arch: args.arch.clone(),
        accel,
        cpus: args.cpus,
        memory: args.mem,
        disks: args.disk.clone(),
        bus: args.disk_bus,
        network: args.networking.clone(),
        published: args.publish.clone(),
        data,
        devices: args.device.clone(),
        usb: args.usb,
        shares: args.virtiofs.clone(),
        virtiofsd: args.virtiofsd.clone(),
        cmdline: args.cmdline.clone(),
        detached: args.detached,
        gui: args.gui,
        state: args.state.clone(),
        uuid: args.uuid.clone(),
        firmware: args.fw.clone(),
        qemu: args.qemu.clone(),
        watch: Watch {
            until: args.until.clone(),
            timeout: args.timeout,
            report: args.boot_report.is_some(),
            signals: true,
        },
    })
}

/// Says one line to people. A closed standard error stops nothing.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "moby run: {line}");
}

/// Makes an exit code of how the guest ended, and says what is not obvious.
fn code(end: End, args: &Args) -> u8 {
    match end {
        End::Seen => 0,
        End::Exited(_) if args.until.is_some() => {
            let text = args.until.as_deref().unwrap_or_default();
            tell(&format!("the guest ended, and its console never showed `{text}`"));
            1
        }
        End::Exited(Some(exit)) => guests(exit),
        End::Exited(None) => {
            tell("the guest ended without telling an exit code");
            u8::from(args.require_exit)
        }
        End::TimedOut => {
            let waited = match &args.until {
                Some(text) => format!(", and its console never showed `{text}`"),
                None => String::new(),
            };
            let time = args.timeout.unwrap_or_default().as_secs_f32();
            tell(&format!("the guest took longer than {time} s{waited}"));
            1
        }
        End::Panicked => {
            tell("the guest's kernel panicked");
            1
        }
        End::Signalled(signal) => 128u8.saturating_add(u8::try_from(signal).unwrap_or(0)),
        // What a shell makes of a program that was stopped by SIGPIPE.
        End::Unread => 141,
    }
}

/// An exit code as far as the host can tell it on: a failure stays one.
fn guests(exit: i32) -> u8 {
    u8::try_from(exit).unwrap_or(1)
}

/// Shows the boot report and writes it to a file.
fn show(report: Option<&BootReport>, file: &Path, state: &Path) -> Result<()> {
    let Some(report) = report else {
        tell("the guest gave no boot report");
        return Ok(());
    };
    let file = match file.to_str() {
        Some("svg") => state.join("boot.svg"),
        Some("json") => state.join("boot.json"),
        _ => file.to_owned(),
    };
    let text = match file.extension().is_some_and(|end| end == "json") {
        true => serde_json::to_string_pretty(report).context("writing the boot report")? + "\n",
        false => report::svg(report),
    };
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    write!(io::stderr(), "\n{}", report::table(report)).context("writing the boot report")?;
    tell(&format!("wrote {}", file.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Options> {
        let command = Command::try_parse_from(std::iter::once("run").chain(line.split(' ')))?;
        options(&command.args)
    }

    #[test]
    fn takes_linuxkits_command_lines() {
        for line in [
            "qemu --kernel lk",
            "qemu --squashfs lk",
            "qemu --iso --uefi lk-efi.iso",
            "--disk file=d.img,format=raw,size=256M lk",
            "qemu --disk disk.qcow2,size=200M,format=qcow2 --disk tarball.img,format=raw --kernel mkimage",
            "qemu --publish 8080:80/tcp --mem 2048 --cpus 2 --networking none lk",
            "--networking default --accel kvm:tcg --arch aarch64 --usb --device usb-host lk",
            "lk --boot-report --until login: --timeout 2m",
            "--boot-report=x.svg lk",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error:#}"));
        }
        for line in [
            "--gui",
            "--containerized a",
            "a b c",
            "--disk= a",
            "--mem 0 a",
            "--data x --data-file y a",
            "vbox a",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        let twice = parse("--publish 80:80 --publish 80:81 a").unwrap_err();
        assert!(twice.is::<Usage>(), "{twice}");
    }

    #[test]
    fn takes_the_older_form_of_options() {
        #[derive(clap::Parser)]
        enum Moby {
            Run(Args),
        }
        let definition = <Moby as clap::CommandFactory>::command();
        let spelled = |line: &str| {
            let words = spelled(line.split(' ').map(Into::into).collect(), &definition);
            words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
        };
        for (line, expected) in [
            ("moby run qemu -iso -mem=2048 a", "moby run qemu --iso --mem=2048 a"),
            ("moby -q run -disk size=1G a", "moby -q run --disk size=1G a"),
            ("moby run --iso -q -x -is a", "moby run --iso -q -x -is a"),
            ("moby build -iso a", "moby build -iso a"),
        ] {
            assert_eq!(spelled(line), expected);
        }
    }

    #[test]
    fn makes_exit_codes() {
        let command = Command::try_parse_from(["run", "a"]).unwrap();
        for (end, expected) in [
            (End::Seen, 0),
            (End::Exited(Some(42)), 42),
            (End::Exited(Some(256)), 1),
            (End::Exited(Some(-1)), 1),
            (End::Exited(None), 0),
            (End::TimedOut, 1),
            (End::Panicked, 1),
            (End::Signalled(15), 143),
        ] {
            assert_eq!(code(end, &command.args), expected, "{end:?}");
        }
        let strict = Command::try_parse_from(["run", "a", "--require-exit"]).unwrap();
        assert_eq!(code(End::Exited(None), &strict.args), 1);
        let until = Command::try_parse_from(["run", "a", "--until", "x"]).unwrap();
        assert_eq!(code(End::Exited(Some(0)), &until.args), 1);
    }
}
