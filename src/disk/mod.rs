//! Partition tables and virtual disks: bytes to bytes, aware of holes.
