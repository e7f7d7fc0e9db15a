//! Off the replica core: HTTP, the 5 s line on stdout, interval logs, the table at stop. (contract)
use crate::config::Config;
use crate::replica::{Status, stages::Stages};

/// Started before any executor; its threads are never pinned. Calls from the replica core never block.
#[derive(Clone)]
pub struct Control {}
impl Control {
    /// Binds the HTTP listener (config error if it cannot), opens `latency-*.hlog` in `config.log_dir`.
    pub fn start(_config: &Config) -> Result<Control, String> {
        unimplemented!()
    }
    /// At most every 50 ms, and at once on a role change. Skipped when the reader holds the lock.
    pub fn publish_status(&self, _status: Status) {
        unimplemented!()
    }
    /// About every second, and at the end: histograms since the last call.
    pub fn publish_stages(&self, _stages: Stages) {
        unimplemented!()
    }
    /// (connections open, refused, closed for bad input) from the network side.
    pub fn connections(&self, _open: usize) {
        unimplemented!()
    }
    /// Write the last interval, print the table to stdout, close the files. Called on the main thread after all executors ended.
    pub fn finish(self) {
        unimplemented!()
    }
}
