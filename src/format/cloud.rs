//! `aws` and `gcp`: disks as these clouds import them.
//!
//! AWS takes a raw disk. Google Compute Engine's "Manually import boot disks"
//! asks for `disk.raw` of whole GiB in a tar archive under gzip.

use std::io::Write;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Format, Output, disk, loader};
use crate::boot::Firmware;
use crate::env::EPOCH;
use crate::fs::tar;
use crate::system::System;
use crate::tree::Content;

pub(super) const AWS: Format = Format {
    name: "aws",
    about: "a raw disk for AWS",
    files: &[".raw"],
    single: false,
    loaders: loader::DISK,
    write: aws,
};

pub(super) const GCP: Format = Format {
    name: "gcp",
    about: "a raw disk in a tar archive for Google Cloud",
    files: &[".img.tar.gz"],
    single: false,
    loaders: loader::DISK,
    write: gcp,
};

/// What a disk for Google Cloud is filled up to, in bytes.
const GIB: u64 = 1 << 30;

fn aws(system: &System, output: &mut Output<'_>) -> Result<()> {
    let disk = disk::plan(system, output, Firmware::Both, None)?;
    output.image(".raw", &disk.image)
}

fn gcp(system: &System, output: &mut Output<'_>) -> Result<()> {
    let disk = disk::plan_in(system, output, Firmware::Both, None, GIB)?;
    // An archive's header is about a file that is known: it is made first.
    let file = output.store.temporary()?;
    disk.image.write_file(file.as_file())?;
    let disk = Content::of_file(file.reopen().context("opening the disk")?)?;
    output.file(".img.tar.gz", |out| {
        let mut gzip = GzEncoder::new(out, Compression::fast());
        tar::write_file("disk.raw", EPOCH, &disk, &mut gzip)?;
        tar::finish(&mut gzip)?;
        gzip.finish().context("finishing gzip")?.flush().context("writing the archive")
    })
}
