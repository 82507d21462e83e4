//! How much memory a process takes and took, and how much the documentation allows a route.

use std::{fs, io};

/// A mebibyte.
pub const MIB: u64 = 1 << 20;

/// What `/proc/PID/status` says of a process's memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident now (`VmRSS`).
    pub now: u64,
    /// Resident at most, since it began (`VmHWM`).
    pub peak: u64,
}

/// The bound of docs/running-as-a-service.md ("Memory") for one route in the daemon, on one broker.
#[derive(Clone, Copy, Debug)]
pub struct Formula {
    /// The route's `memory`.
    pub budget: u64,
    /// Bytes of a message's key and value.
    pub message: u64,
    /// Messages in queues at most: 20,000, or `in_flight` if that is more.
    pub queued: u64,
    /// Partitions of a compressed topic; 0 where it is not.
    pub compressed: u64,
}

// === impl Memory ===

impl Memory {
    /// Of a process that lives.
    ///
    /// # Errors
    /// When it has ended.
    pub fn of(pid: u32) -> io::Result<Self> {
        let path = format!("/proc/{pid}/status");
        let text = fs::read_to_string(&path)?;
        let kib = |name: &str| -> io::Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
            let number = number.and_then(|number| number.parse::<u64>().ok());
            number.ok_or_else(|| io::Error::other(format!("{path} has no {name}")))
        };
        Ok(Self {
            now: kib("VmRSS")? * 1024,
            peak: kib("VmHWM")? * 1024,
        })
    }
}

// === impl Formula ===

impl Formula {
    /// Bytes that the route may add to a daemon that has nothing to digest.
    pub fn bytes(&self) -> u64 {
        let read_ahead = 32 * MIB;
        let each = 330 * (read_ahead / self.message.max(1));
        self.budget
            + self.budget / 4
            + 100 * self.queued
            + read_ahead
            + each
            + 16 * MIB
            + self.compressed * MIB
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_this_process_is_more_than_nothing_and_its_peak_no_less() {
        let memory = Memory::of(std::process::id()).expect("this process lives");
        assert!(memory.now > MIB && memory.peak >= memory.now, "{memory:?}");
    }

    #[test]
    fn the_formula_says_of_small_messages_what_the_documentation_does() {
        let formula = Formula {
            budget: 64 * MIB,
            message: 100,
            queued: 20_000,
            compressed: 0,
        };
        let read_ahead = formula.bytes() - 64 * MIB - 16 * MIB - 2_000_000 - 16 * MIB;
        assert!((130 * MIB..=145 * MIB).contains(&read_ahead), "{read_ahead}");
    }
}
