//! The rows, and what they make of systems and disks.

use std::io::Write;
use std::process::Command;

use super::*;
use crate::format::find;
use crate::fs::Extents;
use crate::oci::Platform;

#[test]
fn refuses_machines_that_a_cloud_lacks() {
    let told = VULTR.console(&Platform::linux("arm64")).unwrap_err().to_string();
    assert_eq!(told, "expected amd64, which Vultr has, got arm64");
    assert_eq!(AZURE.console(&Platform::linux("arm64")).unwrap(), "ttyAMA0");
    assert_eq!(AWS.console(&Platform::linux("arm64")).unwrap(), "ttyS0");
}

#[test]
fn every_row_is_a_format_of_one_file() {
    for cloud in CLOUDS {
        let format = find(cloud.name).unwrap();
        assert_eq!((format.files.len(), format.about), (1, cloud.about), "{}", cloud.name);
        assert!(cloud.unit.is_multiple_of(512) && cloud.about.contains(cloud.title));
        assert!(cloud.most.is_none_or(|(most, _)| cloud.least < most), "{}", cloud.name);
    }
}

#[test]
fn takes_disks_that_a_cloud_takes() {
    let told = |cloud: &Cloud, len: u64, sector: u32| {
        let disk = Disk { image: Extents::zeros(len), id: Guid::derive(b"", ""), sector };
        cloud.check_disk(&disk).map_err(|error| error.to_string())
    };
    let refused = |cloud, len, told_as: &str| {
        let error: String = told(cloud, len, 512).unwrap_err();
        assert!(error.contains(told_as), "{error}");
    };
    for (cloud, most) in [(&AWS, 16 * TIB - 512), (&AZURE, 1023 * GIB), (&SCALEWAY, 1000 * GB)] {
        assert_eq!(told(cloud, most, 512), Ok(()));
    }
    refused(&AWS, 16 * TIB, "less than 16 TiB, which AWS takes");
    refused(&AZURE, 1024 * GIB, "at most 1023 GiB");
    refused(&DIGITALOCEAN, 100 * GB, "less than 100 GB");
    refused(&ORACLE, 401 * GB, "at most 400 GB");
    refused(&SCALEWAY, 1000 * GB + 512, "at most 1 TB");
    let error = told(&GCP, GIB, 4096).unwrap_err();
    assert_eq!(error, "expected sectors of 512 bytes, which Google Cloud's disks have, got 4096");
}

#[test]
fn writes_archives_that_gnu_tar_reads() {
    // The latter is more than an octal number of the header can say.
    for (len, packed) in [(3 << 20, true), (9 << 30, false)] {
        let mut disk = Extents::zeros(len);
        disk.put_bytes(0, vec![7; 5000]);
        let archive = archive(&disk).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        if packed {
            gzip::write(&archive, DEFLATE, None, &mut file).unwrap();
            file.flush().unwrap();
        } else {
            archive.write_file(file.as_file()).unwrap();
        }
        let listed = Command::new("tar").arg("tvf").arg(file.path()).output().unwrap();
        let told = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(told.contains(&len.to_string()) && told.contains("disk.raw"), "{told}");
    }
}
