//! `moby run`'s flags with real guests: what a guest says that it was given is
//! compared with what was asked for. Guests of a few bytes are in `src/run`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may, and says what it skips")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::guest::{Guest, build_as, in_order, packaged, turn};

/// Builds a system that reads its metadata, runs a script as root, and goes down.
fn build(script: &str, folder: &Path) -> PathBuf {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("pkg");
    let packages = packages.display();
    let indented = script.trim().replace('\n', "\n        ");
    let manifest = format!(
        r#"
kernel:
  image: "@pkg:{packages}/kernel"
  cmdline: "console=ttyS0 quiet"
init:
  - "@pkg:{packages}/init"
  - "@pkg:{packages}/runc"
onboot:
  - name: metadata
    image: "@pkg:{packages}/metadata"
  - name: probe
    image: "deb:busybox-static"
    capabilities: [all]
    pid: host
    net: host
    devices:
      - {{path: all, type: b}}
    binds: ["/dev:/dev", "/run:/run", "/sys:/sys"]
    command:
      - /usr/bin/busybox
      - sh
      - -c
      - |
        set -e
        b=/usr/bin/busybox
        {indented}
        $b kill -USR2 1
"#
    );
    let path = folder.join("probe.yml");
    fs::write(&path, manifest).unwrap();
    build_as(&path, folder, &[]);
    folder.join("probe")
}

const ALL: &str = r#"
echo data: $($b cat /run/config/userdata), from $($b cat /run/config/provider)
echo folder: $($b cat /run/config/a/b)
echo cpus: $($b nproc)
echo memory: $(($($b awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024))
echo disks: $($b cat /sys/block/vda/size /sys/block/vdb/size)
echo uuid: $($b cat /sys/class/dmi/id/product_uuid)
echo balloons: $($b grep -l 0x1002 /sys/bus/pci/devices/*/device | $b wc -l)
echo networks: $($b ls /sys/class/net)
$b mkdir -p /run/host
$b mount -t virtiofs virtiofs0 /run/host
echo shared: $($b cat /run/host/hello)
echo from the guest > /run/host/answer
$b umount /run/host
echo 42 > /run/moby/exit
"#;

#[test]
fn the_guest_is_given_what_was_asked_for() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("hello"), "from the host").unwrap();
    let shares = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"];
    let shares = shares.iter().any(|path| Path::new(path).exists());
    let script = match shares {
        true => ALL.to_owned(),
        false => {
            eprintln!("skipped: virtiofsd is not installed");
            ALL.lines().filter(|line| !line.contains("/run/host")).collect::<Vec<_>>().join("\n")
        }
    };
    let image = build(&script, folder.path());
    let data = folder.path().join("data.json");
    fs::write(&data, r#"{"a":{"entries":{"b":{"content":"c"}}}}"#).unwrap();
    let data = data.display().to_string();
    let extra = format!("file={},size=3M", folder.path().join("extra").display());
    let mut options = vec!["--data-file", &data, "--disk", "size=64M,format=qcow2"];
    options.extend(["--disk", &extra, "--cpus", "2", "--mem", "400", "--networking", "none"]);
    options.extend(["--device", "virtio-balloon-pci", "--kernel"]);
    options.extend(["--uuid", "12345678-1234-4321-8888-1234567890ab"]);
    let folder_shared = shared.display().to_string();
    if shares {
        options.extend(["--virtiofs", &folder_shared]);
    }
    let (code, said) = Guest::start(&image, &options).end();
    let expected = [
        r#"data: {"a":{"entries":{"b":{"content":"c"}}}}, from cdrom"#,
        "folder: c",
        "cpus: 2",
        "memory: 3",
        "disks: 131072 6144",
        "uuid: 12345678-1234-4321-8888-1234567890ab",
        "balloons: 1",
        "networks: lo",
    ];
    in_order(&said, &expected);
    if shares {
        in_order(&said, &["shared: from the host"]);
        assert_eq!(fs::read_to_string(shared.join("answer")).unwrap(), "from the guest\n");
    }
    assert_eq!(code, Some(42), "{said}");
    assert_eq!(&fs::read(folder.path().join("probe-state/disk.img")).unwrap()[..4], b"QFI\xfb");
}

/// How long a guest in the background may take to say what it has to.
const PATIENCE: Duration = Duration::from_secs(240);

/// Waits until a file holds `text`, and returns all of it.
fn comes(file: &Path, text: &str) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let said = String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
        if said.contains(text) {
            return said;
        }
        assert!(Instant::now() < end, "{} never held `{text}`:\n{said}", file.display());
        thread::sleep(Duration::from_millis(100));
    }
}

/// Ends the process when dropped, whatever became of the test.
struct Killed(String);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = Command::new("kill").arg(&self.0).stderr(Stdio::null()).status();
    }
}

#[test]
fn a_guest_goes_on_in_the_background() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = "echo data: $($b cat /run/config/userdata)\necho waiting\n$b sleep 1000000";
    let image = build(script, folder.path());
    let started = packaged()
        .args(["run", "--accel", "tcg", "--detached", "--data", "a text", "qemu"])
        .arg(&image)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&started.stderr).into_owned();
    assert!(started.status.success(), "{told}");
    let pid = String::from_utf8(started.stdout).unwrap().trim().to_owned();
    let _killed = Killed(pid.clone());
    let state = folder.path().join("probe-state");
    assert!(told.contains(&format!("kill {pid}")), "{told}");
    assert!(told.contains(&state.join("console.log").display().to_string()), "{told}");
    assert_eq!(fs::read_to_string(state.join("qemu.pid")).unwrap().trim(), pid);
    let said = comes(&state.join("console.log"), "waiting");
    assert!(said.contains("data: a text"), "{said}");
    assert!(Path::new("/proc").join(&pid).exists(), "{said}");
}

/// Makes a bridge with a tap in a network of its own, allows the bridge in an
/// `/etc` of its own, and runs what follows. `$1` is a folder for the latter.
const NETWORK: &str = r#"
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay none -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc
mkdir -p /etc/qemu
echo allow br0 > /etc/qemu/bridge.conf
ip link set lo up
ip link add br0 type bridge
ip address add 10.77.0.1/24 dev br0
ip link set br0 up
ip tuntap add dev tap0 mode tap
ip link set tap0 master br0 up
shift
exec "$@"
"#;

/// Runs the command behind it in such a network.
fn in_network(place: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-mn", "sh", "-c", NETWORK, "sh"]).arg(place);
    command
}

/// Says whether this host lets a test make networks.
fn makes_networks(place: &Path) -> bool {
    let done = in_network(place).arg("true").stderr(Stdio::null()).status();
    let can = done.is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: this host lets nobody make a bridge and a tap here");
    }
    can
}

#[test]
fn a_guest_reaches_its_host_over_a_tap_and_over_a_bridge() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("etc");
    fs::create_dir(&place).unwrap();
    if !makes_networks(&place) {
        return;
    }
    let script = "$b ip address add 10.77.0.2/24 dev eth0\n$b ip link set eth0 up\n\
        $b ping -c 1 -w 60 10.77.0.1\necho reached";
    let image = build(script, folder.path());
    for network in ["tap,tap0", "bridge,br0"] {
        let options = ["--networking", network];
        let (_, said) = Guest::start_by(in_network(&place), &image, &options).end();
        in_order(&said, &["1 packets received", "reached"]);
    }
}
