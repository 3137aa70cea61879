//! What LinuxKit runs images on, and what moby does about each.

use anyhow::{Result, anyhow};

use crate::error::WithHint;

/// The one that moby runs itself.
pub const QEMU: &str = "qemu";

/// LinuxKit's other backends, and the way to go instead.
const OTHERS: &[(&str, &str)] = &[
    ("aws", "build with `--format aws` and upload the image with `moby push aws`"),
    ("azure", "build with `--format azure` and upload the image with `moby push azure`"),
    ("equinixmetal", "build with `--format kernel+initrd` and boot it by iPXE"),
    ("gcp", "build with `--format gcp` and upload the image with `moby push gcp`"),
    ("hyperkit", "run it with `moby run qemu --accel hvf`"),
    ("hyperv", "build with `--format vhdx` and start it in Hyper-V"),
    (
        "openstack",
        "build with `--format openstack` and upload the image with `moby push openstack`",
    ),
    ("packet", "build with `--format kernel+initrd` and boot it by iPXE"),
    ("scaleway", "build with `--format scaleway` and upload the image with `moby push scaleway`"),
    ("vbox", "build with `--format ova` and import it into VirtualBox"),
    ("vcenter", "build with `--format ova` and import it into vCenter"),
    ("virtualization", "run it with `moby run qemu --accel hvf`"),
    ("vmware", "build with `--format vmdk` and start it in VMware"),
];

/// Tells the arguments of `moby run [BACKEND] PATH` apart and returns the path.
pub fn path(arguments: &[String]) -> Result<&str> {
    let backend = |name: &str| OTHERS.iter().find(|(known, _)| *known == name);
    match arguments {
        [path] if path == QEMU => Err(anyhow!("no image was named"))
            .hint(|| "name a file, or the prefix of NAME-kernel and NAME-initrd.img".into()),
        // A file may bear the name of a backend.
        [path] if backend(path).is_some() && !std::path::Path::new(path).exists() => {
            refuse(path, backend(path))
        }
        [path] => Ok(path),
        [name, path] if name == QEMU => Ok(path),
        [name, _] => refuse(name, backend(name)),
        _ => Err(anyhow!("expected [qemu] PATH, got {} arguments", arguments.len())),
    }
}

fn refuse<'a>(name: &str, known: Option<&(&str, &str)>) -> Result<&'a str> {
    match known {
        Some((_, way)) => Err(anyhow!("moby runs images on {QEMU} only, not on {name}"))
            .hint(|| (*way).to_owned()),
        None => Err(anyhow!("unknown backend `{name}`: expected {QEMU}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_backend_and_path_apart() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (text, expected) in [("a.iso", "a.iso"), ("qemu a.iso", "a.iso"), ("qemu qemu", "qemu")]
        {
            assert_eq!(path(&words(text)).unwrap(), expected);
        }
        for (text, part) in
            [("vbox a", "vbox"), ("gcp", "gcp"), ("qemu", "named"), ("zen a", "unknown")]
        {
            let error = path(&words(text)).unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
        let error = path(&words("vbox a")).unwrap_err();
        assert!(crate::error::hint(&error).unwrap().contains("ova"));
    }
}
