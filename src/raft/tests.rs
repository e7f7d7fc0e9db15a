use super::*;
pub(super) fn ms(ms: u64) -> Now {
    Now { monotonic_ns: ms * NS_PER_MS, wall_ms: ms as i64 }
}
pub(super) fn follower(_epochs: &[(i32, i64)]) -> Raft {
    unimplemented!()
}
