//! Guests of a few bytes, started for real.

#![allow(clippy::print_stderr)]

use std::cell::RefCell;
use std::path::Path;

use super::*;

/// Says a text on the serial port, byte by byte, and then does as `after` says.
fn guest(text: &str, after: &[u8]) -> Vec<u8> {
    // mov dx, 0x3f8
    let mut code = vec![0xba, 0xf8, 0x03];
    for byte in text.bytes() {
        // mov al, byte; out dx, al
        code.extend([0xb0, byte, 0xee]);
    }
    code.extend(after);
    assert!(code.len() <= 440, "a boot sector has no room for `{text}`");
    code.resize(512, 0);
    code[510..].copy_from_slice(&[0x55, 0xaa]);
    // SeaBIOS does not start a disk smaller than a cylinder.
    code.resize(1 << 20, 0);
    code
}

/// mov dx, 0x604; mov ax, 0x2000; out dx, ax: the machine's power is switched off.
const POWER_OFF: &[u8] = &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xeb, 0xfe];
/// cli; hlt; jmp back.
const HANG: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];

fn options(path: &Path, watch: Watch) -> Options {
    Options {
        path: path.to_owned(),
        hints: Hints::default(),
        arch: Some("x86_64".into()),
        accel: Some("tcg".into()),
        cpus: 1,
        memory: Some(64),
        disks: Vec::new(),
        bus: &arguments::BUSES[0],
        network: Network::None,
        published: Vec::new(),
        data: None,
        devices: Vec::new(),
        usb: false,
        shares: Vec::new(),
        virtiofsd: None,
        cmdline: None,
        detached: false,
        gui: false,
        state: None,
        uuid: None,
        firmware: None,
        qemu: None,
        watch,
    }
}

/// Runs a guest; returns how it ended, what it said and what was told.
fn started(
    sector: &[u8],
    watch: Watch,
    change: impl Fn(&mut Options),
) -> Option<(End, String, String)> {
    let host = Host {
        search: crate::env::var("PATH").unwrap_or_default(),
        arch: "amd64".into(),
        cache: PathBuf::new(),
        desktop: false,
    };
    if process::find("qemu-system-x86_64", &host.search).is_none() {
        eprintln!("skipped: qemu-system-x86_64 is not installed");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest.img");
    std::fs::write(&path, sector).unwrap();
    let mut options = options(&path, watch);
    change(&mut options);
    let mut out = Vec::new();
    let told = RefCell::new(String::new());
    let tell = |line: &str| told.borrow_mut().push_str(line);
    let outcome = run(&options, &host, &mut out, &tell).unwrap();
    let Outcome::Ended { end, .. } = outcome else { panic!("{outcome:?}") };
    Some((end, String::from_utf8_lossy(&out).into_owned(), told.into_inner()))
}

fn minute() -> Watch {
    Watch { timeout: Some(Duration::from_secs(60)), ..Watch::default() }
}

#[test]
fn ends_when_the_guest_ends() {
    let Some((end, out, told)) = started(&guest("HELLO", POWER_OFF), minute(), |_| ()) else {
        return;
    };
    assert_eq!((end, told.as_str()), (End::Exited(None), ""));
    assert!(out.contains("HELLO"), "{out}");
}

#[test]
fn ends_when_the_text_is_seen() {
    let watch = Watch { until: Some("guest is up".into()), ..minute() };
    let Some((end, out, _)) = started(&guest("the guest is up\n", HANG), watch, |_| ()) else {
        return;
    };
    assert_eq!(end, End::Seen);
    assert!(out.contains("the guest is up"), "{out}");
}

#[test]
fn ends_when_the_time_is_over() {
    let watch = Watch {
        until: Some("never".into()),
        timeout: Some(Duration::from_millis(500)),
        ..Watch::default()
    };
    let Some((end, ..)) = started(&guest("HELLO", HANG), watch, |_| ()) else { return };
    assert_eq!(end, End::TimedOut);
}

#[test]
fn knows_a_panic() {
    let text = "Kernel panic - not syncing: no init";
    for after in [POWER_OFF, HANG] {
        let Some((end, ..)) = started(&guest(text, after), minute(), |_| ()) else { return };
        assert_eq!(end, End::Panicked);
    }
}

#[test]
fn boots_from_every_bus_beside_other_disks_and_a_cd() {
    for bus in arguments::BUSES {
        let watch = Watch { until: Some("HELLO".into()), ..minute() };
        let ended = started(&guest("HELLO", HANG), watch, |options| {
            options.bus = bus;
            options.disks = vec!["size=1M".parse().unwrap(), "size=2M".parse().unwrap()];
            options.data = Some(b"data".to_vec());
            options.network = Network::User;
        });
        let Some((end, out, told)) = ended else { return };
        assert_eq!(end, End::Seen, "{}: {out} {told}", bus.name);
    }
}

#[test]
fn tells_what_qemu_says() {
    let search = crate::env::var("PATH").unwrap_or_default();
    if process::find("qemu-system-x86_64", &search).is_none() {
        eprintln!("skipped: qemu-system-x86_64 is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest.img");
    std::fs::write(&path, guest("HELLO", HANG)).unwrap();
    let mut options = options(&path, minute());
    options.devices = vec!["no-such-device".into()];
    let host = Host { search, arch: "amd64".into(), cache: PathBuf::new(), desktop: false };
    let error = run(&options, &host, &mut Vec::new(), &|_| ()).unwrap_err();
    assert!(error.to_string().contains("no-such-device"), "{error:#}");
    options.gui = true;
    let error = run(&options, &host, &mut Vec::new(), &|_| ()).unwrap_err();
    assert!(crate::error::hint(&error).unwrap().contains("leave out --gui"), "{error:#}");
    options.qemu = None;
    let nowhere = Host { search: "/nowhere".into(), ..host };
    let error = run(&options, &nowhere, &mut Vec::new(), &|_| ()).unwrap_err();
    assert!(crate::error::hint(&error).unwrap().contains("qemu-system-x86"), "{error:#}");
}

#[test]
fn ends_where_the_accelerator_breaks() {
    // QEMU stops the guest then, and goes on itself.
    let script = "echo 'KVM internal error. Suberror: 1' >&2; echo EAX=0 >&2; exec sleep 600";
    let program = Program::new("/bin/sh", vec!["-c".into(), script.into()]);
    let error =
        session::run(&program, Ports::open().unwrap(), &minute(), &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "QEMU cannot go on: KVM internal error. Suberror: 1");
}

#[test]
fn gives_each_machine_its_own_identity() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, again) = (identity(one.path()).unwrap(), identity(one.path()).unwrap());
    assert_eq!(first, again);
    assert_ne!(first, identity(other.path()).unwrap());
    assert_eq!((first.0.len(), first.1.len()), (36, 17));
}
