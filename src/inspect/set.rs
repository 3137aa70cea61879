//! A kernel and what belongs to it, each a file of its own: `NAME-kernel`,
//! `NAME-cmdline`, `NAME-initrd.img` or a root, as builds write them.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};

use super::span::Span;
use super::{Image, Start, volume};
use crate::error::WithHint;

/// Endings of the names of roots, in the order of preference.
const ROOTS: [&str; 4] = ["-squashfs.img", "-erofs.img", "-ext4.img", ".iso"];
/// The longest command line that is read, in bytes.
const CMDLINE_MAX: usize = 64 << 10;

/// Looks at the files of a prefix.
pub(super) fn of_prefix(prefix: &Path) -> Result<Image> {
    let mut image = Image::default();
    let Some(kernel) = image.open(prefix, "-kernel")? else {
        return Err(anyhow!("neither {0} nor {0}-kernel exists", prefix.display()))
            .hint(|| "build it first: `moby build FILE.yml`".to_owned());
    };
    let mut start = Start::new("direct", &[shown(prefix, "-kernel")]);
    start.kernel = Some(image.add_kernel(shown(prefix, "-kernel"), &kernel)?);
    if let Some(span) = image.open(prefix, "-cmdline")? {
        let text = span.bytes(0, CMDLINE_MAX)?;
        start.cmdline = Some(String::from_utf8_lossy(&text).trim().to_owned());
    }
    let whole = image.open(prefix, "-initrd.img")?;
    let mut root = None;
    if whole.is_none() {
        for ending in ROOTS {
            if let Some(span) = image.open(prefix, ending)? {
                root = Some((ending, span));
                break;
            }
        }
    }
    let (ending, initrd) = match whole {
        Some(span) => ("-initrd.img", Some(span)),
        None => ("-root-initrd.img", image.open(prefix, "-root-initrd.img")?),
    };
    image.kinds.push(match root {
        Some(_) => "kernel and root".to_owned(),
        None => "kernel and initrd".to_owned(),
    });
    if let Some(span) = initrd {
        start.initrd = Some(image.add_initrd(shown(prefix, ending), &span)?);
    }
    if let Some((ending, span)) = root {
        let system = volume::system(&span)?;
        let system = system.with_context(|| format!("expected a file system in *{ending}"))?;
        image.add_volume("root".to_owned(), system, &span)?;
    }
    image.starts.push(start);
    Ok(image)
}

impl Image {
    /// Opens a file of a prefix, where there is one.
    fn open(&mut self, prefix: &Path, ending: &str) -> Result<Option<Span>> {
        let path = beside(prefix, ending);
        if !path.is_file() {
            return Ok(None);
        }
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let meta = file.metadata().with_context(|| format!("measuring {}", path.display()))?;
        self.size += meta.len();
        self.allocated += meta.blocks() * 512;
        Span::of_file(Arc::new(file)).map(Some)
    }
}

fn beside(prefix: &Path, ending: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn shown(prefix: &Path, ending: &str) -> String {
    let path = beside(prefix, ending);
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
