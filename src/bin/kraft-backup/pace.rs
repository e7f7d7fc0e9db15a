//! How fast is copied, and when it is time to say how far.

use std::time::{Duration, Instant};

const LINE_EVERY: Duration = Duration::from_secs(10);

pub(crate) struct Pace {
    bytes_per_second: Option<f64>,
    began: Instant,
    bytes: u64,
    last_line: Instant,
}

impl Pace {
    pub(crate) fn new(mib_per_second: Option<u64>) -> Pace {
        let bytes_per_second = mib_per_second.map(|mib| mib as f64 * 1024.0 * 1024.0);
        Pace { bytes_per_second, began: Instant::now(), bytes: 0, last_line: Instant::now() }
    }

    /// So many more are copied: until it is time for the next ones.
    pub(crate) fn wait(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if let Some(rate) = self.bytes_per_second {
            let due = Duration::from_secs_f64(self.bytes as f64 / rate);
            std::thread::sleep(due.saturating_sub(self.began.elapsed()));
        }
    }

    /// It is long since the last line.
    pub(crate) fn is_line_due(&mut self) -> bool {
        let is_due = self.last_line.elapsed() >= LINE_EVERY;
        if is_due {
            self.last_line = Instant::now();
        }
        is_due
    }
}
