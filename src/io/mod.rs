//! The kernel side: sockets, the raw ring, clocks. (contract)
