//! The clock: the hardware's, where the kernel did not take it over by itself.

use std::fs;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use super::Done;
use crate::error::{Error, Result};
use crate::world::World;

/// The kernel's drivers give the time as seconds, so that no ioctl is needed.
const RTC: &str = "/sys/class/rtc/rtc0";

pub(super) fn run(_: &mut World) -> Result<Done> {
    let Ok(seconds) = fs::read_to_string(format!("{RTC}/since_epoch")) else {
        return Ok(Done::Nothing);
    };
    let seconds: i64 = seconds
        .trim()
        .parse()
        .map_err(|error| Error::text("reading", format_args!("{RTC}/since_epoch"), error))?;
    // "1" when the kernel set the system's clock by this one.
    let taken = fs::read_to_string(format!("{RTC}/hctosys")).is_ok_and(|text| text.trim() == "1");
    if taken || (clock_gettime(ClockId::Realtime).tv_sec - seconds).abs() < 2 {
        return Ok(Done::Nothing);
    }
    clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: 0 })
        .map_err(|errno| Error::new("setting", "the clock", errno))?;
    Ok(Done::Yes)
}
