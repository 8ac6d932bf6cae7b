//! CPU time and memory of the server's processes, as the kernel counts them. Reads `/proc` only.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

use crate::Error;

/// CPU time that processes have used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cpu {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, earlier: Cpu) -> Cpu {
        Cpu { user: self.user.saturating_sub(earlier.user), system: self.system.saturating_sub(earlier.system) }
    }
}

/// What processes used up to now, all threads and all processes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Cpu,
    pub(crate) rss_bytes: u64,
}

/// The server and the load generator at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// `None` if the server's processes are not known.
    pub(crate) server: Option<Usage>,
    pub(crate) client: Usage,
}

impl Sample {
    /// Looks at the server's processes and at this one.
    pub(crate) fn take(server_pids: &[u32]) -> Result<Sample, Error> {
        let server = if server_pids.is_empty() { None } else { Some(usage(server_pids)?) };
        Ok(Sample { server, client: look("self")? })
    }
}

/// The most memory that a process ever had.
pub(crate) fn peak_rss_bytes(pid: u32) -> Result<u64, Error> {
    let status = read(&pid.to_string(), "status")?;
    parse_kib(&status, "VmHWM:").ok_or_else(|| Error::ProcessFormat(pid.to_string()))
}

/// From now on counts the most memory of a process anew.
pub(crate) fn forget_peak(pid: u32) -> Result<(), Error> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").map_err(|source| Error::Process { path, source })
}

/// Bytes that a process made the disk read.
pub(crate) fn disk_read_bytes(pid: u32) -> Result<u64, Error> {
    let io = read(&pid.to_string(), "io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("read_bytes:"));
    line.and_then(|bytes| bytes.trim().parse().ok()).ok_or_else(|| Error::ProcessFormat(pid.to_string()))
}

fn usage(pids: &[u32]) -> Result<Usage, Error> {
    let mut sum = Usage::default();
    for pid in pids {
        let one = look(&pid.to_string())?;
        sum.cpu.user += one.cpu.user;
        sum.cpu.system += one.cpu.system;
        sum.rss_bytes += one.rss_bytes;
    }
    Ok(sum)
}

fn look(pid: &str) -> Result<Usage, Error> {
    let cpu = parse_stat(&read(pid, "stat")?, rustix::param::clock_ticks_per_second());
    let rss_bytes = parse_kib(&read(pid, "status")?, "VmRSS:");
    match (cpu, rss_bytes) {
        (Some(cpu), Some(rss_bytes)) => Ok(Usage { cpu, rss_bytes }),
        _ => Err(Error::ProcessFormat(pid.to_owned())),
    }
}

fn read(pid: &str, file: &str) -> Result<String, Error> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).map_err(|source| Error::Process { path, source })
}

/// Fields 14 and 15 of `/proc/<pid>/stat`. Field 2 is the name in parentheses, which may hold anything.
fn parse_stat(stat: &str, ticks_per_second: u64) -> Option<Cpu> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let duration = |ticks: u64| Duration::from_nanos(ticks * (1_000_000_000 / ticks_per_second));
    Some(Cpu { user: duration(ticks()?), system: duration(ticks()?) })
}

/// A line of `/proc/<pid>/status` that the kernel writes in units of 1024 bytes.
fn parse_kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests;
