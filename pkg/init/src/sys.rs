//! The system calls that rustix does not wrap safely. All unsafe code of init is here.

#![allow(unsafe_code, reason = "signal handlers, kill(-1) and ioctls exist only in C's interface")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};

/// The write end of the signal pipe; -1 before [`catch`].
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// Notes a signal's number in the pipe. Only async-signal-safe calls: one write(2), with
/// errno put back for the code it interrupts.
extern "C" fn note(signal: libc::c_int) {
    let byte = u8::try_from(signal).unwrap_or(0);
    // SAFETY: write(2) reads one byte of a live local; the descriptor stays open for the
    // whole life of the process. errno is this thread's own.
    unsafe {
        let errno = *libc::__errno_location();
        // A full pipe means that signals wait there already, so a lost byte changes nothing.
        libc::write(PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1);
        *libc::__errno_location() = errno;
    }
}

/// Turns `signals` into bytes that can be read from the descriptor given back.
///
/// Handlers rather than a blocked mask and signalfd(2): a handler is forgotten at exec, a
/// mask would be inherited by every program that init starts.
pub fn catch(signals: &[i32]) -> io::Result<OwnedFd> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    PIPE.store(write.as_raw_fd(), Ordering::Relaxed);
    // The handler keeps using it.
    std::mem::forget(write);
    for signal in signals {
        // SAFETY: sigaction(2) reads a fully initialised structure (all zero is an empty
        // mask); `note` has the type that the kernel calls without SA_SIGINFO.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(*signal, &raw const action, std::ptr::null_mut())
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(read)
}

/// Sends `signal` to every process but PID 1.
pub fn kill_all(signal: i32) {
    // SAFETY: kill(2) touches no memory. Its only failure here, no process left, is what
    // the caller wants.
    unsafe {
        libc::kill(-1, signal);
    }
}

/// LOOP_CTL_GET_FREE of linux/loop.h.
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
/// LOOP_CONFIGURE of linux/loop.h; since Linux 5.8.
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
/// LO_FLAGS_READ_ONLY of linux/loop.h.
const LOOP_READ_ONLY: u32 = 1;

/// `struct loop_config` of linux/loop.h, the fields of its `loop_info64` in their places.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    device: [u64; 3],
    offset: u64,
    size: u64,
    number: [u32; 3],
    flags: u32,
    names: [u8; 64 + 64 + 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// Gives the number of a loop device that nobody uses, making one if need be.
pub fn free_loop(control: &File) -> io::Result<i32> {
    // SAFETY: the request takes no argument and touches no memory.
    check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })
}

/// Makes a loop device show `length` bytes of `backing` from `offset` on, to be read only.
pub fn set_loop(device: &File, backing: &File, offset: u64, length: u64) -> io::Result<()> {
    let config = LoopConfig {
        fd: u32::try_from(backing.as_raw_fd()).expect("a descriptor is not negative"),
        block_size: 0,
        device: [0; 3],
        offset,
        size: length,
        number: [0; 3],
        flags: LOOP_READ_ONLY,
        names: [0; 64 + 64 + 32],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: the kernel reads one `struct loop_config`, whose layout `LoopConfig` has.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) }).map(drop)
}

/// BLKPG of linux/blkpg.h, and what it is to do.
const BLKPG: libc::c_ulong = 0x1269;
const BLKPG_RESIZE_PARTITION: i32 = 3;

/// `struct blkpg_partition` of linux/blkpg.h; lengths in bytes.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 64 + 64],
}

/// `struct blkpg_ioctl_arg` of linux/blkpg.h.
#[repr(C)]
struct BlkpgArgument {
    operation: i32,
    flags: i32,
    length: i32,
    data: *const BlkpgPartition,
}

/// Tells the kernel where a partition lies that it uses already, in bytes.
pub fn resize_partition(disk: &File, number: i32, start: i64, length: i64) -> io::Result<()> {
    let partition = BlkpgPartition { start, length, number, names: [0; 128] };
    let argument = BlkpgArgument {
        operation: BLKPG_RESIZE_PARTITION,
        flags: 0,
        length: i32::try_from(size_of::<BlkpgPartition>()).expect("it is small"),
        data: &raw const partition,
    };
    // SAFETY: the kernel reads both structures, which are alive and have its layout.
    check(unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG, &raw const argument) }).map(drop)
}

/// EXT4_IOC_RESIZE_FS of linux/ext4.h, `_IOW('f', 16, __u64)`.
const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;

/// Grows the mounted ext4 file system of a folder to so many blocks.
pub fn resize_ext4(folder: &File, blocks: u64) -> io::Result<()> {
    // SAFETY: the kernel reads one number of 64 bits.
    check(unsafe { libc::ioctl(folder.as_raw_fd(), EXT4_IOC_RESIZE_FS, &raw const blocks) })
        .map(drop)
}

fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
