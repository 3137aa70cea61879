//! QEMU's command line: a pure function of what was decided.
//!
//! Nothing is left to QEMU's own defaults (`-nodefaults`), so that the same
//! plan gives the same machine everywhere.

use std::path::{Path, PathBuf};

use super::disk::{Drive, named};
use super::machine::{Firmware, Machine};
use super::network::escaped;

/// A controller that disks hang on.
#[derive(Debug, PartialEq, Eq)]
pub struct Bus {
    /// Its name for `--disk-bus`.
    pub name: &'static str,
    /// The device of a disk; `{}` stands for the machine's transport.
    device: &'static str,
    /// The controller to add, if the machine has none.
    controller: Option<&'static str>,
    /// The guest's name of the first disk.
    pub first: &'static str,
}

/// Every controller; the first is the default.
pub const BUSES: &[Bus] = &[
    Bus { name: "virtio", device: "virtio-blk-{}", controller: None, first: "/dev/vda" },
    Bus { name: "scsi", device: "scsi-hd", controller: Some("virtio-scsi-{}"), first: "/dev/sda" },
    Bus { name: "sata", device: "ide-hd", controller: Some("ahci,id=sata"), first: "/dev/sda" },
    Bus { name: "ide", device: "ide-hd", controller: None, first: "/dev/sda" },
    Bus { name: "nvme", device: "nvme", controller: None, first: "/dev/nvme0n1" },
    Bus { name: USB, device: "usb-storage", controller: None, first: "/dev/sda" },
];

/// The bus that makes a stick of an ISO.
pub const USB: &str = "usb";
/// The USB controller, which Linux has one driver for on every machine.
const USB_CONTROLLER: &str = "qemu-xhci,id=usb,p2=8,p3=8";
/// How many USB ports it has.
const USB_PORTS: usize = 8;

/// A kernel that QEMU starts itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direct {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initrd.
    pub initrd: Option<PathBuf>,
    /// The device tree, where the machine has none.
    pub tree: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: String,
}

/// Where the guest's serial console leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Console {
    /// QEMU's standard streams; with `keys` Ctrl-A x ends QEMU, and Ctrl-A c asks its monitor.
    Streams {
        /// Whether QEMU's own keys are heard.
        keys: bool,
    },
    /// A file, with QEMU in the background.
    Background(PathBuf),
}

/// Where a virtio-serial port leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The name by which the guest finds it.
    pub name: &'static str,
    /// A Unix socket that listens, or a file to write.
    pub path: PathBuf,
    /// Whether it is a socket.
    pub socket: bool,
}

/// A guest, with all decided.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The machine.
    pub machine: &'static Machine,
    /// QEMU's name of the accelerator.
    pub accel: String,
    /// How many CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u64,
    /// The machine's UUID.
    pub uuid: String,
    /// The network card's address.
    pub mac: String,
    /// UEFI firmware; the machine's own if absent.
    pub firmware: Option<Firmware>,
    /// A kernel to start instead of a disk or CD.
    pub direct: Option<Direct>,
    /// Disks, the one to boot from first.
    pub drives: Vec<Drive>,
    /// What they hang on.
    pub bus: &'static Bus,
    /// CDs, the one to boot from first.
    pub cds: Vec<PathBuf>,
    /// Whether the first CD is booted, rather than the first disk.
    pub boot_cd: bool,
    /// The value of `-netdev`.
    pub netdev: Option<String>,
    /// Sockets of virtiofsd.
    pub shares: Vec<PathBuf>,
    /// Values of further `-device` options.
    pub devices: Vec<String>,
    /// Whether there is a USB controller.
    pub usb: bool,
    /// QEMU's name of the window that it opens, if any.
    pub window: Option<&'static str>,
    /// Channels from the guest to us.
    pub ports: Vec<Port>,
    /// The serial console.
    pub console: Console,
    /// Where QEMU writes its process id.
    pub pid_file: PathBuf,
}

/// Builds QEMU's arguments.
pub fn build(plan: &Plan) -> Vec<String> {
    let mut line = Line::default();
    if is_board(plan.machine) {
        board(&mut line, plan);
        return line.0;
    }
    machine(&mut line, plan);
    firmware(&mut line, plan);
    console(&mut line, plan);
    disks(&mut line, plan);
    cds(&mut line, plan);
    network(&mut line, plan);
    ports(&mut line, plan);
    shares(&mut line, plan);
    for device in &plan.devices {
        line.add("-device", device);
    }
    line.0
}

#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn add(&mut self, option: &str, value: impl AsRef<str>) {
        self.0.push(option.to_owned());
        if !value.as_ref().is_empty() {
            self.0.push(value.as_ref().to_owned());
        }
    }
}

fn shown(path: &Path) -> String {
    escaped(&named(path))
}

fn machine(line: &mut Line, plan: &Plan) {
    line.add("-machine", plan.machine.machine);
    // Several CPUs on several threads of the emulator make kernels panic that patch themselves.
    let threads = if plan.accel == "tcg" && plan.cpus > 1 { ",thread=single" } else { "" };
    line.add("-accel", format!("{}{threads}", plan.accel));
    line.add("-cpu", cpu(&plan.accel, plan.machine.arch));
    line.add("-smp", plan.cpus.to_string());
    line.add("-m", plan.memory.to_string());
    line.add("-uuid", &plan.uuid);
    line.add("-pidfile", plan.pid_file.to_string_lossy());
    line.add("-nodefaults", "");
    line.add("-no-reboot", "");
    line.add("-object", "rng-random,id=rng0,filename=/dev/urandom");
    line.add("-device", format!("virtio-rng-{},rng=rng0", plan.machine.transport));
}

/// Names the processor: all that an accelerator has.
pub fn cpu(accel: &str, arch: &str) -> &'static str {
    match (accel, arch) {
        // Signed pointers by a cheap hash: by the architecture's own, a guest takes
        // twice as long for everything.
        ("tcg", "aarch64") => "max,pauth-impdef=on",
        ("tcg", _) => "max",
        _ => "host",
    }
}

/// Says whether a machine is a board, which takes nothing but what it has.
pub fn is_board(machine: &Machine) -> bool {
    machine.transport == "none"
}

/// A Raspberry Pi 3: four CPUs, 1 GiB of memory, a card, and a network by USB. Its
/// console is the second serial port.
fn board(line: &mut Line, plan: &Plan) {
    line.add("-machine", plan.machine.machine);
    line.add("-accel", format!("{},thread=single", plan.accel));
    line.add("-pidfile", plan.pid_file.to_string_lossy());
    line.add("-nodefaults", "");
    line.add("-no-reboot", "");
    firmware(line, plan);
    line.add("-serial", "null");
    console(line, plan);
    for drive in &plan.drives {
        line.add("-drive", format!("if=sd,format={},file={}", drive.format, escaped(&drive.file)));
    }
    if let Some(netdev) = &plan.netdev {
        line.add("-netdev", netdev);
        line.add("-device", format!("usb-net,netdev=net0,mac={}", plan.mac));
    }
    for device in &plan.devices {
        line.add("-device", device);
    }
}

fn firmware(line: &mut Line, plan: &Plan) {
    match &plan.firmware {
        None => {}
        Some(Firmware::Combined(file)) => line.add("-bios", file.to_string_lossy()),
        Some(Firmware::Split { code, vars }) => {
            line.add("-drive", format!("if=pflash,format=raw,readonly=on,file={}", shown(code)));
            line.add("-drive", format!("if=pflash,format=raw,file={}", shown(vars)));
        }
    }
    if let Some(direct) = &plan.direct {
        line.add("-kernel", direct.kernel.to_string_lossy());
        if let Some(initrd) = &direct.initrd {
            line.add("-initrd", initrd.to_string_lossy());
        }
        if let Some(tree) = &direct.tree {
            line.add("-dtb", tree.to_string_lossy());
        }
        if !direct.cmdline.is_empty() {
            line.add("-append", &direct.cmdline);
        }
    }
}

fn console(line: &mut Line, plan: &Plan) {
    match &plan.console {
        Console::Streams { keys: true } => line.add("-serial", "mon:stdio"),
        Console::Streams { keys: false } => line.add("-serial", "stdio"),
        Console::Background(log) => {
            line.add("-serial", format!("file:{}", log.to_string_lossy()));
            line.add("-daemonize", "");
        }
    }
    match (plan.window, &plan.console) {
        (Some(window), _) => {
            line.add("-display", window);
            screen(line, plan.machine);
        }
        // Not with -daemonize, which it contradicts.
        (None, Console::Streams { .. }) => line.add("-nographic", ""),
        (None, Console::Background(_)) => line.add("-display", "none"),
    }
}

fn screen(line: &mut Line, machine: &Machine) {
    // A board has a screen of its own.
    if is_board(machine) {
        return;
    }
    if machine.ide {
        return line.add("-device", "VGA");
    }
    // A machine without a keyboard of its own.
    for device in ["gpu", "keyboard", "tablet"] {
        line.add("-device", format!("virtio-{device}-{}", machine.transport));
    }
}

fn disks(line: &mut Line, plan: &Plan) {
    let transport = plan.machine.transport;
    if plan.usb || plan.bus.name == USB && !plan.drives.is_empty() {
        line.add("-device", USB_CONTROLLER);
    }
    if let Some(controller) = plan.bus.controller.filter(|_| !plan.drives.is_empty()) {
        line.add("-device", controller.replace("{}", transport));
    }
    for (index, drive) in plan.drives.iter().enumerate() {
        let mut value =
            format!("if=none,id=disk{index},format={},file={}", drive.format, escaped(&drive.file));
        // These controllers know no disk that cannot be written.
        let writes = matches!(plan.bus.name, "sata" | "ide" | "nvme");
        if drive.discard || drive.read_only && writes {
            value.push_str(",snapshot=on");
        } else if drive.read_only {
            value.push_str(",readonly=on");
        }
        line.add("-drive", value);
        let mut device = plan.bus.device.replace("{}", transport);
        device.push_str(&format!(",drive=disk{index}"));
        match plan.bus.name {
            "sata" => device.push_str(&format!(",bus=sata.{index}")),
            "ide" => device.push_str(&ide_disk(index)),
            "nvme" => device.push_str(&format!(",serial=moby{index}")),
            USB => device.push_str(",bus=usb.0"),
            _ => {}
        }
        if index == 0 && plan.direct.is_none() && !plan.boot_cd {
            device.push_str(",bootindex=0");
        }
        line.add("-device", device);
    }
}

/// The place of a disk on IDE's two channels: CDs begin at the second.
fn ide_disk(index: usize) -> String {
    let (channel, unit) = [(0, 0), (0, 1), (1, 1), (1, 0)][index.min(3)];
    format!(",bus=ide.{channel},unit={unit}")
}

/// Says how many more disks than it holds the controller would have.
pub fn surplus(plan: &Plan) -> usize {
    let cds = if plan.machine.ide { plan.cds.len() } else { 0 };
    let room = match plan.bus.name {
        "sata" | "nvme" | USB if plan.machine.transport != "pci" => 0,
        USB => USB_PORTS,
        "ide" if !plan.machine.ide => 0,
        "ide" => 4 - cds.min(4),
        "sata" => 6,
        _ => return 0,
    };
    plan.drives.len().saturating_sub(room)
}

fn cds(line: &mut Line, plan: &Plan) {
    if !plan.machine.ide && !plan.cds.is_empty() {
        line.add("-device", format!("virtio-scsi-{},id=cds", plan.machine.transport));
    }
    for (index, cd) in plan.cds.iter().enumerate() {
        line.add(
            "-drive",
            format!("if=none,id=cd{index},format=raw,media=cdrom,readonly=on,file={}", shown(cd)),
        );
        let mut device = match plan.machine.ide {
            true => format!("ide-cd,drive=cd{index},bus=ide.1,unit={index}"),
            false => format!("scsi-cd,drive=cd{index},bus=cds.0"),
        };
        if index == 0 && plan.boot_cd {
            device.push_str(",bootindex=0");
        }
        line.add("-device", device);
    }
}

fn network(line: &mut Line, plan: &Plan) {
    let Some(netdev) = &plan.netdev else { return };
    line.add("-netdev", netdev);
    let transport = plan.machine.transport;
    // No boot from the network: its firmware costs a second.
    let rom = if transport == "pci" { ",romfile=" } else { "" };
    line.add("-device", format!("virtio-net-{transport},netdev=net0,mac={}{rom}", plan.mac));
}

fn ports(line: &mut Line, plan: &Plan) {
    if plan.ports.is_empty() {
        return;
    }
    line.add("-device", format!("virtio-serial-{}", plan.machine.transport));
    for (index, port) in plan.ports.iter().enumerate() {
        let kind = if port.socket { "socket" } else { "file" };
        line.add("-chardev", format!("{kind},id=port{index},path={}", shown(&port.path)));
        line.add("-device", format!("virtserialport,chardev=port{index},name={}", port.name));
    }
}

fn shares(line: &mut Line, plan: &Plan) {
    if plan.shares.is_empty() {
        return;
    }
    let memory = plan.memory;
    line.add("-object", format!("memory-backend-memfd,id=mem,size={memory}M,share=on"));
    line.add("-numa", "node,memdev=mem");
    for (index, socket) in plan.shares.iter().enumerate() {
        line.add("-chardev", format!("socket,id=share{index},path={}", shown(socket)));
        let transport = plan.machine.transport;
        line.add(
            "-device",
            format!("vhost-user-fs-{transport},chardev=share{index},tag=virtiofs{index}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine;
    use super::*;

    fn plan(arch: &str) -> Plan {
        Plan {
            machine: machine::find(arch).unwrap(),
            accel: "tcg".into(),
            cpus: 1,
            memory: 512,
            uuid: "u".into(),
            mac: "m".into(),
            firmware: None,
            direct: None,
            drives: Vec::new(),
            bus: &BUSES[0],
            cds: Vec::new(),
            boot_cd: false,
            netdev: None,
            shares: Vec::new(),
            devices: Vec::new(),
            usb: false,
            window: None,
            ports: Vec::new(),
            console: Console::Streams { keys: false },
            pid_file: "/s/qemu.pid".into(),
        }
    }

    const START: &str = "-accel tcg -cpu max -smp 1 -m 512 -uuid u -pidfile /s/qemu.pid \
                         -nodefaults -no-reboot -object rng-random,id=rng0,filename=/dev/urandom";

    #[test]
    fn starts_a_kernel() {
        let mut plan = plan("x86_64");
        plan.direct = Some(Direct {
            kernel: "a-kernel".into(),
            initrd: Some("a-initrd.img".into()),
            tree: None,
            cmdline: "console=ttyS0 x".into(),
        });
        plan.netdev = Some("user,id=net0".into());
        plan.ports = vec![Port { name: "moby.exit", path: "/t/exit".into(), socket: true }];
        plan.usb = true;
        plan.devices = vec!["usb-tablet".into()];
        let expected = format!(
            "-machine pc {START} -device virtio-rng-pci,rng=rng0 -kernel a-kernel -initrd a-initrd.img \
             -append console=ttyS0 x -serial stdio -nographic \
             -device qemu-xhci,id=usb,p2=8,p3=8 -netdev user,id=net0 \
             -device virtio-net-pci,netdev=net0,mac=m,romfile= -device virtio-serial-pci \
             -chardev socket,id=port0,path=/t/exit \
             -device virtserialport,chardev=port0,name=moby.exit -device usb-tablet"
        );
        assert_eq!(build(&plan).join(" "), expected);
    }

    #[test]
    fn starts_a_board_with_what_it_has() {
        let mut plan = plan("aarch64");
        plan.machine = &machine::RASPBERRY;
        plan.direct = Some(Direct {
            kernel: "k".into(),
            initrd: None,
            tree: Some("t.dtb".into()),
            cmdline: "x".into(),
        });
        plan.drives = vec![Drive::new(Path::new("card.qcow2"), "qcow2")];
        plan.netdev = Some("user,id=net0".into());
        assert_eq!(
            build(&plan).join(" "),
            "-machine raspi3b -accel tcg,thread=single -pidfile /s/qemu.pid -nodefaults -no-reboot \
             -kernel k -dtb t.dtb -append x -serial null -serial stdio -nographic \
             -drive if=sd,format=qcow2,file=card.qcow2 -netdev user,id=net0 \
             -device usb-net,netdev=net0,mac=m"
        );
    }

    #[test]
    fn starts_disks_and_cds() {
        let mut plan = plan("aarch64");
        plan.firmware = Some(Firmware::Split { code: "/f/CODE".into(), vars: "/s/VARS".into() });
        plan.drives = vec![Drive::new(Path::new("a,b.qcow2"), "qcow2")];
        plan.cds = vec!["data.iso".into()];
        plan.console = Console::Streams { keys: true };
        let start = START.replace("-cpu max", "-cpu max,pauth-impdef=on");
        let expected = format!(
            "-machine virt {start} -device virtio-rng-pci,rng=rng0 \
             -drive if=pflash,format=raw,readonly=on,file=/f/CODE \
             -drive if=pflash,format=raw,file=/s/VARS -serial mon:stdio -nographic \
             -drive if=none,id=disk0,format=qcow2,file=a,,b.qcow2 \
             -device virtio-blk-pci,drive=disk0,bootindex=0 \
             -device virtio-scsi-pci,id=cds \
             -drive if=none,id=cd0,format=raw,media=cdrom,readonly=on,file=data.iso \
             -device scsi-cd,drive=cd0,bus=cds.0"
        );
        assert_eq!(build(&plan).join(" "), expected);
    }

    #[test]
    fn boots_a_cd_before_disks() {
        let mut plan = plan("x86_64");
        plan.drives = vec![Drive::new(Path::new("d"), "raw")];
        plan.cds = vec!["a.iso".into(), "data.iso".into()];
        plan.boot_cd = true;
        plan.bus = &BUSES[2];
        let line = build(&plan).join(" ");
        assert!(line.contains("-device ahci,id=sata"), "{line}");
        assert!(line.contains("-device ide-hd,drive=disk0,bus=sata.0 "), "{line}");
        assert!(line.contains("-device ide-cd,drive=cd0,bus=ide.1,unit=0,bootindex=0"), "{line}");
        assert!(line.ends_with("-device ide-cd,drive=cd1,bus=ide.1,unit=1"), "{line}");
    }

    #[test]
    fn writes_to_no_disk_that_is_read_only() {
        for (bus, expected) in [("virtio", "readonly=on"), ("sata", "snapshot=on")] {
            let bus = BUSES.iter().find(|known| known.name == bus).unwrap();
            let drives = vec![Drive { read_only: true, ..Drive::new(Path::new("d"), "raw") }];
            let line = build(&Plan { bus, drives, ..plan("x86_64") }).join(" ");
            assert!(line.contains(&format!("file=d,{expected} ")), "{line}");
        }
    }

    #[test]
    fn opens_a_window() {
        for (arch, devices) in [
            ("x86_64", "-serial stdio -display gtk -device VGA"),
            ("aarch64", "-device virtio-gpu-pci -device virtio-keyboard-pci"),
            ("s390x", "-device virtio-gpu-ccw -device virtio-keyboard-ccw"),
        ] {
            let line = build(&Plan { window: Some("gtk"), ..plan(arch) }).join(" ");
            assert!(line.contains(devices), "{line}");
            assert!(!line.contains("-nographic"), "{line}");
        }
    }

    #[test]
    fn tells_what_a_bus_has_no_room_for() {
        let disks = |arch, bus: &str, count| {
            let bus = BUSES.iter().find(|known| known.name == bus).unwrap();
            let drives = vec![Drive::new(Path::new("d"), "raw"); count];
            surplus(&Plan { bus, drives, ..plan(arch) })
        };
        for (arch, bus, count, expected) in [
            ("x86_64", "virtio", 20, 0),
            ("x86_64", "sata", 7, 1),
            ("x86_64", "usb", 9, 1),
            ("x86_64", "ide", 4, 0),
            ("aarch64", "ide", 1, 1),
            ("s390x", "nvme", 1, 1),
            ("s390x", "scsi", 9, 0),
        ] {
            assert_eq!(disks(arch, bus, count), expected, "{arch} {bus}");
        }
    }

    #[test]
    fn emulates_several_cpus_on_one_thread() {
        let mut plan = plan("x86_64");
        plan.cpus = 2;
        plan.console = Console::Background("/s/console.log".into());
        plan.shares = vec!["/s/virtiofs0".into()];
        let line = build(&plan).join(" ");
        assert!(line.contains("-accel tcg,thread=single -cpu max -smp 2"), "{line}");
        let background = "-serial file:/s/console.log -daemonize -display none";
        assert!(line.contains(background), "{line}");
        assert!(line.ends_with("vhost-user-fs-pci,chardev=share0,tag=virtiofs0"), "{line}");
    }
}
