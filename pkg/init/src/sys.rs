//! The system calls that rustix does not wrap safely. All unsafe code of init is here.

#![allow(unsafe_code, reason = "signal handlers and kill(-1) exist only in C's interface")]

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
