//! Wiring. (contract)
pub mod control;
