//! The log against a simulated disk: random cycles with crashes, every torn and every rotten byte of a small log,
//! scripts, and single behaviours.

mod aging;
mod behaviours;
mod blocks;
mod cycles;
mod disk;
pub(super) mod harness;
mod install;
mod missing_files;
mod positions;
mod scripts;
mod start;
mod summaries;
mod torn;
