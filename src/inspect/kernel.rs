//! Kernels: for which machine, and of what release.
//!
//! Follows the kernel's "The Linux/x86 Boot Protocol" and "Booting AArch64
//! Linux". Kernels of other machines are told by the text that they print.

use std::io::Read;

use anyhow::{Context, Result};
use serde::Serialize;

use super::initrd;
use super::span::{Span, Unpacked};
use crate::oci::Digest;

/// What every kernel says of itself when it starts.
const BANNER: &[u8] = b"Linux version ";
/// How much of a kernel is searched for that, in bytes.
const SEARCHED: u64 = 64 << 20;
/// The longest release, in bytes.
const RELEASE_MAX: usize = 64;

/// A kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Where it was found.
    pub place: String,
    /// Its size in bytes.
    pub size: u64,
    /// The machine that it is for, as container images name it.
    pub machine: Option<&'static str>,
    /// Its release, such as `6.12.0`.
    pub release: Option<String>,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// Looks at a kernel, which may be packed.
pub(super) fn read(place: &str, packed: &Span) -> Result<Kernel> {
    let plain = match initrd::compression(&packed.bytes(0, 6)?) {
        Some(with) => {
            let mut plain = Unpacked::new(packed.len())?;
            // Behind a kernel may stand what is none of it.
            let unpacked = initrd::unpack(packed, 0, with, &mut plain);
            unpacked.map(|_| plain.finish()).unwrap_or_else(|_| Ok(packed.clone()))?
        }
        None => packed.clone(),
    };
    let (machine, release) = told(&plain)?;
    let digest = packed.image().digest().context("reading a kernel")?;
    Ok(Kernel { place: place.to_owned(), size: packed.len(), machine, release, digest })
}

/// Tells the machine and the release of a kernel.
fn told(span: &Span) -> Result<(Option<&'static str>, Option<String>)> {
    let head = span.bytes(0, 0x300)?;
    let machine = machine(&head);
    let release = match machine {
        Some("amd64") => of_pc(&head, span)?,
        _ => searched(span)?,
    };
    Ok((machine, release))
}

/// Tells the machine by how a kernel begins.
pub(super) fn machine(head: &[u8]) -> Option<&'static str> {
    const MARKS: [(usize, &[u8], &str); 3] =
        [(0x202, b"HdrS", "amd64"), (0x38, b"ARM\x64", "arm64"), (0x38, b"RSC\x05", "riscv64")];
    let marked = |at: usize, mark: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(mark));
    MARKS.iter().find(|(at, mark, _)| marked(*at, mark)).map(|(.., machine)| *machine)
}

/// "kernel_version": a pointer to the version string, less 0x200.
fn of_pc(head: &[u8], span: &Span) -> Result<Option<String>> {
    let Some(pointer) = head.get(0x20e..0x210) else { return Ok(None) };
    let pointer = u64::from(u16::from_le_bytes([pointer[0], pointer[1]]));
    if pointer == 0 {
        return Ok(None);
    }
    Ok(first_word(&span.bytes(pointer + 0x200, RELEASE_MAX)?))
}

fn first_word(text: &[u8]) -> Option<String> {
    let end = text.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(text.len());
    (end > 0).then(|| String::from_utf8_lossy(&text[..end]).into_owned())
}

fn searched(span: &Span) -> Result<Option<String>> {
    let mut reader = span.reader(0).take(SEARCHED);
    let mut held = Vec::new();
    loop {
        let before = held.len();
        (&mut reader).take(1 << 20).read_to_end(&mut held).context("reading a kernel")?;
        let found = held.windows(BANNER.len()).position(|window| window == BANNER);
        if let Some(at) = found.map(|at| at + BANNER.len()) {
            (&mut reader).take(RELEASE_MAX as u64).read_to_end(&mut held)?;
            let release = first_word(&held[at..held.len().min(at + RELEASE_MAX)]);
            // The text stands there once more, to be filled in.
            if release.as_ref().is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit())) {
                return Ok(release);
            }
            held.drain(..at);
            continue;
        }
        if held.len() == before {
            return Ok(None);
        }
        // What was met at the very end may go on.
        held.drain(..held.len().saturating_sub(BANNER.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Extents;

    fn kernel(bytes: Vec<u8>) -> Kernel {
        read("kernel", &Span::of_image(&Extents::of_bytes(bytes), 0).unwrap()).unwrap()
    }

    #[test]
    fn tells_machine_and_release() {
        let mut pc = vec![0; 0x4000];
        pc[0x202..0x206].copy_from_slice(b"HdrS");
        pc[0x20e..0x210].copy_from_slice(&0x1000_u16.to_le_bytes());
        pc[0x1200..0x1210].copy_from_slice(b"6.12.0-moby (a@b");
        let found = kernel(pc.clone());
        assert_eq!((found.machine, found.release.as_deref()), (Some("amd64"), Some("6.12.0-moby")));
        pc[0x20e..0x210].fill(0xff);
        assert_eq!(kernel(pc).release, None);
        let mut arm = vec![0; (1 << 20) + 100];
        arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
        arm[100..116].copy_from_slice(b"Linux version %s");
        let at = (1 << 20) - 7;
        arm[at..at + 26].copy_from_slice(b"Linux version 6.1.2 (c@d) ");
        let found = kernel(arm);
        assert_eq!((found.machine, found.release.as_deref()), (Some("arm64"), Some("6.1.2")));
        assert_eq!(kernel(b"Linux version 9".to_vec()).release.as_deref(), Some("9"));
        assert_eq!(kernel(Vec::new()).release, None);
    }
}
