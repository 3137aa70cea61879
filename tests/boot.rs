//! Builds the examples and boots them in QEMU under emulation.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::cloud::{Clouds, OPENSTACK};
use support::guest::{Guest, build, build_as, example, free_port, in_order, page, turn};
use support::have;

/// Boots an example whose web page holds `text`.
fn serves(name: &str, text: &str) {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = build(name, folder.path());
    let port = free_port();
    let mut guest = Guest::start(&image, &["--publish", &format!("127.0.0.1:{port}:80")]);
    let answer = guest.until("the page", |_| page(port));
    assert!(answer.contains("200 OK"), "{answer}");
    assert!(answer.contains(text), "{answer}");
}

#[test]
fn minimal_serves_a_page() {
    serves("minimal", "Served by a system that moby assembled");
}

#[test]
fn volumes_show_what_another_container_wrote() {
    serves("volumes", "written by another container");
}

#[test]
fn a_static_address_is_reached() {
    serves("static-ip", "Served by a system that moby assembled");
}

#[test]
fn services_fail_restart_wait_and_stop() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = build("services", folder.path());
    let report = folder.path().join("boot.json");
    let option = format!("--boot-report={}", report.display());
    let (code, said) = Guest::start(&image, &[&option]).end();
    // The exit code of an onboot container that failed.
    assert_eq!(code, Some(1), "{said}");
    in_order(&said, &["000-broken: failed with exit code 3", "| I cannot find my disk"]);
    in_order(&said, &["restless: ended with exit code 0, starting it again in 500ms"]);
    in_order(&said, &["restless: ended", "again in 500ms", "restless: ended", "again in 1s"]);
    in_order(&said, &["stopping services", "the last words of this system", "Power down"]);
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert!(report.to_string().contains("application"), "{report}");
    // The table is in the order of the starts.
    in_order(&said, &["service    database", "service    application", "booted in"]);
    // The container, and not the step that ran it, too.
    in_order(&said, &["booted in", " ms, 1 failed"]);
}

#[test]
fn a_disk_outlives_its_boots() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = build("swap", folder.path());
    for boot in ["boot 1 of this disk", "boot 2 of this disk"] {
        let mut guest = Guest::start(&image, &["--disk", "size=512M"]);
        guest.shows("swap: /var/external/swap, 64 MiB");
        guest.shows(boot);
        guest.shows("root@");
        guest.types("wc -l < /proc/swaps; poweroff");
        let (code, said) = guest.end();
        assert_eq!(code, Some(0), "{said}");
        // A heading and the file.
        in_order(&said, &["wc -l", "\n2\r"]);
    }
}

#[test]
fn data_grows_with_the_disk_and_stays() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    build_as(&example("disk"), folder.path(), &["--format", "raw"]);
    let image = folder.path().join("disk.img");
    OpenOptions::new().write(true).open(&image).unwrap().set_len(1 << 30).unwrap();
    for boot in ["boot 1 of this disk", "boot 2 of this disk"] {
        let port = free_port();
        let mut guest = Guest::start(&image, &["--publish", &format!("127.0.0.1:{port}:80")]);
        let answer = guest.until("the page", |_| page(port));
        assert!(answer.contains("Written when the image was built"), "{answer}");
        assert!(answer.contains(boot), "{answer}");
        // The file system, not only the partition.
        let said = guest.said();
        let size = said.split("/var has ").nth(1).and_then(|rest| rest.split(' ').next());
        assert!(
            size.and_then(|size| size.parse().ok()).is_some_and(|mib: u32| mib > 700),
            "{said}"
        );
        // Like a power failure: the guest is not told.
    }
    if have("sgdisk") {
        let told = Command::new("sgdisk").arg("-v").arg(&image).output().unwrap();
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.contains("No problems found"), "{told}");
    }
}

#[test]
fn the_console_has_a_shell() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = build("getty", folder.path());
    let mut guest = Guest::start(&image, &[]);
    guest.shows("root@getty:~#");
    guest.types("echo answer=$((6*7))");
    guest.shows("answer=42");
    guest.types("poweroff");
    let (code, said) = guest.end();
    assert_eq!(code, Some(0), "{said}");
}

/// A key of SSH, made in a folder; its public half is beside it.
fn ssh_key(folder: &Path) -> PathBuf {
    let key = folder.join("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(made.success());
    key
}

/// Runs a command in a guest that lets the owner of a key in.
fn ssh(key: &Path, port: u16, guest: &Guest, command: &str) -> String {
    let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"];
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-p", &port.to_string()]).arg("-i").arg(key);
    for option in options {
        ssh.args(["-o", option]);
    }
    ssh.args(["-o", "ConnectTimeout=30", "root@127.0.0.1", command]).stdin(Stdio::null());
    let answer = ssh.output().unwrap();
    let errors = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(answer.status.success(), "{errors}\n{}", guest.said());
    String::from_utf8_lossy(&answer.stdout).trim().to_owned()
}

#[test]
fn ssh_runs_a_command() {
    let Some(_turn) = turn() else { return };
    if !have("ssh") || !have("ssh-keygen") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let key = ssh_key(folder.path());
    // The example takes `sshd.pub` of the working folder.
    fs::rename(key.with_extension("pub"), folder.path().join("sshd.pub")).unwrap();
    let image = build("sshd", folder.path());
    let port = free_port();
    let mut guest = Guest::start(&image, &["--publish", &format!("127.0.0.1:{port}:22")]);
    guest.shows("moby: booted in");
    assert_eq!(ssh(&key, port, &guest, "echo $((6*7))"), "42");
}

/// Every provider but the one of the example, each with a folder of its own in
/// place of /run; `openstack` finds a config drive, `http` is the same without.
fn other_clouds() -> String {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("pkg/metadata");
    let names = [
        ("azure", "azure"),
        ("digitalocean", "digitalocean"),
        ("gcp", "gcp"),
        ("hetzner", "hetzner"),
        ("openstack", "openstack"),
        ("http", "openstack"),
        ("oracle", "oracle"),
        ("scaleway", "scaleway"),
        ("vultr", "vultr"),
    ];
    let container = |(name, provider): &(&str, &str)| {
        let devices = if *name == "http" { "" } else { ", /dev:/dev" };
        format!(
            "  - name: at-{name}\n    image: \"@pkg:{}\"\n    command: [/usr/bin/metadata, {provider}]\n    \
             binds: [\"/run/{name}:/run\"{devices}]\n    runtime: {{mkdir: [/run/{name}/config]}}\n",
            package.display()
        )
    };
    format!("onboot:\n{}", names.iter().map(container).collect::<String>())
}

/// Writes a disc of one file.
fn disc(folder: &Path, label: &str, path: &str, text: &str) -> PathBuf {
    let tree = folder.join(label);
    let file = tree.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
    let disc = folder.join(format!("{label}.iso"));
    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-as", "mkisofs", "-quiet", "-R", "-V", label, "-o"]).arg(&disc).arg(&tree);
    let told = xorriso.output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    disc
}

/// Writes a QEMU that looks like a machine of AWS, with the services of all
/// clouds at their addresses, and what goes over its network in a file.
fn cloudy(folder: &Path, port: u16) -> (String, PathBuf) {
    let azure = disc(folder, "AZURE", "ovf-env.xml", OVF_ENV);
    let path = folder.join("qemu");
    let wire = folder.join("wire.pcap");
    let services: String = ["169.254.169.254", "169.254.42.42", "168.63.129.16"]
        .iter()
        .map(|address| format!(",guestfwd=tcp:{address}:80-cmd:busybox nc 127.0.0.1 {port}"))
        .collect();
    let text = format!(
        "#!/bin/sh\nfor word; do\n  shift\n  case $word in\n  user,id=net0*) word=\"$word,\
         net=168.0.0.0/7,host=168.0.0.2,dns=168.0.0.3,dhcpstart=168.0.0.15{services}\" ;;\n  esac\n  \
         set -- \"$@\" \"$word\"\ndone\nexec qemu-system-x86_64 \"$@\" \
         -smbios type=1,manufacturer='Amazon EC2' -object filter-dump,id=wire,netdev=net0,file={} \
         -drive if=none,id=azure,format=raw,media=cdrom,readonly=on,file={} \
         -device virtio-scsi-pci,id=azure-bus -device scsi-cd,drive=azure,bus=azure-bus.0\n",
        wire.display(),
        azure.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (path.display().to_string(), wire)
}

/// What Azure's disc of the first boot holds.
const OVF_ENV: &str = "<?xml version=\"1.0\"?>
<ns0:Environment xmlns:ns0=\"http://schemas.dmtf.org/ovf/environment/1\">
 <ns1:ProvisioningSection xmlns:ns1=\"http://schemas.microsoft.com/windowsazure\">
  <ns1:LinuxProvisioningConfigurationSet><ns1:HostName>at-azure</ns1:HostName>
   <ns1:CustomData>ZGF0YSBvZiBBenVyZQ==</ns1:CustomData>
  </ns1:LinuxProvisioningConfigurationSet>
 </ns1:ProvisioningSection>
</ns0:Environment>
";

/// The ports from which a guest asked for connections to port 80 of an
/// address, in a file of libpcap's format.
fn ports_to(wire: &Path, address: [u8; 4]) -> Vec<u16> {
    let bytes = fs::read(wire).unwrap();
    let mut rest = &bytes[24..];
    let mut ports = Vec::new();
    while let Some((head, after)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize;
        let Some((packet, after)) = after.split_at_checked(len) else { break };
        rest = after;
        // TCP in IPv4 without options, in Ethernet; SYN alone.
        if packet.len() >= 54
            && packet[12..15] == [8, 0, 0x45]
            && packet[23] == 6
            && packet[30..34] == address
            && packet[36..38] == [0, 80]
            && packet[47] == 2
        {
            ports.push(u16::from_be_bytes([packet[34], packet[35]]));
        }
    }
    ports
}

#[test]
fn clouds_say_who_may_log_in() {
    let Some(_turn) = turn() else { return };
    if !["ssh", "ssh-keygen", "xorriso", "busybox"].iter().all(|program| have(program)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let key = ssh_key(folder.path());
    let clouds = Clouds::start(&fs::read_to_string(key.with_extension("pub")).unwrap());
    let others = folder.path().join("others.yml");
    fs::write(&others, other_clouds()).unwrap();
    let example = example("cloud");
    build_as(&others, folder.path(), &["--name", "clouds", example.to_str().unwrap()]);

    let (qemu, wire) = cloudy(folder.path(), clouds.port);
    let drive = disc(folder.path(), "config-2", "openstack/latest/meta_data.json", OPENSTACK);
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:22");
    let disk = format!("file={}", drive.display());
    let options = ["--qemu", &qemu, "--disk", &disk, "--publish", &publish];
    let mut guest = Guest::start(&folder.path().join("clouds"), &options);
    guest.shows("moby: booted in");
    // Each line of each file behind its name, and who may read the keys.
    let command = "cd /run && grep -r . config */config; hostname; ls -l config/ssh config/app";
    let told = ssh(&key, port, &guest, command);
    let has = |line: &str| assert!(told.lines().any(|it| it == line), "{line}\n{told}");
    for line in FILES.lines() {
        has(line);
    }
    assert!(!told.contains("expireOn\":\"2018"), "{told}");
    // The last one asked.
    has("at-vultr");
    assert_eq!(told.matches("-rw-------").count(), 2, "{told}");

    let ready = clouds.asked("POST", "/machine/?comp=health");
    let [ready] = ready.as_slice() else { panic!("{ready:?}") };
    let parts = ["Incarnation>3<", "ContainerId>7b324f53-983a-43bc<", "InstanceId>fbb84507._vm<"];
    in_order(&ready.body, &parts);
    in_order(&ready.body, &["<State>Ready</State>"]);
    let booted = clouds.asked("PATCH", "/state");
    assert_eq!(booted.len(), 1, "{booted:?}");
    assert_eq!(booted[0].body, r#"{"state_detail":"booted"}"#);
    // For what is root's alone.
    let ports = ports_to(&wire, [169, 254, 42, 42]);
    assert_eq!(ports.iter().filter(|port| **port < 1024).count(), 2, "{ports:?}");
}

/// What is to be below /run, line by line.
const FILES: &str = r##"config/provider:aws
config/hostname:ip-10-0-0-7.ec2.internal
config/instance_id:i-0123456789abcdef0
config/availability_zone:eu-central-1a
config/ssh/authorized_keys:ssh-ed25519 AWS second
config/app/mode:green
azure/config/provider:azure
azure/config/hostname:at-azure
azure/config/instance_id:02aab8a4-74ef-476e-8182-f6d2ba4166a6
azure/config/local_ipv4:10.144.133.132
azure/config/ssh/authorized_keys:ssh-rsa AZURE one
azure/config/userdata:data of Azure
digitalocean/config/hostname:at-digitalocean
digitalocean/config/public_ipv4:104.131.20.105
digitalocean/config/ssh/authorized_keys:ssh-rsa DIGITALOCEAN one
digitalocean/config/userdata:data of DigitalOcean
gcp/config/hostname:at-google.c.project.internal
gcp/config/instance_id:4520031799277581759
gcp/config/instance_type:e2-small
gcp/config/public_ipv4:35.0.0.1
gcp/config/ssh/authorized_keys:ssh-rsa GOOGLE mine
gcp/config/ssh/authorized_keys:ssh-rsa GOOGLE google-ssh {"userName":"new","expireOn":"2099-12-04T20:12:00+0000"}
gcp/config/ssh/authorized_keys:ssh-rsa GOOGLE everybody's
gcp/config/userdata:data of Google
hetzner/config/hostname:at-hetzner
hetzner/config/instance_id:42
hetzner/config/ssh/authorized_keys:ssh-ed25519 HETZNER one
hetzner/config/ssh/authorized_keys:ssh-rsa HETZNER two
hetzner/config/userdata:#cloud-config of Hetzner
openstack/config/hostname:at-openstack
openstack/config/ssh/authorized_keys:ssh-rsa OPENSTACK one
http/config/hostname:at-openstack
http/config/instance_id:d8e02d56-2648-49a3-bf97-6be8f1204f38
http/config/local_ipv4:10.0.0.9
http/config/ssh/authorized_keys:ssh-rsa OPENSTACK one
http/config/userdata:data of OpenStack
oracle/config/hostname:at-oracle
oracle/config/ssh/authorized_keys:ssh-rsa ORACLE one
oracle/config/ssh/authorized_keys:ssh-rsa ORACLE two
oracle/config/userdata:data of Oracle
scaleway/config/hostname:at-scaleway
scaleway/config/public_ip:51.15.0.1
scaleway/config/ssh/authorized_keys:ssh-rsa SCALEWAY one
scaleway/config/userdata:data of Scaleway
scaleway/config/userdata:in two lines
vultr/config/hostname:at-vultr
vultr/config/public_ipv4:192.0.2.2
vultr/config/ssh/authorized_keys:ssh-rsa VULTR one
vultr/config/ssh/authorized_keys:ssh-rsa VULTR two
vultr/config/userdata:data of Vultr"##;
