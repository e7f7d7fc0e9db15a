//! libFuzzer calls `snapshots` of the library.

#![no_main]

#[global_allocator]
static ALLOCATOR: kraft_fuzz::Counting = kraft_fuzz::Counting;

libfuzzer_sys::fuzz_target!(|data: &[u8]| kraft_fuzz::snapshots(data));
