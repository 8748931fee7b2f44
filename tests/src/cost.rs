//! What a process has cost so far, as the kernel counts it.

use std::fs;

use anyhow::{Context, Result};

/// Clock ticks a second in `/proc`: fixed by the kernel's interface, whatever its own clock.
const TICKS_PER_S: f64 = 100.0;

/// Processor time, memory, bytes written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// User and system time, in seconds.
    pub cpu_s: f64,
    /// Resident memory now, in MB.
    pub rss_mb: f64,
    /// Bytes handed to the disk.
    pub written_bytes: u64,
}

impl Cost {
    /// Of a running process.
    ///
    /// # Errors
    /// When `/proc` does not say.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).with_context(|| path)
        };
        Ok(Self {
            cpu_s: cpu_s(&read("stat")?).context("stat")?,
            rss_mb: figure(&read("status")?, "VmRSS:").context("VmRSS")? / 1024.0,
            written_bytes: written(&read("io")?).context("write_bytes")?,
        })
    }

    /// What has been added since `before`; memory is what it is now.
    #[must_use]
    pub fn since(self, before: &Self) -> Self {
        Self {
            cpu_s: self.cpu_s - before.cpu_s,
            rss_mb: self.rss_mb,
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
        }
    }
}

/// Fields 14 and 15 of `stat`, counted behind the name in brackets, which may hold anything.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_S)
}

fn figure(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn written(io: &str) -> Option<u64> {
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes:"))?;
    line.trim().parse().ok()
}
