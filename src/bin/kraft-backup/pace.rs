//! How fast a run reads, whatever it reads for, and when it is time to say how far it is.

use std::cell::Cell;
use std::time::{Duration, Instant};

use kraft::server::output::note_line;

const LINE_EVERY: Duration = Duration::from_secs(10);
/// What was not read in time may be read later, but no more than this long's worth: no burst follows a wait.
const CREDIT: Duration = Duration::from_millis(100);

pub(crate) struct Pace {
    bytes_per_second: Option<f64>,
    line_every: Duration,
    /// Before it nothing more is read.
    due: Cell<Instant>,
    last_line: Cell<Instant>,
}

impl Pace {
    /// `None`: as fast as it goes.
    pub(crate) fn new(mib_per_second: Option<u64>) -> Pace {
        let bytes_per_second = mib_per_second.map(|mib| mib as f64 * 1024.0 * 1024.0);
        let now = Instant::now();
        Pace { bytes_per_second, line_every: LINE_EVERY, due: Cell::new(now), last_line: Cell::new(now) }
    }

    /// So many more are read: until it is time for the next ones.
    pub(crate) fn wait(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_second else { return };
        let now = Instant::now();
        let from = now.checked_sub(CREDIT).map_or(now, |earliest| self.due.get().max(earliest));
        self.due.set(from + Duration::from_secs_f64(bytes as f64 / rate));
        std::thread::sleep(self.due.get().saturating_duration_since(now));
    }

    /// Where it is long since the last line.
    pub(crate) fn maybe_say(&self, line: impl FnOnce() -> String) {
        if self.last_line.get().elapsed() >= self.line_every {
            self.last_line.set(Instant::now());
            note_line!("{}", line());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_burst_follows_a_wait() {
        let pace = Pace::new(Some(1));
        pace.due.set(Instant::now() - Duration::from_secs(3600));
        let began = Instant::now();
        pace.wait(1 << 19);
        assert!(
            began.elapsed() >= Duration::from_millis(350),
            "half a second's worth: {:?}",
            began.elapsed()
        );
    }

    #[test]
    fn a_line_is_said_once_in_a_while() {
        let said = Cell::new(0);
        let say = |pace: &Pace| {
            pace.maybe_say(|| {
                said.set(said.get() + 1);
                String::from("note: a line of a test")
            })
        };
        let mut pace = Pace::new(None);
        say(&pace);
        assert_eq!(said.get(), 0, "not at once");
        pace.line_every = Duration::ZERO;
        say(&pace);
        assert_eq!(said.get(), 1);
        pace.line_every = LINE_EVERY;
        say(&pace);
        assert_eq!(said.get(), 1, "not again so soon");
    }
}
