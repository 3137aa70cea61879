//! Runs an image in QEMU: `moby run`.
//!
//! [`run`] reads as a script: choose the machine, look what the image is,
//! get disks, metadata and firmware ready, build QEMU's command line, start
//! it and watch. What varies is in tables: [`machine::MACHINES`],
//! [`arguments::BUSES`], the detectors of [`crate::inspect::detect`], the backends of
//! [`backend`]. Flags and their meaning are those of `linuxkit run qemu`.

pub mod accel;
pub mod arguments;
pub mod backend;
pub mod card;
pub mod complaint;
pub mod disk;
pub mod display;
pub mod esp;
pub mod image;
pub mod machine;
pub mod memory;
pub mod metadata;
pub mod network;
pub mod process;
pub mod report;
pub mod search;
pub mod session;
pub mod share;
pub mod terminal;
#[cfg(test)]
mod tests;
pub mod unpack;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use moby_bundle::report::BootReport;
use sha2::{Digest, Sha256};

use self::arguments::{Bus, Console, Plan};
use self::disk::Disk;
use self::image::{Boot, Hints, Image, Looker};
use self::machine::{Firmware, Machine};
use self::network::{Network, Published};
use self::process::Program;
use self::session::{End, Ports, Watch};
use crate::inspect::target::{self, Target};

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The image's file, or the prefix of NAME-kernel and what belongs to it.
    pub path: PathBuf,
    /// What the user says of it.
    pub hints: Hints,
    /// QEMU's or Go's name of the architecture; the image's if absent.
    pub arch: Option<String>,
    /// The accelerator, or several joined by `:`; tried if absent.
    pub accel: Option<String>,
    /// How many CPUs.
    pub cpus: u32,
    /// Memory in MiB; enough for the image if absent.
    pub memory: Option<u64>,
    /// Disks.
    pub disks: Vec<Disk>,
    /// What they hang on.
    pub bus: &'static Bus,
    /// How the guest is connected.
    pub network: Network,
    /// The guest's ports that the host offers.
    pub published: Vec<Published>,
    /// Metadata for the guest.
    pub data: Option<Vec<u8>>,
    /// Values of QEMU's `-device`.
    pub devices: Vec<String>,
    /// Whether there is a USB controller.
    pub usb: bool,
    /// Folders of the host that the guest sees.
    pub shares: Vec<PathBuf>,
    /// The program that serves them; looked for if absent.
    pub virtiofsd: Option<PathBuf>,
    /// Added to the kernel's command line, where QEMU starts the kernel.
    pub cmdline: Option<String>,
    /// Whether the guest goes on in the background.
    pub detached: bool,
    /// Whether QEMU opens a window.
    pub gui: bool,
    /// The folder that keeps the machine's state; beside the image if absent.
    pub state: Option<PathBuf>,
    /// The machine's UUID; made from the state folder's name if absent.
    pub uuid: Option<String>,
    /// UEFI firmware; looked for if absent.
    pub firmware: Option<PathBuf>,
    /// QEMU; looked for if absent.
    pub qemu: Option<PathBuf>,
    /// What the guest is watched for.
    pub watch: Watch,
}

/// What the host is: all that `run` would otherwise read from its surroundings.
#[derive(Debug, Clone)]
pub struct Host {
    /// The search path of programs.
    pub search: String,
    /// Go's name of the architecture.
    pub arch: String,
    /// A folder that outlives the run, for what was found out about the host.
    pub cache: PathBuf,
    /// Whether there is a desktop of the X Window System or Wayland.
    pub desktop: bool,
}

/// What came of a run.
#[derive(Debug)]
pub enum Outcome {
    /// The guest has ended.
    Ended {
        /// How.
        end: End,
        /// Its boot report, if it gave one.
        report: Option<BootReport>,
    },
    /// The guest goes on in the background.
    Detached {
        /// The process id of QEMU.
        pid: u32,
        /// Where its console goes.
        console: PathBuf,
    },
}

/// Runs an image. The console goes to `out`; `tell` takes what the user should
/// know, one line each.
pub fn run(
    options: &Options,
    host: &Host,
    out: &mut dyn Write,
    tell: &dyn Fn(&str),
) -> Result<Outcome> {
    let path = unpacked(options, tell)?;
    let machine = machine_for(&path, options.arch.as_deref(), &host.arch)?;
    let cmdline = options.cmdline.as_deref();
    let looker = Looker { machine, bus: options.bus, cmdline, search: &host.search };
    let image = match arguments::is_board(machine) {
        true => on_a_board(&path, options, &host.search)?,
        false => looker.find(&path, options.hints)?,
    };
    let qemu = match &options.qemu {
        Some(qemu) => qemu.clone(),
        None => {
            let name = format!("qemu-system-{}", machine.arch);
            process::need(&name, &host.search, machine.package)?
        }
    };
    if options.detached && !options.shares.is_empty() {
        bail!("shared folders end with this command: leave out --virtiofs or --detached");
    }
    if options.usb && machine.transport != "pci" {
        bail!("{} has no USB", machine.arch);
    }
    let state = state(options)?;
    let probe = accel::Probe { qemu: &qemu, machine, host: &host.arch, cache: &host.cache };
    // No host has these boards' CPUs.
    let wanted = if arguments::is_board(machine) { Some("tcg") } else { options.accel.as_deref() };
    let accel = accel::choose(wanted, probe)?;
    accel.note.iter().for_each(|note| tell(note));
    let shares = share::serve(&options.shares, options.virtiofsd.as_deref(), &state, &host.search)?;
    let mut plan = plan(options, machine, &image, &state, &host.search)?;
    plan.accel = accel.name;
    assure(&mut plan);
    if options.gui {
        plan.window = Some(display::window(&qemu, host.desktop)?);
        show(&mut plan);
    }
    if !arguments::is_board(machine) {
        plan.memory = memory(options, &image, tell)?;
    }
    plan.shares.clone_from(&shares.sockets);
    if arguments::surplus(&plan) > 0 {
        bail!("{} has no room for {} disks on {}", machine.arch, plan.drives.len(), plan.bus.name);
    }
    let complained = |accel: &str, error: anyhow::Error| {
        if let Some(why) = complaint::of_accelerator(&format!("{error:#}")) {
            // Where that cannot be kept the next run finds it out again.
            let _ = accel::keep(accel, why, probe);
        }
        complaint::hinted(error)
    };
    if options.detached {
        let accel = plan.accel.clone();
        return detach(qemu.clone(), plan, &state).map_err(|error| complained(&accel, error));
    }
    let ports = Ports::open()?;
    plan.ports = ports.named();
    let program = Program::new(qemu.clone(), arguments::build(&plan));
    let ending = session::run(&program, ports, &options.watch, out)
        .map_err(|error| complained(&plan.accel, error))?;
    ending.said.lines().for_each(tell);
    Ok(Outcome::Ended { end: ending.end, report: ending.report })
}

/// Chooses the machine: the one that was named, or the one that the image is for, or one
/// like the host.
fn machine_for(path: &Path, named: Option<&str>, host: &str) -> Result<&'static Machine> {
    let named = named.map(machine::find).transpose()?;
    let telling = image::telling(path);
    // What is not there, or cannot be read, is told of by those who need it: QEMU knows more disks.
    let seen = target::target(&telling).ok().flatten();
    match (named, seen) {
        (None, Some(Target::Raspberry)) => Ok(&machine::RASPBERRY),
        (Some(named), Some(Target::Raspberry)) if named.go == machine::RASPBERRY.go => {
            Ok(&machine::RASPBERRY)
        }
        (Some(named), _) => Ok(named),
        (None, Some(Target::Machine(go))) => machine::find(go),
        (None, None) => machine::find(host),
    }
}

/// A card, and what the firmware of its board would start from it.
fn on_a_board(path: &Path, options: &Options, search: &str) -> Result<Image> {
    let more = !options.disks.is_empty() || options.data.is_some() || !options.shares.is_empty();
    if more || options.usb || options.hints.uefi {
        bail!("QEMU's Raspberry Pi has no disk but its card, and no UEFI");
    }
    let (mut direct, drive) = card::prepare(path, &state(options)?, search)?;
    let cpus = options.cpus.min(4);
    direct.cmdline.push_str(&format!(" maxcpus={cpus}"));
    if let Some(more) = &options.cmdline {
        direct.cmdline.push(' ');
        direct.cmdline.push_str(more);
    }
    Ok(Image { boot: Boot::Kernel(direct, Some(drive)), uefi: false })
}

/// Returns the image's path, or that of the disk which was packed in it.
fn unpacked(options: &Options, tell: &dyn Fn(&str)) -> Result<PathBuf> {
    let packed = match options.path.is_file() {
        true => unpack::look(&options.path)?,
        false => None,
    };
    let Some(packed) = packed else { return Ok(options.path.clone()) };
    let path = unpack::unpack(&options.path, &packed, &state(options)?)?;
    tell(&format!("the disk is unpacked in {}", path.display()));
    Ok(path)
}

/// Makes the folder of the machine's state, LinuxKit's NAME-state unless another is named.
fn state(options: &Options) -> Result<PathBuf> {
    let state = state_folder(options);
    fs::create_dir_all(&state).with_context(|| format!("making {}", state.display()))?;
    Ok(state)
}

/// Names the folder that keeps the machine's state.
pub fn state_folder(options: &Options) -> PathBuf {
    if let Some(state) = &options.state {
        return state.clone();
    }
    let path = &options.path;
    let prefix = image::without(path, ".iso").unwrap_or_else(|| path.clone());
    image::beside(&prefix, "-state")
}

/// Tells a kernel that its timer works: where a busy host emulates it, the
/// kernel's own test comes out late and makes it panic.
fn assure(plan: &mut Plan) {
    if let Some(direct) = plan.direct.as_mut().filter(|_| plan.accel == "tcg" && plan.machine.ide) {
        direct.cmdline.push_str(" no_timer_check");
    }
}

/// Lets the kernel talk in the window, too.
fn show(plan: &mut Plan) {
    if let Some(direct) = &mut plan.direct {
        direct.cmdline = display::shown(&direct.cmdline);
    }
}

fn plan(
    options: &Options,
    machine: &'static Machine,
    image: &Image,
    state: &Path,
    search: &str,
) -> Result<Plan> {
    let (mut drives, mut cds, mut direct) = (Vec::new(), Vec::new(), None);
    match &image.boot {
        Boot::Kernel(kernel, root) => {
            direct = Some(kernel.clone());
            drives.extend(root.clone());
        }
        Boot::Disk(drive) => drives.push(drive.clone()),
        Boot::Cd(cd) => cds.push(cd.clone()),
        Boot::Efi(program) => drives.push(esp::disk(program, machine, state)?),
    }
    for (index, disk) in options.disks.iter().enumerate() {
        drives.push(disk::prepare(disk, index, state, search)?);
    }
    if let Some(data) = &options.data {
        let file = state.join("data.iso");
        fs::write(&file, metadata::image(data))
            .with_context(|| format!("writing {}", file.display()))?;
        cds.push(file);
    }
    if machine.ide && cds.len() > 2 {
        bail!("a machine has room for two CDs, got {}", cds.len());
    }
    let firmware = match image.uefi {
        true => {
            let found = machine::firmware(machine, options.firmware.as_deref(), Path::exists)?;
            Some(own(found, state)?)
        }
        false => None,
    };
    let (uuid, mac) = identity(state)?;
    Ok(Plan {
        machine,
        accel: String::new(),
        cpus: options.cpus,
        memory: memory::DEFAULT,
        uuid: options.uuid.clone().unwrap_or(uuid),
        mac,
        firmware,
        direct,
        drives,
        bus: options.bus,
        cds,
        boot_cd: matches!(image.boot, Boot::Cd(_)),
        netdev: network::netdev(&options.network, &options.published)?,
        shares: Vec::new(),
        devices: options.devices.clone(),
        usb: options.usb,
        window: None,
        ports: Vec::new(),
        console: Console::Streams { keys: terminal::is_terminal() },
        pid_file: state.join("qemu.pid"),
    })
}

/// Gives the machine its own copy of the firmware's variables.
fn own(firmware: Firmware, state: &Path) -> Result<Firmware> {
    let Firmware::Split { code, vars } = firmware else { return Ok(firmware) };
    let copy = state.join("efi-vars.fd");
    let size = |path: &Path| fs::metadata(path).map(|meta| meta.len());
    let pattern = size(&vars).with_context(|| format!("reading {}", vars.display()))?;
    // A copy of another size belongs to other firmware.
    if size(&copy).ok() != Some(pattern) {
        // Not `fs::copy`, for the pattern may be read-only.
        let bytes = fs::read(&vars).with_context(|| format!("reading {}", vars.display()))?;
        fs::write(&copy, bytes).with_context(|| format!("writing {}", copy.display()))?;
    }
    Ok(Firmware::Split { code, vars: copy })
}

/// Returns a UUID and a network address that stay the same as long as the state
/// folder, and differ from those of every other.
fn identity(state: &Path) -> Result<(String, String)> {
    let place = state.canonicalize().with_context(|| format!("looking for {}", state.display()))?;
    let mut hash: [u8; 32] = Sha256::digest(place.as_os_str().as_encoded_bytes()).into();
    // RFC 9562: version 8, "custom", and the variant.
    hash[6] = hash[6] & 0x0f | 0x80;
    hash[8] = hash[8] & 0x3f | 0x80;
    let text = hex::encode(&hash[..16]);
    let uuid = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-");
    // Administered locally, and not a group.
    let mac = [hash[16] & 0xfc | 2, hash[17], hash[18], hash[19], hash[20], hash[21]];
    Ok((uuid, network::mac(state, mac)?))
}

fn memory(options: &Options, image: &Image, tell: &dyn Fn(&str)) -> Result<u64> {
    let needed = match &image.boot {
        Boot::Kernel(direct, _) => match &direct.initrd {
            Some(initrd) => memory::needed(initrd)?,
            None => 0,
        },
        Boot::Efi(program) => memory::needed_by_program(program)?,
        Boot::Disk(_) | Boot::Cd(_) => 0,
    };
    match options.memory {
        Some(chosen) if chosen < needed => {
            tell(&format!("{chosen} MB of memory may not hold the image: it needs {needed} MB"));
            Ok(chosen)
        }
        Some(chosen) => Ok(chosen),
        None if needed > memory::DEFAULT => {
            tell(&format!("giving the guest {needed} MB of memory: its image needs that"));
            Ok(needed)
        }
        None => Ok(memory::DEFAULT),
    }
}

fn detach(qemu: PathBuf, mut plan: Plan, state: &Path) -> Result<Outcome> {
    let console = state.join("console.log");
    plan.console = Console::Background(console.clone());
    plan.ports = session::ports(state, false);
    Program::new(qemu, arguments::build(&plan)).output()?;
    let text = fs::read_to_string(&plan.pid_file)
        .with_context(|| format!("reading {}", plan.pid_file.display()))?;
    let pid =
        text.trim().parse().with_context(|| format!("reading {}", plan.pid_file.display()))?;
    Ok(Outcome::Detached { pid, console })
}

/// Reads a time such as `90`, `90s`, `2m` or `500ms`.
pub fn duration(text: &str) -> Result<Duration> {
    match moby_bundle::Delay::parse(text) {
        Some(delay) => Ok(delay.duration()),
        None => bail!("expected a time such as 90, 90s or 2m, got `{text}`"),
    }
}
