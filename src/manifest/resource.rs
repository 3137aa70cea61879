//! Limits on what a container uses: the `resources` of an image.
//!
//! Follows OCI Runtime Specification 1.2, "Linux Container Configuration",
//! as far as LinuxKit's schema takes it in.

use serde_json::{Map, Value, json};

use super::image::DeviceKind;
use super::node::{Kind, Meaning, Node};
use super::part::{Decoder, Part, record};
use super::place::Spanned;

record! {
    /// Limits on what a container uses.
    Resources as "resources" {
        /// Rules on devices, the later above the former.
        devices: Option<Vec<DeviceRule>> = "devices",
        /// Memory.
        memory: Option<Memory> = "memory",
        /// CPU time and which CPUs.
        cpu: Option<Cpu> = "cpu",
        /// Processes and threads.
        pids: Option<Pids> = "pids",
        /// Block devices.
        block_io: Option<BlockIo> = "blockio",
        /// Huge pages.
        hugepage_limits: Option<Vec<HugepageLimit>> = "hugepageLimits",
        /// Network traffic.
        network: Option<Network> = "network",
    }

    /// A rule that allows or forbids devices.
    DeviceRule as "deviceRule" {
        /// Allows, or else forbids.
        allow: bool = "allow",
        /// Type of device; absent for all.
        kind: Option<Spanned<DeviceKind>> = "type",
        /// Major number; absent for all.
        major: Option<i64> = "major",
        /// Minor number; absent for all.
        minor: Option<i64> = "minor",
        /// What it is about: `r` reading, `w` writing, `m` making nodes.
        access: Option<String> = "access",
    }

    /// Limits on memory, in bytes; -1 is no limit.
    Memory as "memory" {
        /// Memory.
        limit: Option<i64> = "limit",
        /// Memory to keep to when the host is short of it.
        reservation: Option<i64> = "reservation",
        /// Memory and swap together.
        swap: Option<i64> = "swap",
        /// Kernel memory.
        kernel: Option<i64> = "kernel",
        /// Kernel memory for TCP buffers.
        kernel_tcp: Option<i64> = "kernelTCP",
        /// How readily memory is swapped out, 0 to 100.
        swappiness: Option<u64> = "swappiness",
        /// Makes processes wait for memory instead of ending one of them.
        disable_oom_killer: Option<bool> = "disableOOMKiller",
    }

    /// Limits on CPU time.
    Cpu as "cpu" {
        /// Weight against other containers.
        shares: Option<u64> = "shares",
        /// CPU time in each period, in microseconds.
        quota: Option<i64> = "quota",
        /// The period, in microseconds.
        period: Option<u64> = "period",
        /// Real-time CPU time in each period, in microseconds.
        realtime_runtime: Option<i64> = "realtimeRuntime",
        /// The real-time period, in microseconds.
        realtime_period: Option<u64> = "realtimePeriod",
        /// CPUs to run on, such as `0-1,3`.
        cpus: Option<String> = "cpus",
        /// Memory nodes to use, such as `0`.
        mems: Option<String> = "mems",
    }

    /// A limit on processes and threads.
    Pids as "pids" {
        /// How many; 0 or less is no limit.
        limit: Option<i64> = "limit",
    }

    /// Limits on the use of block devices.
    BlockIo as "blockio" {
        /// Weight against other containers.
        weight: Option<u16> = "weight",
        /// Weight of the tasks against the child groups.
        leaf_weight: Option<u16> = "leafWeight",
        /// Weights by device.
        weight_device: Option<Vec<WeightDevice>> = "weightDevice",
        /// Bytes read in a second, by device.
        throttle_read_bps: Option<Vec<ThrottleDevice>> = "throttleReadBpsDevice",
        /// Bytes written in a second, by device.
        throttle_write_bps: Option<Vec<ThrottleDevice>> = "throttleWriteBpsDevice",
        /// Reads in a second, by device.
        throttle_read_iops: Option<Vec<ThrottleDevice>> = "throttleReadIOPSDevice",
        /// Writes in a second, by device.
        throttle_write_iops: Option<Vec<ThrottleDevice>> = "throttleWriteIOPSDevice",
    }

    /// The weight of a block device.
    WeightDevice as "weightDevice" {
        /// Major number.
        major: Option<i64> = "major",
        /// Minor number.
        minor: Option<i64> = "minor",
        /// Weight against other containers.
        weight: Option<u16> = "weight",
        /// Weight of the tasks against the child groups.
        leaf_weight: Option<u16> = "leafWeight",
    }

    /// The rate that a block device is held to.
    ThrottleDevice as "throttleDevice" {
        /// Major number.
        major: Option<i64> = "major",
        /// Minor number.
        minor: Option<i64> = "minor",
        /// Bytes, or operations, in a second.
        rate: Option<u64> = "rate",
    }

    /// A limit on huge pages of a size.
    HugepageLimit as "hugepageLimit" {
        /// Size of the pages, such as `2MB`.
        page_size: Option<PageSize> = "pageSize",
        /// Limit in bytes.
        limit: Option<u64> = "limit",
    }

    /// Marks of a container's network traffic.
    Network as "network" {
        /// Class that packets are marked with.
        class_id: Option<u32> = "classID",
        /// Priority by interface.
        priorities: Option<Vec<InterfacePriority>> = "priorities",
    }

    /// The priority of the traffic on an interface.
    InterfacePriority as "interfacePriority" {
        /// Name of the interface.
        name: Option<String> = "name",
        /// Priority.
        priority: Option<u32> = "priority",
    }
}

/// A size of huge pages: text, though LinuxKit's schema wants a number here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageSize(pub String);

impl Part for PageSize {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.kind {
            Kind::Scalar(scalar) if matches!(scalar.meaning, Meaning::Int(_) | Meaning::Text) => {
                Some(Self(scalar.text.clone()))
            }
            _ => decoder.mismatch(node, "a size such as 2MB", ""),
        }
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({"type": ["string", "integer"]})
    }

    fn encode(&self) -> Value {
        self.0.as_str().into()
    }
}
