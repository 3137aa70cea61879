//! Paths inside an image, kernel arguments and the names of virtio-serial ports.
//!
//! The `/containers` tree and the log files are LinuxKit's, so that images made for one
//! init run under the other.

/// Bundles that run one after the other before the services: `/containers/onboot/000-NAME`.
pub const ONBOOT: &str = "/containers/onboot";
/// Bundles that run one after the other when the system goes down.
pub const ONSHUTDOWN: &str = "/containers/onshutdown";
/// Bundles of the services: `/containers/services/NAME`.
pub const SERVICES: &str = "/containers/services";
/// Volumes: `/containers/volumes/NAME/{lower,tmp,merged}`.
pub const VOLUMES: &str = "/containers/volumes";

/// The OCI runtime configuration in a bundle.
pub const CONFIG_JSON: &str = "config.json";
/// The part of a bundle that init prepares: [`crate::Runtime`] as JSON.
pub const RUNTIME_JSON: &str = "runtime.json";
/// The root file system in a bundle.
pub const ROOTFS: &str = "rootfs";

/// What init keeps while the system runs.
pub const RUN: &str = "/run/moby";
/// The exit code of the guest, as a decimal number; any container that binds it may write it.
pub const EXIT: &str = "/run/moby/exit";
/// The boot report, see [`crate::report::BootReport`].
pub const REPORT: &str = "/run/moby/boot.json";
/// Where the service manager takes commands.
pub const SERVICE_SOCKET: &str = "/run/moby/service.sock";

/// Marks of services that are done with, a file by the service's name: a manager that is
/// started anew leaves them so.
pub const SERVICE_MARKS: &str = "/run/moby/services";

/// Logs of onboot containers: `/run/log/onboot/onboot.000-NAME.log` (LinuxKit's name).
pub const ONBOOT_LOG: &str = "/run/log/onboot";
/// Logs of onshutdown containers.
pub const ONSHUTDOWN_LOG: &str = "/run/log/shutdown";
/// Logs of services and of containerd: `/var/log/NAME.log`.
pub const LOG: &str = "/var/log";

/// The socket of containerd.
pub const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// The containerd namespace of the services, LinuxKit's name.
pub const CONTAINERD_NAMESPACE: &str = "services.linuxkit";
/// Where runc keeps the state of the services; ours alone, lest another containerd with the
/// same namespace and ids clears it away.
pub const SERVICE_RUNC_ROOT: &str = "/run/moby/runc";
/// Options for containerd: `cliopts`, `stdout`, `stderr` (LinuxKit's file).
pub const CONTAINERD_OPTIONS: &str = "/etc/containerd/runtime-config.toml";

/// The folder of the modules of kernel release VER: `/lib/modules/VER`.
pub const MODULES: &str = "/lib/modules";
/// The index of modules in that folder, see [`crate::modules`].
pub const MODULE_INDEX: &str = "moby.modules";
/// Lists of modules to load at boot, one name a line.
pub const MODULES_LOAD: &str = "/etc/modules-load.d";

/// The virtio-serial port that takes the guest's exit code, one line `{"exit":N}`.
pub const EXIT_PORT: &str = "moby.exit";
/// The virtio-serial port that takes the boot report, one line of JSON.
pub const REPORT_PORT: &str = "moby.report";

/// Kernel argument of LinuxKit: `0` mounts cgroup v1.
pub const ARG_CGROUP: &str = "linuxkit.unified_cgroup_hierarchy";
/// Kernel argument of LinuxKit: `1` runs runc with `--debug`.
pub const ARG_RUNC_DEBUG: &str = "linuxkit.runc_debug";
/// Kernel argument of LinuxKit: `1` gives onboot containers the console instead of a log.
pub const ARG_RUNC_CONSOLE: &str = "linuxkit.runc_console";
/// Kernel argument: comma-separated names of modules to load.
pub const ARG_MODULES: &str = "modules";
/// Kernel argument: `continue` (as LinuxKit, the default), `poweroff` or `shell` when an
/// onboot container fails.
pub const ARG_ONFAILURE: &str = "moby.onfailure";
/// Kernel argument: the host name, unless `/etc/hostname` has one.
pub const ARG_HOSTNAME: &str = "hostname";
/// Kernel argument: the partition that holds `/var`, `PARTUUID=...`.
pub const ARG_DATA: &str = "moby.data";
/// Kernel argument, alone: that partition grows to the end of its disk.
pub const ARG_GROW: &str = "moby.grow";
