//! What Prometheus' own client libraries say of a process, under their names; from `/proc/self`, `None` where that is not there.

use std::fs;

/// One look at this process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) virtual_bytes: u64,
    pub(super) resident_bytes: u64,
    /// Since the Unix epoch.
    pub(super) start_seconds: f64,
    pub(crate) threads: u64,
    pub(super) open_fds: u64,
    pub(super) fds_max: u64,
}

impl Process {
    pub(crate) fn look() -> Option<Process> {
        // SAFETY: numbers in, numbers out.
        let (ticks, page_bytes) =
            unsafe { (libc::sysconf(libc::_SC_CLK_TCK), libc::sysconf(libc::_SC_PAGESIZE)) };
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let boot_seconds = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        let open_fds = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
        Process::parse(&stat, boot_seconds, ticks as f64, page_bytes as u64, open_fds, fds_max()?)
    }

    fn parse(
        stat: &str,
        boot_seconds: f64,
        ticks: f64,
        page_bytes: u64,
        open_fds: u64,
        fds_max: u64,
    ) -> Option<Process> {
        // The name of the process is in parentheses and may have spaces; the fields behind it are counted from 3 in proc(5).
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Process {
            cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page_bytes,
            start_seconds: boot_seconds + field(22)? as f64 / ticks,
            threads: field(20)?,
            // The directory is open while it is read.
            open_fds: open_fds.saturating_sub(1),
            fds_max,
        })
    }
}

fn fds_max() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid struct to write.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    (failed == 0).then_some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 1000 5000000 300 18446744073709551615";
        let process = Process::parse(stat, 1_000.0, 100.0, 4096, 12, 1024).unwrap();
        assert_eq!((process.cpu_seconds, process.start_seconds), (3.0, 1_010.0));
        assert_eq!((process.virtual_bytes, process.resident_bytes), (5_000_000, 300 * 4096));
        assert_eq!((process.threads, process.open_fds, process.fds_max), (9, 11, 1024));
        assert!(Process::parse("7 (a) S 1", 0.0, 1.0, 1, 1, 1).is_none());
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let process = Process::look().unwrap();
        assert!(process.resident_bytes > 1 << 20 && process.virtual_bytes >= process.resident_bytes);
        assert!(process.open_fds >= 3 && process.fds_max >= process.open_fds && process.threads >= 1);
        assert!(process.start_seconds > 1_600_000_000.0 && process.cpu_seconds >= 0.0);
    }
}
