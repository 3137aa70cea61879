//! OVF: the text that describes a virtual machine of one disk, and the
//! manifest of digests beside it. An OVA is a tar of the text, the manifest
//! and the disk, in this order.
//!
//! Follows "Open Virtualization Format Specification" 1.1 (DSP0243), whose
//! schema (DSP8023) finds nothing amiss, and 2.1 for digests by SHA-256, which
//! VirtualBox takes since 5.0 and ESXi since 6.5.
//!
//! Where the two differ, this keeps to what both read: VirtualBox takes a
//! disk's capacity for bytes, whatever its unit, memory for MiB only by the
//! unit `byte * 2^20`, and, before 7, SATA by no other name than `AHCI`, which
//! VMware knows beside its own and from the hardware of `vmx-10` on.

use std::fmt::Write as _;

use crate::oci::Digest;

/// A virtual machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Name of the disk's file.
    pub disk: String,
    /// Size of that file in bytes.
    pub disk_len: u64,
    /// Size of the disk in bytes.
    pub capacity: u64,
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Whether the firmware is UEFI, else a BIOS.
    pub efi: bool,
    /// What the disk hangs on.
    pub bus: Bus,
    /// The network card by its OVF name, such as `E1000`.
    pub card: &'static str,
}

/// A controller of disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// Serial ATA by AHCI.
    Sata,
    /// IDE, as the PIIX4 has it.
    Ide,
}

/// A hardware item: its type, a name, and what is particular to it.
type Item<'a> = (u32, &'a str, Vec<(&'a str, String)>);

/// Returns the OVF text of a machine.
pub fn text(machine: &Machine) -> String {
    let name = escaped(&machine.name);
    let mut out = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\" \
         xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\" \
         xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData\" \
         xmlns:vmw=\"http://www.vmware.com/schema/ovf\" \
         xmlns:vssd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData\">\n",
    );
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "  <References>\n    <File ovf:href=\"{}\" ovf:id=\"file1\" ovf:size=\"{}\"/>\n  </References>\n\
         \x20 <DiskSection>\n    <Info>Virtual disks</Info>\n\
         \x20   <Disk ovf:capacity=\"{}\" ovf:capacityAllocationUnits=\"byte\" ovf:diskId=\"disk1\" \
         ovf:fileRef=\"file1\" ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized\"/>\n\
         \x20 </DiskSection>\n\
         \x20 <NetworkSection>\n    <Info>Networks</Info>\n\
         \x20   <Network ovf:name=\"nat\"><Description>The network of the machine</Description></Network>\n\
         \x20 </NetworkSection>\n\
         \x20 <VirtualSystem ovf:id=\"{name}\">\n    <Info>A virtual machine</Info>\n    <Name>{name}</Name>\n\
         \x20   <OperatingSystemSection ovf:id=\"101\" vmw:osType=\"otherLinux64Guest\">\n\
         \x20     <Info>Linux</Info>\n    </OperatingSystemSection>\n\
         \x20   <VirtualHardwareSection>\n      <Info>Hardware</Info>\n\
         \x20     <System>\n        <vssd:ElementName>Virtual hardware</vssd:ElementName>\n\
         \x20       <vssd:InstanceID>0</vssd:InstanceID>\n\
         \x20       <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>\n\
         \x20       <vssd:VirtualSystemType>vmx-10</vssd:VirtualSystemType>\n      </System>\n",
        escaped(&machine.disk),
        machine.disk_len,
        machine.capacity,
    );
    for (index, item) in items(machine).iter().enumerate() {
        push_item(&mut out, index + 1, item);
    }
    if machine.efi {
        out.push_str(
            "      <vmw:Config ovf:required=\"false\" vmw:key=\"firmware\" vmw:value=\"efi\"/>\n",
        );
    }
    out.push_str("    </VirtualHardwareSection>\n  </VirtualSystem>\n</Envelope>\n");
    out
}

/// Returns the manifest: the digest of each file by name.
pub fn manifest(files: &[(&str, Digest)]) -> String {
    files.iter().map(|(name, digest)| format!("SHA256({name})= {}\n", digest.hex())).collect()
}

fn items(machine: &Machine) -> Vec<Item<'static>> {
    vec![
        (3, "Processors", vec![("VirtualQuantity", machine.cpus.to_string())]),
        (
            4,
            "Memory",
            vec![
                ("AllocationUnits", "byte * 2^20".to_owned()),
                ("VirtualQuantity", machine.memory.to_string()),
            ],
        ),
        controller(machine.bus),
        (
            17,
            "Disk",
            vec![
                ("AddressOnParent", "0".to_owned()),
                ("HostResource", "ovf:/disk/disk1".to_owned()),
                // The controller's number.
                ("Parent", "3".to_owned()),
            ],
        ),
        (
            10,
            "Network card",
            vec![
                ("AutomaticAllocation", "true".to_owned()),
                ("Connection", "nat".to_owned()),
                ("ResourceSubType", machine.card.to_owned()),
            ],
        ),
    ]
}

/// Describes a controller by its type of CIM's and its kind.
fn controller(bus: Bus) -> Item<'static> {
    let (kind, name, model) = match bus {
        Bus::Sata => (20, "SATA controller", "AHCI"),
        Bus::Ide => (5, "IDE controller", "PIIX4"),
    };
    (kind, name, vec![("Address", "0".to_owned()), ("ResourceSubType", model.to_owned())])
}

/// Writes an item; its elements stand in the order of their names, as the
/// schema asks.
fn push_item(out: &mut String, number: usize, (kind, name, particular): &Item<'_>) {
    let mut elements: Vec<(&str, String)> = particular.clone();
    elements.push(("ElementName", (*name).to_owned()));
    elements.push(("InstanceID", number.to_string()));
    elements.push(("ResourceType", kind.to_string()));
    elements.sort();
    out.push_str("      <Item>\n");
    for (element, value) in elements {
        // Writing to a string does not fail.
        let _ = writeln!(out, "        <rasd:{element}>{}</rasd:{element}>", escaped(&value));
    }
    out.push_str("      </Item>\n");
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c < ' ' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
