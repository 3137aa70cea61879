//! Where an image is written, with how much was written.

use std::io::{self, Write};

use crate::store::Out;

/// Counts what is written.
pub(crate) struct Sink<'a> {
    /// Where the image goes.
    pub(crate) out: &'a mut dyn Out,
    /// How many bytes went.
    pub(crate) at: u64,
}

impl Write for Sink<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
