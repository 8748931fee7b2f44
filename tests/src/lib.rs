//! End to end: real processes, brokers, faults. As a library: ledger, load, peers.
