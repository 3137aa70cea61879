//! A small system, of PID 1, runc and one container: it tells of its root and
//! of its /var, writes to both, and ends.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};

/// Writes its manifest, with this `disk:`, as `NAME.yml`.
pub(crate) fn manifest(folder: &Path, name: &str, disk: &str) -> PathBuf {
    manifest_of(folder, name, disk, r#"image: "@pkg:PKG/kernel""#)
}

/// Makes a package of a kernel that has no modules, and writes the manifest of
/// the system with it.
pub(crate) fn without_modules(folder: &Path, name: &str, disk: &str, kernel: &Path) -> PathBuf {
    let package = folder.join("kernel");
    fs::create_dir_all(&package).unwrap();
    fs::copy(kernel, package.join("kernel")).unwrap();
    let recipe = "image: bare\nbuilder:\n  files: [{path: /kernel, source: kernel}]\n";
    fs::write(package.join("build.yml"), recipe).unwrap();
    manifest_of(folder, name, disk, &format!(r#"image: "@pkg:{}", tar: none"#, package.display()))
}

fn manifest_of(folder: &Path, name: &str, disk: &str, kernel: &str) -> PathBuf {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("pkg");
    let text = format!(
        r#"
kernel: {{{kernel}, cmdline: "console=ttyS0 quiet mitigations=off no_timer_check"}}
init: ["@pkg:PKG/init", "@pkg:PKG/runc"]
disk: {disk}
onboot:
  - name: look
    image: deb:busybox-static
    pid: host
    capabilities: [all]
    binds: ["/var:/var", "/etc:/host/etc"]
    command:
      - /usr/bin/busybox
      - sh
      - -c
      - |
        export PATH=/usr/bin
        busybox awk '$2 == "/" || $2 == "/var" {{ print "mounted", $2, $3, substr($4, 1, 2) }}' \
            /proc/1/mounts
        echo "/var has $(busybox df -m /var | busybox awk 'END {{ print $2 }}') MiB"
        echo boot >> /var/boots
        busybox sync
        echo "/var saw $(busybox grep -c boot /var/boots) boots, $(busybox cat /var/kept)"
        busybox touch /host/etc/new || echo "nothing writes to the root"
        # Off; who is still here then is asked to end.
        trap "" TERM
        kill -USR2 1
files:
  - {{path: var/kept, contents: "kept from the image"}}
"#
    );
    let path = folder.join(format!("{name}.yml"));
    fs::write(&path, text.replace("PKG", &packages.display().to_string())).unwrap();
    path
}

/// The size of /var in MiB, as the console has it.
pub(crate) fn size_of_var(said: &str) -> u32 {
    let size = said.split("/var has ").nth(1).and_then(|rest| rest.split(' ').next());
    size.and_then(|size| size.parse().ok()).unwrap_or_else(|| panic!("expected a size\n{said}"))
}
