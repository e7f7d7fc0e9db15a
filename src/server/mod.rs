//! Wiring. (contract)
pub mod cli;
pub mod control;
pub mod logging;
